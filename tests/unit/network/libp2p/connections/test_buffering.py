from __future__ import annotations

import socket
import struct
from contextlib import closing

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.network.libp2p.connections.buffering import READ_BYTES, Buffered
from dms.network.libp2p.connections.locks import QuickLock

from libp2p.io.exceptions import ConnectionClosedError  # isort: skip
from libp2p.io.trio import TrioTCPStream  # isort: skip


def pair() -> tuple[Buffered, socket.socket]:
    """A connection, and its other end in the hands of a test."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return Buffered(TrioTCPStream(trio.SocketStream(trio.socket.from_stdlib_socket(near)))), far


@settings(max_examples=40)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=10),
    st.lists(st.one_of(st.none(), st.integers(1, 50), st.just(READ_BYTES)), min_size=1, max_size=10),
)
def test_every_byte_comes_once_and_in_order(pieces: list[bytes], sizes: list[int | None]) -> None:
    async def read_all() -> list[bytes]:
        reader, far = pair()
        found: list[bytes] = []
        for piece in pieces:
            far.sendall(piece)
        far.close()
        while True:
            size = sizes[len(found) % len(sizes)]
            piece = await reader.read(size)
            if not piece:
                assert await reader.read(5) == b"", "the end stays the end"
                await reader.close()
                return found
            assert size is None or len(piece) <= size
            found.append(piece)

    assert b"".join(trio.run(read_all)) == b"".join(pieces)


async def test_a_length_and_what_follows_are_one_read_of_the_socket() -> None:
    reader, far = pair()
    with far:
        far.sendall(b"\0\3abc\0\2de")
        assert await reader.read(2) == b"\0\3"
        far.sendall(b"later")
        assert [await reader.read(size) for size in (3, 2, 9)] == [b"abc", b"\0\2", b"de"]
        assert await reader.read(0) == b""
        assert await reader.read(None) == b"later"
        await reader.close()


async def test_who_waits_to_read_is_woken_by_what_comes_and_by_our_own_end() -> None:
    reader, far = pair()
    with far:
        found: list[bytes] = []

        async def read() -> None:
            found.append(await reader.read(10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            far.sendall(b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await reader.close()
        assert found == [b"x", b""]
        await reader.write(b"to nobody")
        assert await reader.read(1) == b""


async def test_what_finds_no_room_is_sent_when_there_is_some() -> None:
    reader, far = pair()
    data = bytes(range(256)) * 40_000
    got = bytearray()
    with far:
        far.setblocking(False)
        other = trio.socket.from_stdlib_socket(far)

        async def take() -> None:
            while len(got) < len(data) + 4:
                got.extend(await other.recv(1 << 20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.write, data)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(reader.write, b"last")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(take)
        assert got == data + b"last"
        await reader.close()


async def test_a_reset_is_an_end_that_is_told() -> None:
    reader, far = pair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    with pytest.raises(ConnectionClosedError):
        await reader.read(1)
    with pytest.raises(ConnectionClosedError):
        await reader.write(b"x")
    await reader.close()


async def test_a_lock_lets_one_in_at_a_time_in_the_order_in_which_they_came() -> None:
    lock, order = QuickLock(), list[int]()
    inside = 0

    async def enter(number: int) -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            order.append(number)
            await trio.lowlevel.checkpoint()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(enter, number)
            await trio.testing.wait_all_tasks_blocked()
    assert order == list(range(5))


async def test_what_the_kernel_does_not_take_at_once_goes_in_front_of_the_next_write() -> None:
    writer, far = pair()
    with far:
        data = b"".join(number.to_bytes(4, "big") for number in range(4 << 20))
        behind = []
        for piece in (b"first", data):
            writer.write_nowait(piece)
            behind.append(writer.is_behind)
        assert behind == [False, True]
        found = bytearray()

        def read_all() -> None:
            while piece := far.recv(1 << 20):
                found.extend(piece)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, read_all)
            await writer.write(b"")
            behind.append(writer.is_behind)
            await writer.write(b"last")
            await writer.close()
        assert found == b"first" + data + b"last"
    writer.write_nowait(b"to nobody")
    assert [*behind, writer.is_behind] == [False, True, False, False]
