"""What is asked and answered about events and log entries: requests and replies of ``/dms/node/events`` and ``/dms/node/log``."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dms.types.gojson import Wire

EVENTS: Final = "/dms/node/events"
LOG: Final = "/dms/node/log"
MAX_WAIT_MS: Final = 25_000
"""A question is held no longer than this, so that it is answered before the message expires."""
PAGE: Final = 200


class EventsRequest(Wire):
    """``after``: number of the last event that is known; 0 for all there are, -N for the last N of them. ``names``: those
    events only; a name that ends in ``*`` stands for all that begin so."""

    after: int = 0
    wait_ms: int = 0
    names: tuple[str, ...] = ()
    ensemble: str = ""


class NodeEvent(Wire):
    """One event; ``at`` in UNIX nanoseconds."""

    seq: int
    at: int
    name: str
    fields: dict[str, Any] = msgspec.field(default_factory=dict)  # JSON, by the catalogue


class EventsReply(Wire):
    """``next``: what to ask for after; ``missed``: how many were dropped before they were asked for."""

    ok: bool
    events: tuple[NodeEvent, ...] = ()
    next: int = 0
    missed: int = 0
    error: str = ""


class LogRequest(Wire):
    """``after`` as in :class:`EventsRequest`; ``level`` and above only; ``logger``: of these modules; ``match``: entries that
    hold this text, whatever its case."""

    after: int = 0
    wait_ms: int = 0
    level: str = ""
    logger: str = ""
    match: str = ""


class LogEntry(Wire):
    """One entry, as the log file has it."""

    seq: int
    entry: dict[str, Any] = msgspec.field(default_factory=dict)  # JSON


class LogReply(Wire):
    """As :class:`EventsReply`."""

    ok: bool
    entries: tuple[LogEntry, ...] = ()
    next: int = 0
    missed: int = 0
    error: str = ""
