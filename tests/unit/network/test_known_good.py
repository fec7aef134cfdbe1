"""Tests of :mod:`dms.network.known_good`."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiaddr import Multiaddr

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.network.known_good import (
    FORGET_S,
    HALF_LIFE_S,
    MAX_ADDRESSES,
    MAX_FAILURES,
    MAX_OTHERS,
    MAX_SERVERS,
    GoodPeers,
)
from dms.network.libp2p.connections.gate import Gate
from dms.types.ids import PeerID

NOW_S = 1_800_000_000.0
HERE = Multiaddr("/ip4/10.0.0.1/tcp/9000")


def peer(number: int) -> PeerID:
    return peer_id_of(PrivateKey(KeyType.ED25519, hashlib.sha256(b"%d" % number).digest()).public)


PEERS = [peer(number) for number in range(20)]


def names(peers: GoodPeers, wall_s: float = NOW_S) -> list[PeerID]:
    return [one.peer for one in peers.best(9999, wall_s)]


def test_only_addresses_that_were_proven_are_remembered_the_last_one_first() -> None:
    peers = GoodPeers()
    for port in range(1, MAX_ADDRESSES + 3):
        assert peers.confirmed(PEERS[0], Multiaddr(f"/ip4/10.0.0.1/tcp/{port}"), NOW_S)
    (one,) = peers.best(5, NOW_S)
    assert str(one.addresses[0]) == f"/ip4/10.0.0.1/tcp/{MAX_ADDRESSES + 2}"
    assert len(one.addresses) == MAX_ADDRESSES
    peers.seen(PEERS[1], NOW_S, is_server=True)  # connected, but never dialled: no address is proven
    assert names(peers) == [PEERS[0]]


def test_the_best_are_those_that_were_good_often_and_lately() -> None:
    peers = GoodPeers()
    peers.confirmed(PEERS[0], HERE, NOW_S - 2 * HALF_LIFE_S)
    for _ in range(3):
        peers.confirmed(PEERS[1], HERE, NOW_S - 10)
    peers.confirmed(PEERS[2], HERE, NOW_S)
    peers.confirmed(PEERS[3], HERE, NOW_S)
    peers.failed(PEERS[3])
    assert names(peers) == [PEERS[1], PEERS[2], PEERS[3], PEERS[0]]
    assert [one.peer for one in peers.best(1, NOW_S, without=[PEERS[1]])] == [PEERS[2]]


def test_stale_peers_fade_and_those_that_fail_again_and_again_are_forgotten() -> None:
    peers = GoodPeers()
    peers.confirmed(PEERS[0], HERE, NOW_S)
    assert names(peers, NOW_S + FORGET_S - 1) == [PEERS[0]]
    assert names(peers, NOW_S + FORGET_S) == []
    for _ in range(MAX_FAILURES):
        assert len(peers) == 1
        peers.failed(PEERS[0])
    assert len(peers) == 0
    peers.failed(PEERS[0])


def test_how_many_are_remembered_is_bounded_by_role() -> None:
    peers = GoodPeers()
    many = [peer(number) for number in range(MAX_SERVERS + MAX_OTHERS + 50)]
    for number, one in enumerate(many):
        peers.confirmed(one, HERE, NOW_S + number)
        peers.seen(one, NOW_S + number, is_server=number % 20 != 0)
    kept = peers.best(9999, NOW_S + 9999)
    assert sum(one.is_server for one in kept) == MAX_SERVERS
    assert sum(not one.is_server for one in kept) <= MAX_OTHERS
    for number, one in enumerate(many):
        peers.seen(one, NOW_S + number, is_server=False)
    assert len(peers) == MAX_OTHERS
    assert many[-1] in names(peers)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/ip4/8.8.8.8/tcp/9000", True),
        ("/dns4/example.org/tcp/9000", True),
        ("/ip4/192.168.1.1/tcp/9000", False),
        ("/ip4/100.64.0.1/tcp/9000", False),
        ("/ip6/fe80::1/tcp/9000", False),
    ],
)
def test_a_public_machine_remembers_no_private_addresses(text: str, public: bool) -> None:
    address = Multiaddr(text)
    assert GoodPeers().confirmed(PEERS[0], address, NOW_S)
    server = GoodPeers(passing=Gate(server_mode=True).passing)
    assert server.confirmed(PEERS[0], address, NOW_S) == public
    everything = GoodPeers()
    everything.confirmed(PEERS[0], address, NOW_S)
    server.decode(everything.encode(NOW_S), NOW_S)
    assert (names(server) == [PEERS[0]]) == public


def test_addresses_that_cannot_be_dialled_are_not_remembered() -> None:
    assert not GoodPeers().confirmed(PEERS[0], Multiaddr("/ip4/8.8.8.8/udp/1/quic-v1"), NOW_S)


STEPS = st.lists(
    st.tuples(st.sampled_from(["confirmed", "failed", "server", "other"]), st.integers(0, 19), st.integers(0, 9)),
    max_size=60,
)


@settings(max_examples=40)
@given(STEPS)
def test_what_is_written_is_read(steps: list[tuple[str, int, int]]) -> None:
    peers = GoodPeers("lab")
    for step, number, age in steps:
        if step == "confirmed":
            peers.confirmed(PEERS[number], Multiaddr(f"/ip4/10.0.0.{age}/tcp/9000"), NOW_S - age * 86400)
        elif step == "failed":
            peers.failed(PEERS[number])
        else:
            peers.seen(PEERS[number], NOW_S - age, is_server=step == "server")
    again = GoodPeers("lab")
    again.decode(peers.encode(NOW_S), NOW_S)
    assert again.best(99, NOW_S) == peers.best(99, NOW_S)
    foreign = GoodPeers("office")
    foreign.decode(peers.encode(NOW_S), NOW_S)
    assert len(foreign) == 0


def test_a_file_that_makes_no_sense_is_left_aside() -> None:
    good = GoodPeers()
    good.confirmed(PEERS[0], HERE, NOW_S)
    entry = json.loads(good.encode(NOW_S))["peers"][0]
    bad: list[object] = [
        7,
        {},
        entry | {"peer": "x"},
        entry | {"peer": 5},
        entry | {"addresses": ["x"]},
        entry | {"addresses": []},
        entry | {"addresses": None},
        entry | {"seen": "x"},
        entry | {"seen": float("nan")},
        entry | {"seen": float("inf")},
        entry | {"failures": None},
    ]
    peers = GoodPeers()
    for document in (b"", b"\xff", b"[]", b"[" * 99999, b"{}", b'{"network": "", "peers": 5}'):
        peers.decode(document, NOW_S)
    peers.decode(json.dumps({"network": "", "peers": bad}).encode(), NOW_S)
    assert len(peers) == 0
    peers.decode(json.dumps({"network": "", "peers": [*bad, entry]}).encode(), NOW_S)
    assert names(peers) == [PEERS[0]]


def test_a_clock_that_was_ahead_makes_nobody_good_for_ever() -> None:
    good = GoodPeers()
    good.confirmed(PEERS[0], HERE, NOW_S + 10 * FORGET_S)
    again = GoodPeers()
    again.decode(good.encode(NOW_S), NOW_S)
    assert names(again, NOW_S + FORGET_S) == []
