"""The owner is told what other peers see of this node."""

from __future__ import annotations

from trio.testing import MockClock

from dms.network.protocol import PeerInfo
from dms.network.reachability import (
    AddressCheck,
    ObservedAddress,
    PortMapping,
    Reach,
    ReachabilityReport,
    RelayReservation,
)
from dms.node.doctor_payloads import DOCTOR_NETWORK, NetworkReply, NetworkRequest
from dms.node.reachability import NetworkCheck, reply_of
from dms.testing.nodes import FOUR_CORES, Cluster
from dms.types.ids import PeerID

US = "12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3"
A, B, C = map(PeerID, "abc")
ADDRESS = "/ip4/5.6.7.8/tcp/9000"
ANNOUNCED = (f"{ADDRESS}/p2p/{US}",)
DIRECT = PeerInfo(A, ("/ip4/9.9.9.9/tcp/1",), True, (), None)


def levels(reply: NetworkReply) -> dict[str, str]:
    return {finding.about: finding.level for finding in reply.findings}


def test_a_node_that_others_reach_is_well() -> None:
    report = ReachabilityReport(
        Reach.PUBLIC,
        confidence=2,
        announced=ANNOUNCED,
        observed=(ObservedAddress("5.6.7.8", (A, B, C), is_accepted=True),),
        checks=(AddressCheck(ADDRESS, reached_by=(A, B)),),
        has_relay_service=True,
        why="2 peers dialled this node and reached it",
    )
    reply = reply_of(report, (DIRECT,))
    assert reply.summary == "others can reach this node"
    assert set(levels(reply).values()) == {"ok"}
    (address,) = reply.addresses
    assert (address.address, address.told, address.reached_by) == (ADDRESS, True, 2)
    assert reply.seen_as[0].believed


def test_a_node_that_nobody_reaches_is_told_which_port_to_open() -> None:
    report = ReachabilityReport(
        Reach.PRIVATE,
        confidence=3,
        announced=ANNOUNCED,
        checks=(AddressCheck("/ip4/5.6.7.8/tcp/4000", failed_for=(A, B, C), why="no answer"),),
        why="3 peers tried to dial this node and could not",
    )
    reply = reply_of(report, (DIRECT,))
    assert levels(reply)["reach"] == "problem"
    assert "9000/tcp" in reply.findings[0].hint
    assert reply.summary == report.why
    told, guessed = reply.addresses
    assert (told.told, guessed.told) == (True, False)
    assert (guessed.failed_for, guessed.why) == (3, "no answer")


def test_with_a_relay_it_is_no_problem_and_the_limits_are_told() -> None:
    report = ReachabilityReport(
        Reach.PRIVATE,
        confidence=1,
        announced=ANNOUNCED,
        relays=(RelayReservation(B, ("/ip4/9.9.9.9/tcp/1",), 1800.0, 1 << 21, 300),),
        mapping=PortMapping("nat-pmp", 9000, problem="refused"),
        why="1 peer tried to dial this node and could not; others come through 1 relay",
    )
    reply = reply_of(report, (DIRECT, PeerInfo(C, (), False, (), None, is_relayed=True)))
    assert levels(reply) == {"reach": "note", "router": "note", "peers": "note", "relay": "ok"}
    relay = next(finding.text for finding in reply.findings if finding.about == "relay")
    assert "2.1 MB" in relay or "2 MiB" in relay or "2.0 MiB" in relay
    assert "5m 00s" in relay
    assert reply.relays[0].peer == "b"


def test_a_node_without_peers_is_sent_to_the_bootstrap_peers() -> None:
    reply = reply_of(ReachabilityReport(Reach.UNKNOWN, why="no connected peer dials others back to try"), ())
    assert levels(reply)["reach"] == "problem"
    assert "bootstrap" in reply.findings[0].hint


def test_a_node_of_this_machine_only_is_told_so() -> None:
    report = ReachabilityReport(
        Reach.UNKNOWN, announced=(f"/ip4/127.0.0.1/tcp/9000/p2p/{US}",), why="the node listens on this machine only"
    )
    reply = reply_of(report, (DIRECT,))
    assert levels(reply)["reach"] == "note"
    assert "p2p.listen_address" in reply.findings[0].hint


async def test_the_owner_asks_the_peers_of_a_running_node(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice", offers=FOUR_CORES)
    for name in ("bob", "carol", "dave"):
        await cluster.start(name)
    NetworkCheck(alice.node.root.network).register(alice.node.root)
    before = await alice.user.invoke(DOCTOR_NETWORK, NetworkRequest(quick=True), NetworkReply)
    assert (before.ok, before.status) == (True, "unknown")
    reply = await alice.user.invoke(DOCTOR_NETWORK, None, NetworkReply)
    assert (reply.status, reply.confidence) == ("public", 3)
    assert reply.seen_as[0].believed
