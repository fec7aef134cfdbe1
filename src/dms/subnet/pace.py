"""When packets wait for company before they are written to a stream, without I/O.

A write costs the same whatever its size. Where much passes, many packets in one write carry more; where little passes, as
when a question waits for its answer, waiting only adds delay.
"""

from __future__ import annotations

SPAN_S = 0.01
BUSY_BYTES = 64 * 1024
BUSY_PACKETS = 128
"""Within a span, both ways together: some 6 MB/s, or more packets than questions and answers one after the other make."""


class Pace:
    """Of one way to a peer, and back."""

    def __init__(self) -> None:
        self.is_busy = False
        self._began_s = float("-inf")
        self._packets = self._bytes = 0

    def observe(self, now_s: float, packets: int, size_bytes: int) -> None:
        """What has passed by now, counted from any begin."""
        if now_s - self._began_s < SPAN_S:
            return
        spans = max(1.0, (now_s - self._began_s) / SPAN_S)
        self.is_busy = packets - self._packets >= BUSY_PACKETS * spans or size_bytes - self._bytes >= BUSY_BYTES * spans
        self._began_s, self._packets, self._bytes = now_s, packets, size_bytes
