"""Log lines about bad input: at most one per key (a peer, say) and second, so that nobody fills the disk."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from dms.observe.log import Logger

PERIOD_S = 1.0

MAX_KEYS = 4096
"""Keys that are remembered; beyond that the one silent for longest is forgotten."""


class OncePerPeriod:
    """Admits a key once per period and counts what it holds back; pure but for its clock."""

    def __init__(
        self,
        *,
        period_s: float = PERIOD_S,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._period_s = period_s
        self._max_keys = max_keys
        self._clock = clock
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def admit(self, key: Hashable) -> int | None:
        """``None``: not now. Otherwise how many times ``key`` was held back since it was admitted last."""
        now = self._clock()
        last, held_back = self._seen.get(key, (float("-inf"), 0))
        if now - last < self._period_s:
            self._seen[key] = (last, held_back + 1)
            return None
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > self._max_keys:
            self._seen.popitem(last=False)
        return held_back


class LimitedLogger:
    """Warns about bad input, at most once per key and period; the next line tells how many were held back."""

    def __init__(
        self, logger: Logger, *, period_s: float = PERIOD_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._limit = OncePerPeriod(period_s=period_s, clock=clock)

    def warning(self, key: Hashable, event: str, /, **fields: object) -> bool:
        """Log ``event`` unless there was one for ``key`` just now; whether it was logged."""
        held_back = self._limit.admit(key)
        if held_back is None:
            return False
        if held_back:
            fields["held_back"] = held_back
        self._logger.warning(event, **fields)
        return True
