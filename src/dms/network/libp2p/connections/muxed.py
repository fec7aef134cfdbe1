"""One stream of a yamux connection; takes the place of the library's, which

- gives up when the other side has read nothing for five seconds: a slow reader is waited for as long as the writer wants,
- looks a hundred times a second whether there is room again: whoever waits for room is woken,
- takes a reset that comes while somebody reads for a regular end, and forgets a little memory with it,
- takes four locks and formats ten lines of log for each read and write.
"""

from __future__ import annotations

import struct
from typing import Protocol, cast

import trio
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError, MuxedStreamReset
from libp2p.stream_muxer.yamux.yamux import (
    HEADER_SIZE,
    TYPE_DATA,
    YAMUX_HEADER_FORMAT,
    Yamux,
    YamuxStream,
)

PACKET_BYTES: int = MAX_PLAINTEXT_LENGTH - HEADER_SIZE
"""What one frame carries at most: with its header it fills one packet of the encryption."""


class Writer(Protocol):
    """A connection that may be written in one step."""

    @property
    def can_write_now(self) -> bool:
        """Whether nothing has to be waited for."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether a write left something for the next one."""
        ...

    def write_now(self, frame: bytes) -> None:
        """Send a frame."""
        ...


class MuxedStream(YamuxStream):
    """A stream; one task reads it and one task writes it at a time."""

    _send_window = 0
    _is_over = False

    def __init__(self, stream_id: int, conn: Yamux, is_initiator: bool) -> None:  # noqa: FBT001  the library's signature
        self._room = trio.Event()
        super().__init__(stream_id, conn, is_initiator)

    @property
    def send_window(self) -> int:
        """How many bytes the other side has room for."""
        return self._send_window

    @send_window.setter
    def send_window(self, value: int) -> None:
        self._send_window = value
        if value > 0:
            self._room.set()

    @property
    def closed(self) -> bool:
        """Whether both directions ended, or the stream was reset."""
        return self._is_over

    @closed.setter
    def closed(self, value: bool) -> None:
        self._is_over = value
        if value:
            self._room.set()

    async def write(self, data: bytes) -> None:
        """Send all of it, waiting for room as long as it takes.

        :raises MuxedStreamReset: the other side reset the stream, or its connection ended.
        :raises MuxedStreamError: it is closed for sending.
        """
        total = len(data)
        if not total and self._keepalive.is_behind:
            await self.conn._write_frame(b"")  # noqa: SLF001  its connection
            return
        if 0 < total <= PACKET_BYTES and total <= self._send_window and not self._is_over and not self.send_closed:
            await self._send(data)
            return
        view = memoryview(data)
        sent = 0
        while sent < total:
            await self.wait_for_room()
            count = min(self._send_window, PACKET_BYTES, total - sent)
            await self._send(view[sent : sent + count])
            sent += count

    @property
    def room(self) -> int:
        """How many bytes :meth:`write_nowait` takes now."""
        if self._is_over or self.send_closed or self.reset_received or not self._keepalive.can_write_now:
            return 0
        return max(0, min(self._send_window, PACKET_BYTES))

    def write_nowait(self, data: bytes) -> None:
        """Send all of it in this step; where there is :attr:`room` for it.

        :raises ConnectionClosedError: the other side reset the connection.
        """
        count = len(data)
        self.send_window = self._send_window - count
        header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, self.stream_id, count)
        self._keepalive.write_now(header + data)

    @property
    def _keepalive(self) -> Writer:
        return cast(Writer, self.conn)

    async def wait_for_room(self) -> None:
        """Return once something can be sent.

        :raises MuxedStreamReset: the other side reset the stream, or its connection ended.
        :raises MuxedStreamError: it is closed for sending.
        """
        while True:
            if self.reset_received:
                raise MuxedStreamReset("the stream was reset")
            if self.send_closed or self._is_over:
                raise MuxedStreamError("the stream is closed for sending")
            if self._send_window > 0:
                return
            self._room = trio.Event()
            await self._room.wait()

    async def read(self, n: int | None = -1) -> bytes:
        """At least one byte and at most ``n``, if that is given.

        :raises MuxedStreamEOF: the other side ended its direction, and all was read.
        :raises MuxedStreamReset: the other side reset the stream, or the connection ended.
        """
        conn = self.conn
        while True:
            buffer = conn.stream_buffers.get(self.stream_id)
            if buffer:
                data = _take(buffer, n)
                await self._credit(len(data), is_drained=not buffer)
                return data
            if self.reset_received:
                raise MuxedStreamReset("the stream was reset")
            if self.recv_closed or buffer is None:
                raise MuxedStreamEOF("the stream ended")
            event = conn.stream_events[self.stream_id]
            if event.is_set():
                event = conn.stream_events[self.stream_id] = trio.Event()
            await event.wait()

    async def reset(self) -> None:
        """End both directions at once; whoever reads or waits for room here is woken."""
        event = self.conn.stream_events.get(self.stream_id)
        try:
            await super().reset()
        finally:
            if event is not None:
                event.set()

    async def _credit(self, count: int, *, is_drained: bool) -> None:
        if self._is_over:
            if is_drained:
                await self.conn._finalize_stream(self, fully_closed=True)  # noqa: SLF001  the library's own bookkeeping
            return
        if not self.recv_closed:
            await self._auto_tune_and_send_window_update(bytes_read=count)

    async def _send(self, piece: bytes | memoryview) -> None:
        count = len(piece)
        self.send_window = self._send_window - count
        header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, self.stream_id, count)
        await self.conn._write_frame(header + piece)  # noqa: SLF001  its connection


def _take(buffer: bytearray, count: int | None) -> bytes:
    if count is None or count < 0 or count >= len(buffer):
        data = bytes(buffer)
        buffer.clear()
        return data
    data = bytes(buffer[:count])
    del buffer[:count]
    return data
