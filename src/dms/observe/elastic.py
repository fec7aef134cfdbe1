"""Log entries and events to Elasticsearch, by its bulk API (``spec/platform.md`` 5.3).

Buffered, sent every few seconds, routed to indices by their labels. It waits for nobody and nobody waits for it: entries
that find no room are dropped and counted, and an outage of hours costs them and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import trio

from dms.observe import catalogue
from dms.observe.entries import json_line
from dms.observe.errors import NotDelivered
from dms.observe.events import Event, EventBus
from dms.observe.log import add_tap
from dms.observe.outbox import Outbox
from dms.observe.posting import Poster, check_status
from dms.observe.redact import redact
from dms.observe.shipper import Delivered, Shipper

NDJSON: Final = "application/x-ndjson"
LABELS: Final = frozenset({"default", "accounting", "metric", "deployment", "allocation", "node", "contract", "user"})
DEFAULT: Final = "default"
BUFFER: Final = 1_000
"""Entries that wait, at most."""
MAX_LABELS: Final = 4
_INDEX = re.compile(r"[a-z0-9][a-z0-9_.-]{0,199}")
_OWN_LOGGERS = ("httpx", "httpcore", "h11", "dms.observe.shipper", "dms.observe.posting")
"""What these say is about the delivery itself; shipped, each delivery would make the next one necessary."""

_EVENT_LABELS: Final = {
    "metric": ("statistics",),
    "deployment": ("deployment_",),
    "allocation": ("allocation_", "bid_", "resources_"),
    "user": ("anchors_", "settings_", "logging_"),
    "node": ("node_", "peer_", "machine_", "revocations_", "health_", "output_"),
}


class Line:
    """One document: its index, and its JSON."""

    __slots__ = ("document", "index")

    def __init__(self, index: str, document: bytes) -> None:
        self.index = index
        self.document = document


class ElasticOutput:
    """One Elasticsearch; :meth:`run` it, and what is logged is sent there.

    :param index: for what has no label, or the label ``default``.
    """

    def __init__(
        self,
        poster: Poster,
        index: str,
        events: EventBus,
        *,
        did: str = "",
        interval_s: float = 5.0,
        buffer: int = BUFFER,
    ) -> None:
        self._poster = poster
        self._index = index
        self._events = events
        self._did = did
        self.outbox: Outbox[Line] = Outbox(max_items=buffer)
        self.shipper = Shipper(
            "elastic", self.outbox, self._deliver, events, check=self._preflight, interval_s=interval_s
        )

    def problem(self) -> str:
        """What is wrong with it; empty: nothing is."""
        return self.shipper.outage.problem

    async def run(self) -> None:
        """Collect and send until cancelled."""
        stops: list[Callable[[], None]] = [add_tap(self.take), self._events.listen(self.take_event)]
        try:
            await self.shipper.run()
        finally:
            for stop in stops:
                stop()
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self._poster.aclose()

    def take(self, _level: int, entry: Mapping[str, Any]) -> None:
        """A log entry; from any thread."""
        if str(entry.get("logger", "")).startswith(_OWN_LOGGERS):
            return
        for index in indices_of(entry, self._index):
            self._put(index, entry)

    def take_event(self, event: Event) -> None:
        """An event of the bus, labelled by its name."""
        if event.name == catalogue.LOG_EVENT.name:
            return
        label = next((label for label, starts in _EVENT_LABELS.items() if event.name.startswith(starts)), DEFAULT)
        shown = redact(event.fields)
        document = {
            "timestamp": _rfc3339(event.at),
            "level": "INFO",
            "message": event.name,
            "logger": "dms.events",
            "labels": [label],
            **{
                f"{k}_" if k in ("timestamp", "level", "message", "logger", "labels") else k: v
                for k, v in shown.items()
            },
        }
        if self._did:
            document.setdefault("did", self._did)
        self._put(index_of(label, self._index), document)

    def _put(self, index: str, document: Mapping[str, Any]) -> None:
        shipped = {key: value for key, value in document.items() if key not in ("es_skip", "es_index")}
        line = json_line(shipped | {"@timestamp": document.get("timestamp")})
        self.outbox.offer(Line(index, line), len(line))

    async def _preflight(self) -> None:
        status, answer = await self._poster.ask("GET", "")
        check_status(self._poster.url, status, answer)

    async def _deliver(self, lines: Sequence[Line]) -> Delivered:
        body = b"".join(b'{"create":{"_index":"%s"}}\n%s' % (line.index.encode(), line.document) for line in lines)
        answer = await self._poster.post("/_bulk", body, NDJSON)
        return outcome(answer, len(lines))


def outcome(answer: bytes, count: int) -> Delivered:
    """What the bulk API says of each document: those that it had no room for are sent again, others are lost.

    :raises NotDelivered: it makes no sense.
    """
    try:
        result = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise NotDelivered("the answer is not that of a bulk API") from None
    if not result.get("errors"):
        return Delivered()
    items = result.get("items")
    if not isinstance(items, list) or len(items) != count:
        raise NotDelivered("the answer does not tell of each entry")
    again, rejected, why = set(), 0, ""
    for place, item in enumerate(items):
        told: Any = next(iter(item.values()), {}) if isinstance(item, dict) else {}  # JSON
        status = told.get("status", 500) if isinstance(told, dict) else 500
        if isinstance(status, int) and 200 <= status < 300:
            continue
        error = told.get("error") if isinstance(told, dict) else None
        why = why or str(error.get("reason", error) if isinstance(error, dict) else error or status)[:300]
        if status == 429 or (isinstance(status, int) and status >= 500):
            again.add(place)
        elif status != 409:  # it is there already: an answer was lost
            rejected += 1
    return Delivered(rejected=rejected, why=why, again=frozenset(again))


def indices_of(entry: Mapping[str, Any], default: str) -> tuple[str, ...]:
    """Where an entry goes: nowhere with ``es_skip``, to ``es_index`` if that names one, else where its labels send it."""
    if entry.get("es_skip") in (True, "true"):
        return ()
    named = entry.get("es_index")
    if isinstance(named, str) and _INDEX.fullmatch(named):
        return (named,)
    labels = entry.get("labels")
    given = [labels] if isinstance(labels, str) else labels if isinstance(labels, list) else []
    known = [label for label in given[:MAX_LABELS] if isinstance(label, str) and label in LABELS]
    return tuple(dict.fromkeys(index_of(label, default) for label in known)) or (default,)


def index_of(label: str, default: str) -> str:
    """``accounting`` goes to ``accounting-index``; ``default`` to the configured one."""
    return default if label == DEFAULT else f"{label}-index"


def _rfc3339(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
