"""Tests of :mod:`dms.network.kademlia.values` and :mod:`dms.network.kademlia.providers`."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiaddr import Multiaddr

from dms.network.errors import InvalidRecord
from dms.network.kademlia.keys import MAX_KEY_BYTES, position
from dms.network.kademlia.providers import MAX_KEYS_PER_PEER, MAX_PROVIDERS, PROVIDER_TTL_S, ProviderStore
from dms.network.kademlia.values import (
    MAX_AGE_S,
    MAX_VALUE_BYTES,
    MAX_VALUES_PER_PEER,
    PublicKeyValidator,
    Validators,
    ValueStore,
)
from dms.types.ids import PeerID

ADDRESS = (Multiaddr("/ip4/10.0.0.1/tcp/9000"),)


class Highest:
    """Values are numbers; the highest is the best, and 13 is not allowed."""

    def validate(self, key: bytes, value: bytes, wall_s: float) -> None:
        if value == b"13":
            raise InvalidRecord

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        return max(range(len(values)), key=lambda index: int(values[index]))


def store(max_values: int = 100) -> ValueStore:
    return ValueStore(0, Validators({"n": Highest(), "pk": PublicKeyValidator()}), max_values=max_values)


def peer(number: int) -> PeerID:
    return PeerID(f"peer-{number}")


def test_the_best_value_stays_whatever_comes_later() -> None:
    values = store()
    values.put(b"/n/a", b"2", peer(1), 0.0)
    values.put(b"/n/a", b"5", peer(2), 1.0)
    values.put(b"/n/a", b"5", peer(1), 2.0)
    with pytest.raises(InvalidRecord, match="newer"):
        values.put(b"/n/a", b"3", peer(1), 3.0)
    kept = values.get(b"/n/a", 3.0)
    assert kept is not None
    assert (kept.value, kept.received_s) == (b"5", 2.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"/n/a", b"13"),
        (b"/other/a", b"1"),
        (b"n/a", b"1"),
        (b"/n", b"1"),
        (b"\xff\xfe", b"1"),
        (b"/n/" + b"a" * MAX_KEY_BYTES, b"1"),
        (b"/n/a", b"1" * (MAX_VALUE_BYTES + 1)),
    ],
)
def test_what_does_not_hold_is_refused(key: bytes, value: bytes) -> None:
    values = store()
    with pytest.raises(InvalidRecord):
        values.put(key, value, peer(1), 0.0)
    assert len(values) == 0


def test_keys_need_not_be_text() -> None:
    values = store()
    values.put(b"/n/\xff\xfe\x00", b"1", peer(1), 0.0)
    assert values.get(b"/n/\xff\xfe\x00", 0.0) is not None


def test_a_public_key_stands_only_under_its_own_id() -> None:
    values = store()
    public = b"\x08\x00\x12\x04abcd"
    place = b"/pk/\x12\x20" + hashlib.sha256(public).digest()
    values.put(place, public, peer(1), 0.0)
    values.put(b"/pk/\x00" + bytes([len(public)]) + public, public, peer(1), 0.0)
    with pytest.raises(InvalidRecord):
        values.put(place, b"another", peer(1), 0.0)
    with pytest.raises(InvalidRecord):
        values.put(b"/pk/", b"", peer(1), 0.0)


def test_values_grow_old() -> None:
    values = store()
    values.put(b"/n/a", b"1", peer(1), 0.0)
    values.sweep(MAX_AGE_S)
    assert len(values) == 1
    values.sweep(MAX_AGE_S + 1)
    assert (len(values), values.size_bytes) == (0, 0)


def test_one_peer_cannot_fill_the_store() -> None:
    values = store(10_000)
    for number in range(MAX_VALUES_PER_PEER):
        values.put(b"/n/%d" % number, b"1", peer(1), 0.0)
    with pytest.raises(InvalidRecord, match="one peer"):
        values.put(b"/n/more", b"1", peer(1), 0.0)
    values.put(b"/n/x", b"1", peer(2), 0.0)
    assert len(values) == MAX_VALUES_PER_PEER + 1


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30), st.integers(1, 3)), max_size=120))
def test_a_full_store_keeps_what_is_near_to_us(steps: list[tuple[int, int, int]]) -> None:
    values = store(10)
    accepted = set()
    for number, value, by in steps:
        key = b"/n/%d" % number
        try:
            values.put(key, b"%d" % value, peer(by), 0.0)
        except InvalidRecord:
            continue
        accepted.add(key)
    kept = {key for key in accepted if values.get(key, 0.0) is not None}
    assert len(kept) == len(values) <= 10
    assert kept == set(sorted(accepted, key=position)[:10])
    assert values.size_bytes == sum(len(v.value) for k in kept if (v := values.get(k, 0.0)) is not None)


def test_providers_are_forgotten_unless_they_say_it_again() -> None:
    providers = ProviderStore(0)
    rng = random.Random(1)
    assert providers.add(b"k", peer(1), ADDRESS, 0.0)
    assert providers.add(b"k", peer(2), (), 1000.0)
    assert {one.peer for one in providers.get(b"k", 1000.0, 9, rng)} == {peer(1), peer(2)}
    assert {one.peer for one in providers.get(b"k", PROVIDER_TTL_S + 1, 9, rng)} == {peer(2)}
    providers.sweep(PROVIDER_TTL_S + 1001)
    assert len(providers) == 0


def test_a_key_that_everybody_provides_keeps_the_newest_and_tells_a_random_few() -> None:
    providers = ProviderStore(0)
    for number in range(MAX_PROVIDERS + 10):
        assert providers.add(b"k", peer(number), (), float(number))
    all_of_them = {one.peer for one in providers.get(b"k", 600.0, 9999, random.Random(1))}
    assert len(all_of_them) == MAX_PROVIDERS
    assert peer(9) not in all_of_them
    first, second = (tuple(one.peer for one in providers.get(b"k", 600.0, 5, random.Random(n))) for n in (1, 2))
    assert len(first) == len(second) == 5
    assert first != second


def test_one_peer_cannot_provide_everything() -> None:
    providers = ProviderStore(0)
    kept = sum(providers.add(b"%d" % number, peer(1), (), 0.0) for number in range(MAX_KEYS_PER_PEER + 5))
    assert kept == MAX_KEYS_PER_PEER
    assert providers.add(b"0", peer(1), ADDRESS, 5.0)  # again is not more


def test_a_full_store_of_providers_keeps_the_near_keys() -> None:
    providers = ProviderStore(0, max_keys=5)
    keys = sorted((b"%d" % number for number in range(30)), key=position)
    for number, key in enumerate(random.Random(3).sample(keys, 30)):
        providers.add(key, peer(number), (), 0.0)
    assert [key for key in keys if providers.get(key, 0.0, 1, random.Random(1))] == keys[:5]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=120))
def test_all_providers_together_are_bounded_and_the_near_keys_keep_theirs(steps: list[tuple[int, int]]) -> None:
    providers = ProviderStore(0, max_entries=15)
    for at, (number, by) in enumerate(steps):
        kept = providers.add(b"%d" % number, peer(by), ADDRESS * 20, float(at))
        found = {one.peer for one in providers.get(b"%d" % number, float(at), 99, random.Random(1))}
        assert (peer(by) in found) == kept
        assert providers.entries <= 15
    everything = [one for key in range(13) for one in providers.get(b"%d" % key, 0.0, 99, random.Random(1))]
    assert len(everything) == providers.entries
    assert all(len(one.addresses) <= 8 for one in everything)
