"""Which address of ours is believed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.libp2p.reach.observed import MAX_REPORTERS, NEEDED, ObservedAddresses
from dms.types.ids import PeerID

OURS, OTHER = "5.6.7.8", "8.8.4.4"
PUBLIC = (Multiaddr("/ip4/9.9.9.9/tcp/9000"),)
PRIVATE = (Multiaddr("/ip4/192.168.1.2/tcp/9000"),)


def at(ip: str, port: int = 4000) -> Multiaddr:
    return Multiaddr(f"/ip4/{ip}/tcp/{port}")


def told(
    observed: ObservedAddresses,
    peer: str,
    address: Multiaddr,
    listens_at: tuple[Multiaddr, ...] = PUBLIC,
    *,
    is_relayed: bool = False,
    is_listening_port: bool = False,
) -> bool:
    return observed.report(
        PeerID(peer), address, listens_at=listens_at, is_relayed=is_relayed, is_listening_port=is_listening_port
    )


def test_an_address_is_believed_once_three_peers_report_it() -> None:
    observed = ObservedAddresses()
    assert not told(observed, "a", at(OURS))
    assert not told(observed, "b", at(OURS, 4001))
    assert [observed.accepted, told(observed, "c", at(OURS, 4002)), observed.accepted] == [None, True, OURS]
    (only,) = observed.all()
    assert only.reporters == (PeerID("a"), PeerID("b"), PeerID("c"))
    assert only.is_accepted


def test_one_peer_that_reports_it_often_is_one_peer() -> None:
    observed = ObservedAddresses()
    for _ in range(10):
        told(observed, "a", at(OURS))
    assert observed.accepted is None


def test_reports_that_say_nothing_about_the_internet_do_not_count() -> None:
    observed = ObservedAddresses()
    for peer in "abcd":
        told(observed, peer, at(OURS), PRIVATE)
        told(observed, peer, at("192.168.7.7"))
        told(observed, peer, at("100.64.3.3"))
        told(observed, peer, at(OURS), is_relayed=True)
        told(observed, peer, Multiaddr("/ip4/1.1.1.1/udp/4001/quic-v1"))
    assert observed.all() == ()


def test_when_the_address_changes_the_new_one_is_believed_once_it_has_more_reporters() -> None:
    observed = ObservedAddresses()
    for peer in "abc":
        told(observed, peer, at(OURS))
    told(observed, "a", at(OTHER))
    told(observed, "b", at(OTHER))
    assert observed.accepted == OURS
    told(observed, "c", at(OTHER))
    assert observed.accepted == OTHER


def test_a_port_means_something_only_on_connections_of_the_listening_port() -> None:
    observed = ObservedAddresses()
    told(observed, "a", at(OURS, 1111))
    assert observed.endpoint() is None
    told(observed, "b", at(OURS, 2222), is_listening_port=True)
    assert observed.endpoint() == at(OURS, 2222)
    told(observed, "c", at(OURS, 3333), is_listening_port=True)
    assert observed.endpoint() is None, "a port for each destination predicts nothing"
    told(observed, "d", at(OURS, 3333), is_listening_port=True)
    assert observed.endpoint() == at(OURS, 3333)


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from([OURS, OTHER, "1.1.1.1"])), max_size=40))
def test_what_is_believed_was_said_by_three_at_once(reports: list[tuple[str, str]]) -> None:
    observed = ObservedAddresses()
    last: dict[str, str] = {}
    supported: set[str] = set()
    for peer, ip in reports:
        told(observed, peer, at(ip))
        last[peer] = ip
        counts = Counter(last.values())
        supported |= {ip for ip, count in counts.items() if count >= NEEDED}
        assert observed.accepted is None or observed.accepted in supported
        best = counts.most_common(1)[0][1]
        if best >= NEEDED:
            assert observed.accepted is not None
            assert counts[observed.accepted] == best


def test_the_number_of_reporters_is_bounded() -> None:
    observed = ObservedAddresses()
    for number in range(MAX_REPORTERS + 50):
        told(observed, f"peer{number}", at(OURS))
    (only,) = observed.all()
    assert len(only.reporters) == MAX_REPORTERS
