from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from dms.network.libp2p.connections.limits import Limits, Memory, Share
from dms.network.libp2p.connections.metering import MeteredConn
from dms.network.libp2p.connections.muxer import KeepaliveYamux

from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.peer.id import ID  # isort: skip

PEER = ID.from_pubkey(create_new_key_pair(bytes(32)).public_key)


class Endless:
    """A connection on which there is always something to read."""

    is_initiator = False

    def __init__(self) -> None:
        self.written = b""

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return bytes(n or 0)

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.written += data

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


def metered(share: Share) -> MeteredConn:
    return MeteredConn(cast(Any, Endless()), share)


async def test_a_peer_is_read_no_faster_than_it_may_send_over_all_its_connections(autojump_clock: MockClock) -> None:
    share = Share(Limits(bytes_per_s=1000.0, bytes_burst=5000.0))
    one, two = metered(share), metered(share)

    async def read(conn: MeteredConn) -> None:
        for _ in range(100):
            await conn.read(100)

    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, one)
        nursery.start_soon(read, two)

    assert trio.current_time() - started_s == pytest.approx(15.0)  # 20,000 bytes, of which 5,000 at once
    assert (one.bytes_in, two.bytes_in) == (10_000, 10_000)
    assert one.pauses > 0


async def test_what_nobody_reads_ends_the_connection_and_is_given_back(autojump_clock: MockClock) -> None:
    share, memory = Share(Limits(memory_bytes_per_peer=1000)), Memory(10_000)
    muxer = KeepaliveYamux(cast(Any, Endless()), PEER, keepalive_s=5.0, share=share, memory=memory)
    stream = await muxer.open_stream()
    buffer = muxer.stream_buffers[stream.stream_id]
    buffer.extend(bytes(600))
    del buffer[:100]
    assert (muxer.buffered_bytes, share.buffered_bytes, memory.used_bytes) == (500, 500, 500)

    try:
        buffer.extend(bytes(501))
    except OSError:
        assert muxer.is_condemned
        assert muxer.event_shutting_down.is_set()
    else:
        raise AssertionError("more than the peer's share was taken in")

    muxer.stream_buffers.pop(stream.stream_id)
    assert (muxer.buffered_bytes, share.buffered_bytes, memory.used_bytes) == (0, 0, 0)
