"""What happens on this node, for those who watch it: events and log entries by long poll.

``/dms/node/events`` and ``/dms/node/log`` hand out pages of two rings in memory; asking again with the number of the last
item goes on where the page ended, also after a restart of the node.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.network.protocol import PeerChange, PeerEvent
from dms.node.watch_payloads import (
    EVENTS,
    LOG,
    MAX_WAIT_MS,
    PAGE,
    EventsReply,
    EventsRequest,
    LogEntry,
    LogReply,
    LogRequest,
    NodeEvent,
)
from dms.observe import catalogue
from dms.observe.deployment_events import PREFIX, deployment_event
from dms.observe.entries import LEVELS, level_of
from dms.observe.events import Event, EventBus
from dms.observe.log import add_tap
from dms.observe.redact import redact
from dms.observe.ring import Page, Ring
from dms.types.errors import BadInput
from dms.types.ids import EnsembleID

MAX_PATTERN_CHARS: Final = 200


class LogRing:
    """Keeps the last log entries of the process."""

    def __init__(self) -> None:
        self.ring = Ring()
        self._remove = add_tap(lambda _level, entry: self.ring.add(entry))

    def close(self) -> None:
        """Listen no more."""
        self._remove()


class WatchBehaviours:
    """Answers both questions. ``log``: nothing of it is told where there is none."""

    def __init__(self, events: Ring, log: Ring | None) -> None:
        self._events = events
        self._log = log

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        actor.on(EVENTS, self._on_events, payload=EventsRequest, error_reply=_events_error)
        actor.on(LOG, self._on_log, payload=LogRequest, error_reply=_log_error)

    async def _on_events(self, message: Message[EventsRequest]) -> EventsReply:
        request = message.payload
        wanted = _events_wanted(request)
        page = await _next_page(self._events, request.after, request.wait_ms, wanted)
        events = tuple(
            NodeEvent(seq=item.seq, at=item.value["at"], name=item.value["name"], fields=item.value["fields"])
            for item in page.items
        )
        return EventsReply(ok=True, events=events, next=page.next_seq, missed=page.missed)

    async def _on_log(self, message: Message[LogRequest]) -> LogReply:
        if self._log is None:
            return LogReply(ok=False, error="this node keeps no log")
        request = message.payload
        page = await _next_page(self._log, request.after, request.wait_ms, _entries_wanted(request))
        entries = tuple(LogEntry(seq=item.seq, entry=dict(item.value)) for item in page.items)
        return LogReply(ok=True, entries=entries, next=page.next_seq, missed=page.missed)


def keep_events(bus: EventBus, ring: Ring) -> Callable[[], None]:
    """Put every event of ``bus`` into ``ring``, without secrets; call the result to end that."""

    def keep(event: Event) -> None:
        if event.name != catalogue.LOG_EVENT.name:
            ring.add({"name": event.name, "at": int(event.at * 10**9), "fields": redact(event.fields)})

    return bus.listen(keep)


def tell_log(bus: EventBus) -> Callable[[], None]:
    """Tell each log entry on the bus as ``log_event``, as the original does; call the result to end that. From trio's thread."""
    token, own_thread = trio.lowlevel.current_trio_token(), threading.get_ident()

    def tell(_level: int, entry: Mapping[str, Any]) -> None:
        if threading.get_ident() == own_thread:
            bus.emit(catalogue.LOG_EVENT, **entry)
        else:
            token.run_sync_soon(lambda: bus.emit(catalogue.LOG_EVENT, **entry))

    return add_tap(tell)


def tell_peers(bus: EventBus) -> Callable[[PeerEvent], None]:
    """Tells the comings and goings of peers."""

    def tell(event: PeerEvent) -> None:
        if event.change is PeerChange.CONNECTED:
            bus.emit(catalogue.PEER_CONNECTED, peer=event.peer)
        elif event.change is PeerChange.DISCONNECTED:
            bus.emit(catalogue.PEER_DISCONNECTED, peer=event.peer)

    return tell


def tell_deployment(bus: EventBus) -> Callable[[EnsembleID, str, Mapping[str, object]], None]:
    """Tells the entries of journals."""

    def tell(ensemble: EnsembleID, kind: str, detail: Mapping[str, object]) -> None:
        event = deployment_event(kind)
        told = {"ensemble": ensemble, **detail}
        if event.name != PREFIX + kind:
            told["kind"] = kind
        bus.emit(event, **told)

    return tell


async def _next_page(ring: Ring, after: int, wait_ms: int, wanted: Callable[[Mapping[str, Any]], bool]) -> Page:
    if wait_ms < 0:
        raise BadInput("wait_ms must not be negative")
    page = ring.page(after, limit=PAGE, wanted=wanted)
    if page.items or after < 0 or not wait_ms:
        return page
    await ring.wait(page.next_seq, min(wait_ms, MAX_WAIT_MS) / 1000)
    return ring.page(after, limit=PAGE, wanted=wanted)


def _events_wanted(request: EventsRequest) -> Callable[[Mapping[str, Any]], bool]:
    names = frozenset(name for name in request.names if not name.endswith("*"))
    beginnings = tuple(name[:-1] for name in request.names if name.endswith("*"))

    def wanted(value: Mapping[str, Any]) -> bool:
        name = value["name"]
        if request.names and name not in names and not (beginnings and name.startswith(beginnings)):
            return False
        return not request.ensemble or str(value["fields"].get("ensemble", "")).startswith(request.ensemble)

    return wanted


def _entries_wanted(request: LogRequest) -> Callable[[Mapping[str, Any]], bool]:
    if request.level and request.level.upper() not in LEVELS:
        raise BadInput(f'"{request.level[:40]}" is not a level', hint=f"use one of {', '.join(LEVELS)}")
    if len(request.match) > MAX_PATTERN_CHARS:
        raise BadInput(f"the text to look for has more than {MAX_PATTERN_CHARS} characters")
    lowest = level_of(request.level) if request.level else logging.NOTSET
    text = re.compile(re.escape(request.match), re.IGNORECASE) if request.match else None

    def wanted(entry: Mapping[str, Any]) -> bool:
        if level_of(str(entry.get("level", ""))) < lowest:
            return False
        if request.logger and not f"{entry.get('logger', '')}.".startswith(f"{request.logger}."):
            return False
        return text is None or any(text.search(str(value)) is not None for value in entry.values())

    return wanted


def _events_error(error: str) -> EventsReply:
    return EventsReply(ok=False, error=error)


def _log_error(error: str) -> LogReply:
    return LogReply(ok=False, error=error)
