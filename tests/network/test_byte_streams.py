"""Streams of bytes, over libp2p and in memory alike."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import trio
from tests.network.worlds import WAIT_S, World, until

from dms.network import AlreadyHandled, ByteStream, Network, NotRunning, PeerUnreachable, StreamEnded

ECHO = "/nunet/test/echo/1.0.0"
PIECE = 64 * 1024


async def chunks(stream: ByteStream) -> AsyncIterator[bytes]:
    while data := await stream.read(PIECE):
        yield data


async def echo(stream: ByteStream) -> None:
    async for data in chunks(stream):
        await stream.write(data)


async def everything(stream: ByteStream) -> bytes:
    with trio.fail_after(WAIT_S):
        return b"".join([data async for data in chunks(stream)])


class Held:
    """A handler that keeps its stream open until it is told to end."""

    def __init__(self) -> None:
        self.streams: list[ByteStream] = []
        self.over = trio.Event()

    async def __call__(self, stream: ByteStream) -> None:
        self.streams.append(stream)
        await self.over.wait()


async def open_held(world: World) -> tuple[Network, Network, ByteStream, ByteStream, Held]:
    """Two nodes, and both sides of a stream between them."""
    a, b = await world.pair()
    held = Held()
    a.streams.handle(ECHO, held)
    ours = await b.streams.open(a.peer_id, ECHO)
    await until(lambda: held.streams)
    return a, b, ours, held.streams[0], held


async def test_what_is_written_arrives_in_order_and_comes_back(world: World) -> None:
    a, b = await world.pair()
    a.streams.handle(ECHO, echo)

    stream = await b.streams.open(a.peer_id, ECHO)
    for number in range(50):
        await stream.write(b"%d," % number)
    await stream.close()

    assert await everything(stream) == b"".join(b"%d," % number for number in range(50))


async def test_both_sides_know_each_other_and_the_protocol(world: World) -> None:
    a, b, ours, theirs, held = await open_held(world)

    assert (ours.peer, theirs.peer) == (a.peer_id, b.peer_id)
    assert ours.protocol == theirs.protocol == ECHO
    assert not ours.is_relayed
    held.over.set()


async def test_megabytes_cross_in_both_directions_at_once(world: World) -> None:
    a, b = await world.pair()
    data = hashlib.shake_256(b"seed").digest(3 << 20)
    a.streams.handle(ECHO, echo)
    stream = await b.streams.open(a.peer_id, ECHO)
    got = bytearray()

    async def read() -> None:
        async for piece in chunks(stream):
            got.extend(piece)

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.write(data)
            await stream.close()

    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


async def test_a_read_returns_no_more_than_it_was_asked_for(world: World) -> None:
    _, _, ours, theirs, held = await open_held(world)
    await ours.write(b"abcdef")

    assert await theirs.read(4) == b"abcd"
    assert await theirs.read(4) == b"ef"
    held.over.set()


async def test_one_direction_may_end_before_the_other(world: World) -> None:
    a, b = await world.pair()

    async def count(stream: ByteStream) -> None:
        size = len(await everything(stream))
        await stream.write(b"%d" % size)

    a.streams.handle(ECHO, count)
    stream = await b.streams.open(a.peer_id, ECHO)
    await stream.write(bytes(1000))
    await stream.close()
    await stream.close()

    assert await everything(stream) == b"1000"
    with pytest.raises(StreamEnded):
        await stream.write(b"more")


async def test_whoever_does_not_read_holds_the_writer_back(world: World) -> None:
    _, _, ours, theirs, held = await open_held(world)
    data = bytes(8 << 20)
    done = trio.Event()

    async def write() -> None:
        await ours.write(data)
        await ours.close()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        with trio.move_on_after(0.3):
            await done.wait()
        assert not done.is_set()
        assert len(await everything(theirs)) == len(data)
        await done.wait()
    held.over.set()


async def test_a_reset_ends_reads_and_writes_of_the_other_side(world: World) -> None:
    _, _, ours, theirs, held = await open_held(world)

    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(StreamEnded):
                await theirs.read(1)

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await ours.reset()
        await ours.reset()

    with pytest.raises(StreamEnded):
        await theirs.write(b"x")
    with pytest.raises(StreamEnded):
        await ours.read(1)
    held.over.set()


async def test_a_writer_that_waits_for_room_learns_of_a_reset(world: World) -> None:
    _, _, ours, theirs, held = await open_held(world)

    async with trio.open_nursery() as nursery:

        async def write() -> None:
            with pytest.raises(StreamEnded):
                await ours.write(bytes(8 << 20))

        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await theirs.reset()
    held.over.set()


async def test_the_end_of_the_connection_ends_its_streams(world: World) -> None:
    a, b, ours, theirs, held = await open_held(world)

    await b.disconnect(a.peer_id)

    with trio.fail_after(WAIT_S), pytest.raises(StreamEnded):
        await theirs.read(1)
    with trio.fail_after(WAIT_S), pytest.raises(StreamEnded):
        await ours.read(1)
    held.over.set()


async def test_a_handler_that_raises_resets_its_stream_and_no_other(world: World) -> None:
    a, b = await world.pair()

    async def broken(stream: ByteStream) -> None:
        if await stream.read(1) == b"!":
            raise RuntimeError("a defect in a handler")
        await stream.write(b"fine")

    a.streams.handle(ECHO, broken)
    one, other = await b.streams.open(a.peer_id, ECHO), await b.streams.open(a.peer_id, ECHO)
    await one.write(b"!")
    await other.write(b"?")

    assert await everything(other) == b"fine"
    with trio.fail_after(WAIT_S), pytest.raises(StreamEnded):
        await one.read(1)
    assert a.counters()["handlers failed"] == 1


async def test_the_first_protocol_that_the_peer_speaks_is_taken(world: World) -> None:
    a, b = await world.pair()
    a.streams.handle("/nunet/test/old/1.0.0", echo)

    stream = await b.streams.open(a.peer_id, "/nunet/test/new/2.0.0", "/nunet/test/old/1.0.0")
    await stream.write(b"x")

    assert stream.protocol == "/nunet/test/old/1.0.0"
    assert await stream.read(1) == b"x"
    await stream.reset()


async def test_opening_to_nobody_is_an_error(world: World) -> None:
    a, b = await world.pair()
    with pytest.raises(PeerUnreachable):
        await b.streams.open(a.peer_id, ECHO)
    with pytest.raises(PeerUnreachable):
        await b.streams.open(b.peer_id, ECHO)

    a.streams.handle(ECHO, echo)
    with pytest.raises(AlreadyHandled):
        a.streams.handle(ECHO, echo)
    a.streams.unhandle(ECHO)
    a.streams.unhandle(ECHO)
    with pytest.raises(PeerUnreachable):
        await b.streams.open(a.peer_id, ECHO)


async def test_nothing_can_be_opened_before_the_start(world: World) -> None:
    a, b = world.make(), await world.start()
    a.streams.handle(ECHO, echo)
    with pytest.raises(NotRunning):
        await a.streams.open(b.peer_id, ECHO)

    async with a.run():
        await a.connect(b.listen_addresses[0])
        stream = await b.streams.open(a.peer_id, ECHO)
        await stream.write(b"served")
        assert await stream.read(6) == b"served"
        await stream.reset()


async def test_a_peer_has_a_bounded_number_of_streams(world: World) -> None:
    a, b = await world.pair()
    held = Held()
    a.streams.handle(ECHO, held)

    opened = [await b.streams.open(a.peer_id, ECHO) for _ in range(70)]
    await until(lambda: len(held.streams) == 64)
    await until(lambda: a.counters().get("byte streams refused: too many at once") == 6)

    with trio.fail_after(WAIT_S), pytest.raises(StreamEnded):
        await opened[-1].read(1)
    held.over.set()
    for stream in opened:
        await stream.reset()


async def test_cancelled_openings_leave_no_stream_behind(world: World) -> None:
    a, b = await world.pair()
    a.streams.handle(ECHO, echo)

    for number in range(300):
        with suppress(PeerUnreachable), trio.move_on_after(number % 60 * 5e-5):
            await b.streams.open(a.peer_id, "/nunet/test/nobody/1.0.0")

    stream = await b.streams.open(a.peer_id, ECHO)
    await stream.write(b"x")
    assert await stream.read(1) == b"x"
    await stream.reset()


async def test_what_is_written_at_once_stands_in_line_with_what_is_written(world: World) -> None:
    a, b = await world.pair()
    a.streams.handle(ECHO, echo)
    stream = await b.streams.open(a.peer_id, ECHO)
    wanted = b""
    async with trio.open_nursery() as nursery:

        async def compare() -> None:
            assert await everything(stream) == wanted

        with trio.fail_after(WAIT_S):
            await until(lambda: stream.room > 0)
            nursery.start_soon(compare)
            at_once = 0
            for number in range(300):
                data = b"%d," % number * (1000 if number % 3 else 10)
                wanted += data
                if stream.room < len(data):
                    await stream.write(data)
                    continue
                stream.write_nowait(data)
                at_once += 1
                if not stream.room:
                    await stream.write(b"")
            assert at_once > 100
            await stream.close()
            assert not stream.room
