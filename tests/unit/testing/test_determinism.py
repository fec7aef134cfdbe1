"""Runs that a seed repeats: what stands in for the real thing does what that does."""

from __future__ import annotations

import gc

import nacl.bindings
import pytest
import trio
from trio.testing import MockClock

from dms.identity.keys import KeyType, PrivateKey
from dms.testing.determinism import repeatable


def run(seed: int) -> list[str]:
    story = list[str]()

    async def sleeper(name: str, seconds: float) -> None:
        for _ in range(3):
            await trio.sleep(seconds)
            story.append(f"{trio.current_time():g} {name}")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(sleeper, str(number), 1.0)
            nursery.start_soon(sleeper, "late", 7.5)

    with repeatable(seed):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    return story


def test_a_seed_decides_the_order_of_what_happens_at_the_same_moment() -> None:
    assert run(1) == run(1) != run(2)
    assert sorted(run(1)) == sorted(run(2))
    assert run(1)[-3:] == ["7.5 late", "15 late", "22.5 late"]


def test_signatures_of_a_simulation_are_only_those_of_the_key() -> None:
    with repeatable(1):
        one, other = (PrivateKey(KeyType.ED25519, bytes([number]) * 32) for number in (1, 2))
        signature = one.sign(b"words")
        assert one.public.verify(b"words", signature)
        assert not one.public.verify(b"other words", signature)
        assert not one.public.verify(b"words", other.sign(b"words"))
        assert not one.public.verify(b"words", b"")
    assert not one.public.verify(b"words", signature)


def test_what_was_signed_before_a_simulation_is_verified_in_it() -> None:
    key = PrivateKey(KeyType.ED25519, bytes(32))
    signature = key.sign(b"words")
    with repeatable(1):
        assert key.public.verify(b"words", signature)
        assert not key.public.verify(b"words", bytes(64))


def test_afterwards_everything_is_as_before() -> None:
    before = nacl.bindings.crypto_sign, MockClock.current_time, gc.get_threshold()
    with pytest.raises(ZeroDivisionError), repeatable(1):
        raise ZeroDivisionError
    assert (nacl.bindings.crypto_sign, MockClock.current_time, gc.get_threshold()) == before
