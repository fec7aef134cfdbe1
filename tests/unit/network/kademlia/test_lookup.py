"""Tests of :mod:`dms.network.kademlia.lookup`."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.network.kademlia.keys import position, position_of_peer
from dms.network.kademlia.lookup import MAX_ASKED, Lookup
from dms.types.ids import PeerID

PEERS = [
    peer_id_of(PrivateKey(KeyType.ED25519, hashlib.sha256(b"%d" % number).digest()).public) for number in range(200)
]
OWN = PEERS[0]


def nearest(key: bytes, peers: list[PeerID]) -> list[PeerID]:
    return sorted(peers, key=lambda one: position_of_peer(one) ^ position(key))


@settings(max_examples=60)
@given(st.binary(max_size=40), st.integers(0, 1 << 30), st.integers(1, 8), st.floats(0, 0.6))
def test_a_search_ends_and_finds_the_nearest_that_live(key: bytes, seed: int, width: int, dead_share: float) -> None:
    """Everybody tells of the peers that he knows to be nearest to the key; answers come in any order."""
    rng = random.Random(seed)
    dead = {one for one in PEERS[1:] if rng.random() < dead_share}
    knows = {one: rng.sample(PEERS, 60) for one in PEERS}
    seeds = rng.sample(PEERS[1:], 10)
    lookup = Lookup(key, seeds, own=OWN, width=width, at_once=3)
    in_flight: list[PeerID] = []
    asked: list[PeerID] = []
    told = set(seeds)
    while not lookup.is_done:
        new = lookup.next()
        in_flight += new
        asked += new
        assert len(in_flight) <= 3
        assert in_flight, "a search that is not done waits for somebody"
        one = in_flight.pop(rng.randrange(len(in_flight)))
        if one in dead:
            lookup.failed(one)
        else:
            lookup.answered(one, nearest(key, knows[one])[:width])
            told.update(nearest(key, knows[one])[:width])
    assert len(asked) == len(set(asked)) == lookup.asked <= MAX_ASKED
    assert OWN not in asked
    closest = lookup.closest()
    assert closest == nearest(key, closest)
    assert not dead.intersection(closest)
    if lookup.asked < MAX_ASKED:
        assert closest == nearest(key, [one for one in told if one not in dead and one != OWN])[:width]


def test_a_liar_cannot_make_a_search_endless() -> None:
    rng = random.Random(1)
    lookup = Lookup(b"key", PEERS[1:2], own=OWN)
    rounds = 0
    while not lookup.is_done:
        for one in lookup.next():
            invented = [peer_id_of(PrivateKey(KeyType.ED25519, rng.randbytes(32)).public) for _ in range(30)]
            lookup.answered(one, invented)
        rounds += 1
    assert lookup.asked <= MAX_ASKED


def test_answers_that_nobody_asked_for_change_nothing() -> None:
    lookup = Lookup(b"key", PEERS[1:3], own=OWN)
    lookup.answered(PEERS[9], PEERS[10:20])
    lookup.failed(PEERS[1])
    assert sorted(lookup.next()) == sorted(PEERS[1:3])
    assert Lookup(b"key", [], own=OWN).is_done
