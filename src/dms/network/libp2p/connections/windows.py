"""When a reader gives credit back to the sender of a yamux stream: at half a window, as Go's implementation does.

The library means to do so, but after almost every read it sends a credit of its own: a packet for each length byte and
each line of a negotiation, two dozen of them around one small message. And it credits more than was read, so that
windows grow without need.
"""

from __future__ import annotations

from libp2p.stream_muxer.yamux.yamux import YamuxStream

_release = YamuxStream._auto_tune_and_send_window_update  # noqa: SLF001  the one place that decides


def install() -> None:
    """Put it in place; doing so again changes nothing."""
    YamuxStream._auto_tune_and_send_window_update = release_credit  # type: ignore[method-assign]  # noqa: SLF001


async def release_credit(self: YamuxStream, *, bytes_read: int = 0) -> None:
    """Send a window update once what was read and not yet credited is worth one."""
    buffered = len(self.conn.stream_buffers.get(self.stream_id, b""))
    uncredited = self.target_recv_window - (self.recv_window + buffered)
    if uncredited < self.target_recv_window // 2 or self.recv_closed:
        return
    await _release(self, bytes_read=bytes_read)
