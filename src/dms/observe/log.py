"""Logging: structured events, to the console and to a file of JSON lines (``spec/platform.md`` 5.1).

An event is a name in snake_case with fields: ``log.info("allocation_started", allocation=…)``. Nothing here loads
structlog until :func:`configure_logging` is called, so that short commands do not pay for it; before that, warnings
and errors go to standard error in plain text.

Whoever wants the entries as they come adds a tap (:func:`add_tap`): the event bus and the outputs to other machines do.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from dms.observe.rotation import RotatingFile

ROOT = "dms"
FOREIGN_LEVEL = logging.WARNING
"""Libraries below this level stay silent, unless the level is DEBUG."""

Tap = Callable[[int, Mapping[str, Any]], None]
"""Takes the level and the entry, secrets removed; in the thread of whoever logs. It must not wait, and not change it."""

_taps: tuple[Tap, ...] = ()


class Logger:
    """Writes events under one name, with fields that it always adds."""

    def __init__(self, name: str, fields: Mapping[str, object] | None = None) -> None:
        self._logger = logging.getLogger(name)
        self._fields = dict(fields or {})

    def bind(self, **fields: object) -> Logger:
        """A logger that adds ``fields`` to every event."""
        return Logger(self._logger.name, {**self._fields, **fields})

    def debug(self, event: str, /, **fields: object) -> None:
        """For those who look for a defect."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """The ordinary course of things."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Something that somebody may want to look at."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Something failed."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Something failed that should not be able to: with the traceback of the exception being handled."""
        self._log(logging.ERROR, event, fields, exc_info=True)

    def is_debug(self) -> bool:
        """Whether debug events are shown, for fields that are dear to compute."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def _log(self, level: int, event: str, fields: Mapping[str, object], *, exc_info: bool = False) -> None:
        if not self._logger.isEnabledFor(level):
            return
        # made here and not by the logger, which walks the stack for the caller: half of what a line costs
        caller = sys._getframe(2)  # noqa: SLF001 (the way to it that the interpreter documents)
        record = logging.LogRecord(
            self._logger.name,
            level,
            caller.f_code.co_filename,
            caller.f_lineno,
            event,
            None,
            sys.exc_info() if exc_info else None,
            caller.f_code.co_name,
        )
        record.event_fields = {**self._fields, **fields} if self._fields else fields
        self._logger.handle(record)


def get_logger(name: str) -> Logger:
    """The logger for a module: ``get_logger(__name__)``."""
    return Logger(name)


def level_of(name: str) -> int:
    """The number of a level's name; unknown names mean INFO."""
    from dms.observe.entries import level_of

    return level_of(name)


def configure_logging(
    level: str = "INFO",
    file: Path | None = None,
    *,
    max_size_mb: int = 100,
    max_backups: int = 3,
    max_age_days: int = 28,
    did: str = "",
    console: TextIO | None = None,
    console_level: str | None = None,
) -> None:
    """Send events to the console (standard error unless given) and to ``file``; call it again to change that.

    ``did`` is added to every entry. A file that cannot be written is reported on the console, and the program goes on.
    """
    from dms.observe.console import Console
    from dms.observe.entries import entry_of, json_line
    from dms.observe.rotation import RotatingFile

    to_console = Console(console or sys.stderr, did)
    if console_level is not None:
        to_console.setLevel(level_of(console_level))
    handlers: list[logging.Handler] = [to_console]
    problem: OSError | None = None
    if file is not None:
        try:
            to_file = RotatingFile(
                file,
                max_size_mb=max_size_mb,
                max_backups=max_backups,
                max_age_days=max_age_days,
                encode=lambda record: json_line(entry_of(record, did)),
                complaints=console,
            )
        except OSError as exc:
            problem = exc
        else:
            handlers.append(to_file)
    handlers.append(_Taps(did))
    _install(handlers, level_of(level))
    if problem is not None:
        get_logger(__name__).warning("log_file_unusable", file=str(file), reason=problem.strerror)


def set_level(level: str) -> None:
    """Show events from this level on, on the console and in the file; the outputs stay as they are."""
    _set_level(level_of(level))


def log_file() -> RotatingFile | None:
    """The file that is written now."""
    from dms.observe.rotation import RotatingFile

    return next((handler for handler in _installed() if isinstance(handler, RotatingFile)), None)


def add_tap(tap: Tap) -> Callable[[], None]:
    """Have ``tap`` called with every entry that is shown, once logging is configured; call the result to end that."""
    global _taps
    _taps = (*_taps, tap)

    def remove() -> None:
        global _taps
        _taps = tuple(other for other in _taps if other is not tap)

    return remove


class _Taps(logging.Handler):
    """Hands entries on. A tap that logs something itself is not called with that; one that fails is left alone."""

    def __init__(self, did: str) -> None:
        super().__init__()
        self._did = did
        self._busy = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        from dms.observe.entries import entry_of

        if not _taps or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            entry = entry_of(record, self._did)
            for tap in _taps:
                with contextlib.suppress(Exception):
                    tap(record.levelno, entry)
        finally:
            self._busy.now = False


def _installed() -> list[logging.Handler]:
    return [h for h in logging.getLogger().handlers if getattr(h, "installed_by_dms", False)]


def _install(handlers: list[logging.Handler], level: int) -> None:
    root = logging.getLogger()
    for old in _installed():
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.installed_by_dms = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    _set_level(level)


def _set_level(level: int) -> None:
    logging.getLogger().setLevel(level if level <= logging.DEBUG else max(level, FOREIGN_LEVEL))
    logging.getLogger(ROOT).setLevel(level)
