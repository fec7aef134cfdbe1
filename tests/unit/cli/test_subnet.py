from __future__ import annotations

from dms.cli.subnet import _row
from dms.subnet.messages import MemberReport
from dms.types.ids import PeerID


def named(peer: str) -> str:
    return f"node-{peer}"


def test_a_machine_is_told_with_its_way_its_round_trip_and_what_passed() -> None:
    report = MemberReport(
        peer=PeerID("b"),
        addresses=("10.1.2.3",),
        names=("db",),
        path="datagram",
        state="open",
        rtt_us=640,
        mtu=1420,
        packets_in=3,
        bytes_in=1500,
        drops={"queue full": 2},
    )
    assert _row(report, named) == (
        "10.1.2.3",
        "db",
        "node-b",
        "datagram open",
        "0.6 ms",
        "1420",
        "1.5 KiB in 3",
        "-",
        "2 queue full",
    )


def test_a_relay_and_its_limit_are_said() -> None:
    error = "relayed: limit of relay r reached, it carries no more for 100 s"
    report = MemberReport(peer=PeerID("b"), relay="r", state="relay limit", error=error)
    assert _row(report, named)[3] == f"relay limit {error}"
    report = MemberReport(peer=PeerID("b"), relay="r", path="relayed", state="open")
    assert _row(report, named)[3] == "relayed by node-r open"


def test_our_own_machine_has_no_way() -> None:
    assert _row(MemberReport(peer=PeerID("a"), is_own=True), named)[3:6] == ("here", "-", "-")
