"""Events and log entries of a running node, as they come; a node that restarts meanwhile is waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from dms.cli.client import refused
from dms.node.watch_payloads import EVENTS, LOG, EventsReply, EventsRequest, LogEntry, LogReply, LogRequest, NodeEvent
from dms.types.errors import Unavailable

if TYPE_CHECKING:
    from dms.cli.client import Client

POLL_MS = 10_000
"""How long the node may hold a question for news."""
CALL_TIMEOUT_S = 30.0
RETRY_S = 1.0

Sleep = Callable[[float], object]


class _Page(Protocol):
    @property
    def ok(self) -> bool: ...
    @property
    def error(self) -> str: ...
    @property
    def next(self) -> int: ...
    @property
    def missed(self) -> int: ...


P = TypeVar("P", bound=_Page)


def node_events(
    client: Client,
    *,
    names: tuple[str, ...] = (),
    ensemble: str = "",
    last: int = 0,
    follow: bool = False,
    sleep: Sleep = time.sleep,
) -> Iterator[NodeEvent]:
    """The events that the node still has, or the last so many, and those to come.

    :raises DMSError: the node refuses to tell.
    """

    def ask(after: int, wait_ms: int) -> EventsReply:
        request = EventsRequest(after=after, wait_ms=wait_ms, names=names, ensemble=ensemble)
        return client.call(EVENTS, request, EventsReply, timeout_s=CALL_TIMEOUT_S + wait_ms / 1000)

    for page in _pages(ask, -last if last else 0, follow=follow, sleep=sleep):
        yield from page.events


def log_entries(
    client: Client,
    *,
    level: str = "",
    logger: str = "",
    match: str = "",
    last: int = 0,
    follow: bool = False,
    sleep: Sleep = time.sleep,
) -> Iterator[LogEntry]:
    """The log entries that the node still has, or the last so many, and those to come.

    :raises DMSError: the node refuses to tell.
    """

    def ask(after: int, wait_ms: int) -> LogReply:
        request = LogRequest(after=after, wait_ms=wait_ms, level=level, logger=logger, match=match)
        return client.call(LOG, request, LogReply, timeout_s=CALL_TIMEOUT_S + wait_ms / 1000)

    for page in _pages(ask, -last if last else 0, follow=follow, sleep=sleep):
        yield from page.entries


def _pages(ask: Callable[[int, int], P], after: int, *, follow: bool, sleep: Sleep) -> Iterator[P]:
    """One page after another: all there are, then, if it is to ``follow``, each that comes."""
    wait_ms, is_waiting = 0, False
    while True:
        try:
            page = ask(after, wait_ms)
        except Unavailable as exc:
            if not (follow and wait_ms):
                raise
            if not is_waiting:
                print(f"nunet: {exc.message}; waiting for it", file=sys.stderr, flush=True)
            is_waiting = True
            sleep(RETRY_S)
            continue
        if not page.ok:
            raise refused(page.error or "the node gave no reason")
        is_waiting = False
        if page.missed:
            print(f"nunet: {page.missed} were dropped before they could be read", file=sys.stderr, flush=True)
        yield page
        is_more = page.next != after and after >= 0 and not wait_ms
        after = page.next
        if not is_more and not follow:
            return
        wait_ms = 0 if is_more else POLL_MS
