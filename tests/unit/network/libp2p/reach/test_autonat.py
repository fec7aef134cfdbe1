"""Whom we dial because others ask, and how often."""

from __future__ import annotations

from multiaddr import Multiaddr

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.libp2p.reach.autonat import IN_ALL, MAX_DIALS, PER_PEER, WINDOW_S, Allowance, DialPolicy
from dms.types.ids import PeerID


def addresses(*texts: str) -> list[Multiaddr]:
    return [Multiaddr(text) for text in texts]


def test_only_the_ip_that_asks_is_dialled_and_only_over_plain_tcp() -> None:
    asked = addresses(
        "/ip4/5.5.5.5/tcp/1",
        "/ip4/6.6.6.6/tcp/1",
        "/ip4/5.5.5.5/udp/1/quic-v1",
        "/ip4/5.5.5.5/tcp/2/ws",
        "/dns4/example.com/tcp/1",
        "/ip4/5.5.5.5/tcp/1",
    )
    assert DialPolicy().choose(asked, "5.5.5.5") == addresses("/ip4/5.5.5.5/tcp/1")
    assert DialPolicy().choose(asked, None) == []


def test_private_addresses_are_dialled_only_where_the_owner_counts_them_as_public() -> None:
    asked = addresses("/ip4/10.0.0.7/tcp/1")
    assert DialPolicy().choose(asked, "10.0.0.7") == []
    assert DialPolicy(is_public=lambda _ip: True).choose(asked, "10.0.0.7") == asked
    assert DialPolicy(is_public=lambda _ip: True).choose(asked, "10.0.0.8") == []


def test_a_request_has_a_bounded_number_of_dials() -> None:
    asked = addresses(*(f"/ip4/5.5.5.5/tcp/{port}" for port in range(1, 30)))
    assert len(DialPolicy().choose(asked, "5.5.5.5")) == MAX_DIALS


def test_requests_are_bounded_per_peer_and_in_all() -> None:
    allowance = Allowance()
    assert [allowance.take(PeerID("a"), 0) for _ in range(PER_PEER + 1)] == [True] * PER_PEER + [False]
    others = [allowance.take(PeerID(f"peer{number}"), 1) for number in range(IN_ALL)]
    assert sum(others) == IN_ALL - PER_PEER
    assert not allowance.take(PeerID("b"), WINDOW_S - 1)
    assert allowance.take(PeerID("a"), WINDOW_S)
