"""How much there may be of something: questions for names outside, and what a relay carries, which ends connections past
its limits without a word (``spec/network.md`` 12, point 13)."""

from __future__ import annotations

RELAY_BYTES = 1 << 21
RELAY_WINDOW_S = 300.0


class RateBudget:
    """So many a second, and at once after a silence as many as ``burst``."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at_s = float(burst), 0.0

    def spend(self, now_s: float) -> bool:
        """Whether one more may go; counts it if so."""
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class RelayBudget:
    """So many bytes, both ways together, within a window that begins with the first of them."""

    def __init__(self, *, limit_bytes: int = RELAY_BYTES, window_s: float = RELAY_WINDOW_S) -> None:
        self._limit_bytes, self._window_s = limit_bytes, window_s
        self._used_bytes = 0
        self._began_s: float | None = None

    def spend(self, size_bytes: int, now_s: float) -> bool:
        """Whether so many bytes may go; counts them if so."""
        if self._began_s is None or now_s - self._began_s >= self._window_s:
            self._began_s, self._used_bytes = now_s, 0
        if self._used_bytes + size_bytes > self._limit_bytes:
            return False
        self._used_bytes += size_bytes
        return True

    def free_in_s(self, now_s: float) -> float:
        """When the window ends."""
        return 0.0 if self._began_s is None else max(0.0, self._began_s + self._window_s - now_s)
