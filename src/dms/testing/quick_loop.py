"""What trio's loop can leave out where there is nothing but virtual time: it asks neither a real clock nor the kernel.

For runs with thousands of moments, inside :func:`dms.testing.determinism.repeatable`; between two of them nothing costs
more than to look at what is due.
"""

# ruff: noqa: SLF001  trio has no other way to look at fewer things, and hides this one

from __future__ import annotations

import math
from collections.abc import Sequence

from trio import _core as _trio_core
from trio.testing import MockClock

_POLLED_EVERY = 1024
"""Steps, so that Ctrl-C comes through."""

_IOManager = _trio_core._run.TheIOManager  # type: ignore[attr-defined]  # its own name for what it uses


def now_s(clock: MockClock) -> float:
    """Its time, where it only jumps."""
    return clock._virtual_base


def jump(clock: MockClock) -> None:
    """To the next deadline: nobody has anything to do."""
    deadline_s = _trio_core._run.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()
    if clock._virtual_base < deadline_s < math.inf:
        clock._virtual_base = deadline_s


class NoInput(_IOManager):  # type: ignore[valid-type, misc]  # which class it is depends on the system
    """Looks only now and then whether anything came from outside."""

    _left = _POLLED_EVERY

    def get_events(self, timeout: float) -> Sequence[tuple[int, int]]:
        """What came, as the kernel tells it."""
        self._left -= 1
        if timeout <= 0 and self._left:
            return ()
        self._left = _POLLED_EVERY
        events: Sequence[tuple[int, int]] = super().get_events(timeout)
        return events
