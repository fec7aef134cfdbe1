"""A frame that never ends, or is longer than it says, holds nothing but its own stream.

The real streams are attacked in ``tests/network/test_hardening.py``; here it is the reader of frames and the slots.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from tests.adversary.attacker import ROOT_PROTOCOL
from tests.adversary.scene import Scene, Target, Wire
from trio.testing import MockClock

from dms.network.errors import NetworkError
from dms.network.framing import read_frame
from dms.network.handlers import HANDLERS
from dms.network.protocol import MAX_MESSAGE_BYTES

NOTE = "/public/note"


def _stream(*pieces: bytes) -> Callable[[int], Awaitable[bytes]]:
    """A stream that gives these pieces one by one, then ends."""
    left = list(pieces)

    async def receive(count: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not left:
            return b""
        piece = left.pop(0)
        left[:0] = [piece[count:]] if piece[count:] else []
        return piece[:count]

    return receive


@pytest.mark.parametrize("length", [0, MAX_MESSAGE_BYTES + 1, 2**32, 2**63, 2**64 - 1])
async def test_memory_must_not_be_set_aside_for_what_a_frame_only_announces(length: int) -> None:
    asked: list[int] = []
    header = _stream(length.to_bytes(8, "little"))

    async def receive(count: int) -> bytes:
        asked.append(count)
        return await header(count)

    with pytest.raises(NetworkError):
        await read_frame(receive)
    assert sum(asked) == 8, "not a byte of the body was asked for"


@pytest.mark.parametrize("data", [b"", b"\1", b"\1" + b"\0" * 6, b"\5" + b"\0" * 7, b"\5" + b"\0" * 7 + b"abcd"])
async def test_a_frame_that_ends_early_must_not_be_delivered(data: bytes) -> None:
    for pieces in ([data], [bytes([byte]) for byte in data]):
        with pytest.raises(NetworkError):
            await read_frame(_stream(*pieces))


async def test_bytes_behind_a_frame_must_not_become_part_of_it() -> None:
    assert await read_frame(_stream(b"\3" + b"\0" * 7 + b"abc" + b"defgh")) == b"abc"
    assert await read_frame(_stream(*[bytes([b]) for b in b"\3" + b"\0" * 7 + b"abcdefgh"])) == b"abc"


async def test_a_frame_that_comes_byte_by_byte_must_not_be_waited_for_beyond_the_deadline(
    autojump_clock: MockClock,
) -> None:
    """Slowloris: every byte comes in time, the message never does. The reader itself can be given up at any byte."""
    sent = 0

    async def receive(count: int) -> bytes:
        nonlocal sent
        await trio.sleep(1)
        sent += 1
        return b"\1" if sent == 3 else b"\0"

    with trio.move_on_after(30) as scope:
        await read_frame(receive)
    assert scope.cancelled_caught
    assert sent <= 31


async def test_a_host_that_holds_all_of_its_slots_must_not_hold_those_of_others(
    autojump_clock: MockClock, scene: Scene, victim: Target, alice: Wire, mallory: Wire
) -> None:
    """Handlers that do not end are what slow streams become behind the network."""

    async def hang(_peer: str, _data: bytes) -> None:
        await trio.sleep_forever()

    victim.actor.network.handle("slow", hang)
    for _ in range(HANDLERS + 100):
        await mallory.network.send(victim.person.peer, "slow", b"x")
    await alice.send(victim, alice.person.sign(scene.request(alice.person, victim.handle)))
    assert [did for _, did, _ in victim.handled] == [alice.person.did]


async def test_a_message_beyond_the_limit_must_not_be_sent_nor_harm_by_being_just_below(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    with pytest.raises(NetworkError):
        await mallory.network.send(victim.person.peer, ROOT_PROTOCOL, b"x" * (MAX_MESSAGE_BYTES + 1))
    await mallory.send(victim, b"x" * (MAX_MESSAGE_BYTES - 8))
    await mallory.send(victim, b"[" * (MAX_MESSAGE_BYTES - 8))
    assert victim.handled == []
    await mallory.send(victim, mallory.person.sign(scene.request(mallory.person, victim.handle)))
    assert len(victim.handled) == 1


async def test_an_inbox_that_does_not_exist_must_not_take_messages(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    data = mallory.person.sign(scene.request(mallory.person, victim.handle))
    for protocol in ("actor/none/messages/0.0.1", "actor//messages/0.0.1", "/actor/root/messages/0.0.1", "", "\0"):
        with pytest.raises(NetworkError):
            await mallory.network.send(victim.person.peer, protocol, data)
    assert victim.handled == []
