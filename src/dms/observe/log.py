"""Logging: structured events, to the console and to a file of JSON lines (``spec/platform.md`` 5.1).

An event is a name in snake_case with fields: ``log.info("allocation_started", allocation=…)``. Nothing here loads
structlog until :func:`configure_logging` is called, so that short commands do not pay for it; before that, warnings
and errors go to standard error in plain text.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dms.observe.redact import redact

if TYPE_CHECKING:
    from structlog.typing import Processor

ROOT = "dms"
FOREIGN_LEVEL = logging.WARNING
"""Libraries below this level stay silent, unless the level is DEBUG."""

_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
_HARMFUL = re.compile("\x1b(?!\\[[0-9;]{0,28}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NAMES = {level: name for name, level in _LEVELS.items()}


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
        if self._logger.isEnabledFor(level):
            extra = {"event_fields": {**self._fields, **fields}}
            self._logger.log(level, "%s", event, exc_info=exc_info, extra=extra, stacklevel=3)


def get_logger(name: str) -> Logger:
    """The logger for a module: ``get_logger(__name__)``."""
    return Logger(name)


def level_of(name: str) -> int:
    """The number of a level's name; unknown names mean INFO."""
    return _LEVELS.get(name.upper(), logging.INFO)


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
    import structlog

    from dms.observe.rotation import RotatingFile

    stream = console or sys.stderr
    shared: list[Processor] = [_with_fields, _with_origin, _with_level, _timestamp, _Did(did), _redacted]
    to_console = logging.StreamHandler(stream)
    to_console.setLevel(level_of(console_level or level))
    to_console.setFormatter(
        _Harmless(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    _without("caller", "did"),
                    structlog.dev.ConsoleRenderer(
                        colors=stream.isatty(),
                        timestamp_key="timestamp",
                        event_key="message",
                        exception_formatter=structlog.dev.plain_traceback,
                    ),
                ],
            )
        )
    )
    handlers: list[logging.Handler] = [to_console]
    problem: OSError | None = None
    if file is not None:
        try:
            to_file = RotatingFile(file, max_size_mb=max_size_mb, max_backups=max_backups, max_age_days=max_age_days)
        except OSError as exc:
            problem = exc
        else:
            to_file.setFormatter(
                _Harmless(
                    structlog.stdlib.ProcessorFormatter(
                        foreign_pre_chain=shared,
                        processors=[
                            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                            structlog.processors.format_exc_info,
                            structlog.processors.JSONRenderer(ensure_ascii=False),
                        ],
                    )
                )
            )
            handlers.append(to_file)
    _install(handlers, level_of(level))
    if problem is not None:
        get_logger(__name__).warning("log_file_unusable", file=str(file), reason=problem.strerror)


class _Harmless(logging.Formatter):
    """Entries quote what others said: of its control characters only line breaks, tabs and colours reach a terminal."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """As the inner one, without what could act on a terminal."""
        return _HARMFUL.sub("?", self._inner.format(record))


def _install(handlers: list[logging.Handler], level: int) -> None:
    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "installed_by_dms", False)]:
        root.removeHandler(old)
        if isinstance(old, logging.FileHandler):
            old.close()
    for handler in handlers:
        handler.installed_by_dms = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(level if level <= logging.DEBUG else max(level, FOREIGN_LEVEL))
    logging.getLogger(ROOT).setLevel(level)


def _with_fields(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = entry["_record"]
    entry["message"] = entry.pop("event")
    for key, value in getattr(record, "event_fields", {}).items():
        entry[key if key not in entry else f"{key}_"] = value
    return entry


def _with_origin(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = entry["_record"]
    entry.setdefault("logger", record.name)
    entry.setdefault("caller", f"{record.filename}:{record.lineno}")
    return entry


def _with_level(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = entry["_record"]
    entry["level"] = _NAMES.get(record.levelno, record.levelname)
    return entry


def _timestamp(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record: logging.LogRecord = entry["_record"]
    moment = datetime.fromtimestamp(record.created, UTC)
    entry["timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return entry


class _Did:
    """Adds whose log this is, where an event does not say otherwise."""

    def __init__(self, did: str) -> None:
        self._did = did

    def __call__(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if self._did:
            entry.setdefault("did", self._did)
        return entry


def _redacted(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in entry.items():
        if key not in ("_record", "_from_structlog", "exc_info"):
            entry[key] = redact(value, key)
    return entry


def _without(*keys: str) -> Processor:
    def drop(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key in keys:
            entry.pop(key, None)
        return entry

    return drop
