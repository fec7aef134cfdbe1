"""Credit on yamux streams: the library's own streams, on a connection that only keeps what it is given."""

from __future__ import annotations

import struct

from dms.network.libp2p.connections import windows

from libp2p.stream_muxer.yamux.yamux import (  # isort: skip
    DEFAULT_WINDOW_SIZE,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
    Yamux,
    YamuxStream,
)

windows.install()


class Wire(Yamux):
    """A connection of which only what a reader needs exists."""

    def __init__(self) -> None:
        self.stream_buffers = {}
        self.credits: list[int] = []

    def rtt(self) -> float:
        return 0.001

    async def _write_frame(self, data: bytes) -> None:
        _, kind, flags, _, increment = struct.unpack(YAMUX_HEADER_FORMAT, data)
        assert (kind, flags) == (TYPE_WINDOW_UPDATE, 0)
        self.credits.append(increment)


async def read_in_pieces(total: int, size: int) -> tuple[YamuxStream, list[int]]:
    wire = Wire()
    stream = YamuxStream(1, wire, is_initiator=True)
    for _ in range(total // size):
        wire.stream_buffers[1] = bytearray()
        stream.recv_window -= size  # it arrived, and was taken out of the buffer
        await stream._auto_tune_and_send_window_update(bytes_read=size)
    return stream, wire.credits


async def test_reading_a_small_message_byte_by_byte_sends_no_credit() -> None:
    _, credits_ = await read_in_pieces(2000, 1)
    assert credits_ == []


async def test_credit_comes_before_the_sender_has_used_up_the_window() -> None:
    stream, credits_ = await read_in_pieces(DEFAULT_WINDOW_SIZE, 1024)
    assert credits_
    assert stream.recv_window >= DEFAULT_WINDOW_SIZE // 2


async def test_never_more_credit_is_given_than_the_window_has_room_for() -> None:
    stream, credits_ = await read_in_pieces(8 * DEFAULT_WINDOW_SIZE, 4096)
    granted = DEFAULT_WINDOW_SIZE + sum(credits_)
    assert granted - 8 * DEFAULT_WINDOW_SIZE == stream.recv_window <= stream.target_recv_window


async def test_what_has_ended_needs_no_credit() -> None:
    wire = Wire()
    stream = YamuxStream(1, wire, is_initiator=True)
    stream.recv_window, stream.recv_closed = 0, True
    await stream._auto_tune_and_send_window_update(bytes_read=DEFAULT_WINDOW_SIZE)
    assert wire.credits == []
