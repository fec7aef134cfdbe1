"""Ctrl-C and its relatives as a question instead of a thunderbolt.

Between the start of a process and the note that it was started there must be no exception, nor while things are put in
order after a failure. So signals are only noted, and raised where :meth:`Interruption.check` is called.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """A context in which signals wait; one that was never asked about is raised when the context ends."""

    def __init__(self) -> None:
        self._came: int | None = None
        self._before: dict[signal.Signals, Any] = {}  # a handler, or one of the constants for none

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere signals never arrive
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise what came, once.

        :raises KeyboardInterrupt: Ctrl-C.
        :raises SystemExit: another signal; the code is the usual 128 and its number.
        """
        number, self._came = self._came, None
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number is not None:
            raise SystemExit(128 + number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came = number
