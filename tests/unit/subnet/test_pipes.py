"""Bytes both ways, and how they end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from dms.network.errors import StreamEnded
from dms.subnet.pipes import TrioPipe, join


async def tcp_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return ours, await listener.accept()


async def test_each_direction_ends_on_its_own() -> None:
    left, left_inner = await tcp_pair()
    right_inner, right = await tcp_pair()
    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(join, TrioPipe(left_inner), TrioPipe(right_inner))
        await left.send_all(b"question")
        await left.send_eof()
        assert b"".join([data async for data in right]) == b"question"
        nursery.start_soon(right.send_all, b"answer" * 100_000)
        got = b""
        while len(got) < 600_000:
            got += await left.receive_some()
        assert got == b"answer" * 100_000
        await right.send_eof()
        assert await left.receive_some() == b""


async def test_a_side_that_breaks_breaks_the_other_one() -> None:
    left, left_inner = await tcp_pair()
    right_inner, right = await tcp_pair()
    async with right, trio.open_nursery() as nursery:
        nursery.start_soon(join, TrioPipe(left_inner), TrioPipe(right_inner))
        await TrioPipe(left).reset()
        with pytest.raises(trio.BrokenResourceError):
            await right.receive_some()


async def test_who_is_cancelled_breaks_both(autojump_clock: MockClock) -> None:
    left, left_inner = memory_stream_pair()
    right_inner, right = memory_stream_pair()
    with trio.move_on_after(5):
        await join(TrioPipe(left_inner), TrioPipe(right_inner))
    for stream in (left, right):
        assert await stream.receive_some() == b""


async def test_a_pipe_that_was_ended_says_so() -> None:
    stream, other = await tcp_pair()
    pipe = TrioPipe(stream)
    await pipe.reset()
    await pipe.reset()
    for use in (pipe.read(1), pipe.write(b"x")):
        with pytest.raises(StreamEnded):
            await use
    await pipe.close()
    await trio.aclose_forcefully(other)
