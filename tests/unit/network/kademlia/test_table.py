"""Tests of :mod:`dms.network.kademlia.table` and of distances."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from multiaddr import Multiaddr

from dms.identity.ids import peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.network.kademlia.keys import (
    key_near,
    peer_bytes,
    peer_of_bytes,
    position,
    position_of_peer,
    provider_key,
    shared_bits,
)
from dms.network.kademlia.table import BUCKET_SIZE, MAX_PER_GROUP, REPLACE_AFTER_S, RoutingTable, group_of
from dms.types.ids import PeerID


def peer(number: int) -> PeerID:
    return peer_id_of(PrivateKey(KeyType.ED25519, hashlib.sha256(b"%d" % number).digest()).public)


PEERS = [peer(number) for number in range(300)]
OWN = PEERS[0]


def test_distance_is_the_exclusive_or_of_hashes() -> None:
    assert position(b"x") == int(hashlib.sha256(b"x").hexdigest(), 16)
    assert shared_bits(0, 0) == 256
    assert shared_bits(1 << 255, 0) == 0
    assert shared_bits(0b1011, 0b1010) == 255
    assert peer_of_bytes(peer_bytes(OWN)) == OWN
    assert provider_key("nunet-test")[:2] == b"\x12\x20"


def test_a_random_key_is_as_near_as_was_asked_for() -> None:
    own = position_of_peer(OWN)
    for bits in range(9):
        key = key_near(own, bits, random.Random(bits))
        assert shared_bits(position(key), own) == bits
        assert peer_of_bytes(key)  # some implementations look for peers only


STEPS = st.lists(
    st.tuples(st.sampled_from(["heard", "remove"]), st.integers(0, 299), st.sampled_from([None, "a", "b"]))
    | st.tuples(st.just("later"), st.integers(1, 7200), st.none()),
    max_size=400,
)


@settings(max_examples=60)
@given(STEPS)
def test_the_table_stays_within_its_bounds_whatever_happens(steps: list[tuple[str, int, str | None]]) -> None:
    table = RoutingTable(OWN, bucket_size=4, max_per_group=2)
    now_s = 0.0
    for step, number, group in steps:
        if step == "later":
            now_s += number
        elif step == "heard":
            assert table.heard(PEERS[number], now_s, group=group) == (PEERS[number] in table)
        else:
            table.remove(PEERS[number])
            assert PEERS[number] not in table
        assert OWN not in table
        buckets: dict[int, list[str | None]] = {}
        for entry in table:
            assert entry.bucket == shared_bits(entry.position, table.own_position)
            buckets.setdefault(entry.bucket, []).append(entry.group)
        for groups in buckets.values():
            assert len(groups) <= 4
    assert len(table) == len(list(table))


@settings(max_examples=60)
@given(st.sets(st.integers(1, 299), min_size=1), st.binary(max_size=40), st.integers(1, 30))
def test_the_closest_are_those_with_the_smallest_distance(numbers: set[int], key: bytes, count: int) -> None:
    table = RoutingTable(OWN, bucket_size=300)
    for number in numbers:
        assert table.heard(PEERS[number], 0.0)
    expected = sorted((PEERS[n] for n in numbers), key=lambda one: position_of_peer(one) ^ position(key))
    assert table.closest(key, count) == expected[:count]
    assert table.closest(key, count, without=expected[:1]) == expected[1 : count + 1]


def test_old_peers_stay_and_newcomers_wait_until_there_is_room() -> None:
    table = RoutingTable(OWN)
    far = [one for one in PEERS[1:] if shared_bits(position_of_peer(one), table.own_position) == 0]
    for one in far:
        table.heard(one, 0.0)
    assert [entry.peer for entry in table] == far[:BUCKET_SIZE]

    table.remove(far[0])
    assert len(table) == BUCKET_SIZE
    assert far[-1] in table  # who came last waits no longer


def test_a_peer_that_is_silent_for_long_gives_its_place_to_a_newcomer() -> None:
    table = RoutingTable(OWN, bucket_size=1)
    first, second = [one for one in PEERS[1:] if shared_bits(position_of_peer(one), table.own_position) == 0][:2]
    table.heard(first, 0.0)
    assert not table.heard(second, REPLACE_AFTER_S - 1)
    assert table.heard(second, REPLACE_AFTER_S)
    assert first not in table
    assert table.unheard(REPLACE_AFTER_S + 1, 5) == [second]


def test_one_public_network_cannot_fill_a_bucket() -> None:
    table = RoutingTable(OWN)
    far = [one for one in PEERS[1:] if shared_bits(position_of_peer(one), table.own_position) == 0]
    for one in far:
        table.heard(one, 0.0, group="8.8.8.0/24")
    assert len(table) == MAX_PER_GROUP
    assert table.heard(far[-1], 0.0, group="9.9.9.0/24")


def test_only_public_addresses_tell_who_owns_a_peer() -> None:
    assert group_of([Multiaddr("/ip4/10.0.0.1/tcp/1"), Multiaddr("/ip4/8.8.8.8/tcp/1")]) == "8.8.8.0/24"
    assert group_of([Multiaddr("/ip6/2a00:1450:4001:80b::1/tcp/1")]) == "2a00:1450:4001::/48"
    assert group_of([Multiaddr("/ip4/192.168.0.1/tcp/1"), Multiaddr("/dns4/example.org/tcp/1")]) is None
