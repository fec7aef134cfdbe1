"""Log entries: what is known of one record, in one flat object that all outputs share (``spec/platform.md`` 5.1).

Built once per record, however many outputs there are: a node that writes a line to its file pays a few microseconds for it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from dms.observe.redact import redact, redact_text
from dms.observe.tracing import is_tracing, trace_fields

Entry = dict[str, Any]  # JSON: timestamp, level, message, logger, caller, then the fields of the event

LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
NAMES = {level: name for name, level in LEVELS.items()}
MAX_TRACE_CHARS = 16_384

_OWN = frozenset({"timestamp", "level", "message", "logger", "caller", "exception"})
_CACHE = "dms_entry"
_HARMFUL = re.compile("\x1b(?!\\[[0-9;]{0,28}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_encode = msgspec.json.Encoder().encode
_formatter = logging.Formatter()
_second: tuple[int, str] = (-1, "")


def level_of(name: str) -> int:
    """The number of a level's name; unknown names mean INFO."""
    return LEVELS.get(name.upper(), logging.INFO)


def entry_of(record: logging.LogRecord, did: str = "") -> Entry:
    """The entry of a record, without secrets; ``did`` tells whose log it is, where the event does not."""
    entry: Entry | None = record.__dict__.get(_CACHE)
    if entry is not None:
        return entry
    fields: Mapping[str, object] = record.__dict__.get("event_fields", {})
    entry = {
        "timestamp": _timestamp(record.created),
        "level": NAMES.get(record.levelno, record.levelname),
        "message": redact(_text(record)),
        "logger": record.name,
        "caller": f"{record.filename}:{record.lineno}",
    }
    if did and "did" not in fields:
        entry["did"] = did
    for key, value in fields.items():
        entry[f"{key}_" if key in _OWN else key] = redact(value, key)
    if is_tracing():
        entry |= trace_fields()
    if record.exc_info and record.exc_info[0] is not None:
        trace = _formatter.formatException(record.exc_info)
        entry["exception"] = redact_text(trace[-MAX_TRACE_CHARS:])
    record.__dict__[_CACHE] = entry
    return entry


def json_line(entry: Entry) -> bytes:
    """The entry as a line of JSON that does no harm to a terminal."""
    try:
        line = _encode(entry)
        text = line.decode()
    except (msgspec.EncodeError, UnicodeEncodeError, OverflowError, TypeError, ValueError):
        text = json.dumps(entry, default=str)  # numbers and characters that JSON proper has no form for
    if not text.isascii() or "\x7f" in text:
        return harmless(text).encode("utf-8", "backslashreplace") + b"\n"
    return text.encode() + b"\n"


def harmless(text: str) -> str:
    """Entries quote what others said: of its control characters only line breaks, tabs and colours reach a terminal."""
    return _HARMFUL.sub("?", text)


def _text(record: logging.LogRecord) -> str:
    if not record.args:
        return str(record.msg)
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # a library's mistake costs the arguments
        return str(record.msg)


def _timestamp(created: float) -> str:
    global _second
    second = int(created)
    if _second[0] != second:
        _second = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
    return f"{_second[1]}{int((created - second) * 1000):03d}Z"
