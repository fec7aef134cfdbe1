"""Tests of :mod:`dms.network.libp2p.discovery.local`; meeting for real is tested between network namespaces."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Sequence

import trio
from multiaddr import Multiaddr
from trio.testing import MockClock

from dms.network.libp2p.discovery.local import MAX_REMEMBERED, REDIAL_S, Encounters, LocalNetwork
from dms.types.ids import PeerID

OWN = PeerID("12D3KooWJMtMN1mTNRfgMqUygT7eSXamVzc9ihpSjeairm9PebmB")


def test_a_peer_that_does_not_answer_is_dialled_again_after_a_while() -> None:
    encounters = Encounters()
    assert encounters.is_new(OWN, 0.0)
    assert not encounters.is_new(OWN, REDIAL_S - 1)
    assert encounters.is_new(OWN, REDIAL_S)


def test_a_flood_of_names_is_not_dialled() -> None:
    encounters = Encounters()
    assert sum(encounters.is_new(PeerID(str(number)), 0.0) for number in range(5000)) == MAX_REMEMBERED
    assert encounters.is_new(PeerID("later"), REDIAL_S)


async def test_a_node_on_loopback_only_says_nothing(autojump_clock: MockClock) -> None:
    async def dial(_peer: PeerID, _addresses: Sequence[Multiaddr]) -> None:
        raise AssertionError

    local = LocalNetwork(
        "_p2p-test._udp.local",
        OWN,
        own_addresses=lambda: [Multiaddr("/ip4/127.0.0.1/tcp/9000")],
        is_connected=lambda _peer: False,
        dial=dial,
        counters=Counter(),
        rng=random.Random(1),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        sock = trio.socket.from_stdlib_socket(plain)
        assert local._interfaces(sock) == []
        assert not local._is_here(Multiaddr("/ip4/127.0.0.1/tcp/9000"))


async def test_sockets_that_cannot_be_had_are_waited_for(autojump_clock: MockClock) -> None:
    """Somebody holds the port for himself, as in some containers; the node goes on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        try:
            taken.bind(("", 5353))
        except OSError:
            return  # somebody holds it already, and will share it or not
        local = LocalNetwork(
            "_p2p-test._udp.local",
            OWN,
            own_addresses=lambda: (),
            is_connected=lambda _peer: False,
            dial=_nobody,
            counters=Counter(),
            rng=random.Random(1),
        )
        with trio.move_on_after(1000) as scope:
            await local.run()
        assert scope.cancelled_caught


async def _nobody(_peer: PeerID, _addresses: Sequence[Multiaddr]) -> None:
    raise AssertionError
