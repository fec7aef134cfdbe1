"""Deployment control by users: ``/dms/node/deployment/*`` (``spec/orchestration.md`` 2.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.manifest import AllocationPlacement, NodePlacement, build_manifest
from dms.node import payloads as p
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.errors import DeploymentNotFound
from dms.orchestrator.journal import DeploymentRecord
from dms.orchestrator.messages import Reply
from dms.orchestrator.state import AllocationRecord
from dms.types.errors import BadInput, DMSError, NotFound
from dms.types.units import parse_duration_ns

NAMESPACE = "/dms/node/deployment"
MAX_LISTED = 1000
MAX_WAIT_S = 30.0
NS_PER_S = 10**9
LOG_PIECE_BYTES = 256 * 1024
STREAMS = ("stdout", "stderr")


class DeploymentBehaviours:
    """What a node answers about the deployments that it orchestrates."""

    def __init__(self, deployments: Deployments, *, clock_ns: Callable[[], int]) -> None:
        self._deployments = deployments
        self._clock_ns = clock_ns

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        table: tuple[tuple[str, Callable[[Message[Any]], Awaitable[object]], Any, Callable[[str], object]], ...] = (
            (
                "new",
                self._new,
                p.NewDeployment,
                lambda e: p.NewDeploymentReply(status="ERROR", ensemble_id="", error=e),
            ),
            ("list", self._list, p.ListRequest, _list_error),
            ("status", self._status, p.DeploymentRequest, lambda e: p.StatusReply(status="", error=e)),
            ("manifest", self._manifest, p.DeploymentRequest, lambda e: p.ManifestReply(manifest=None, error=e)),
            ("info", self._info, p.DeploymentRequest, _info_error),
            ("events", self._events, p.EventsRequest, lambda e: p.EventsReply(events=(), status="", error=e)),
            ("logs", self._logs, p.LogsRequest, lambda e: p.LogsReply(error=e)),
            ("shutdown", self._shutdown, p.DeploymentRequest, lambda e: Reply(ok=False, error=e)),
            ("prune", self._prune, p.PruneRequest, lambda e: p.OKReply(ok=False, error=e)),
            ("delete", self._delete, p.DeploymentRequest, lambda e: p.OKReply(ok=False, error=e)),
        )
        for name, handler, payload, error_reply in table:
            actor.on(f"{NAMESPACE}/{name}", handler, payload=payload, error_reply=error_reply)

    async def _new(self, message: Message[p.NewDeployment]) -> p.NewDeploymentReply:
        try:
            config = decode_ensemble(message.payload.ensemble)
            ensemble = await self._deployments.submit(config, message.expiry_ns, owner=message.sender.did.uri)
        except DMSError as exc:
            return p.NewDeploymentReply(status="ERROR", ensemble_id="", error=exc.message, hint=exc.hint)
        return p.NewDeploymentReply(status="OK", ensemble_id=ensemble)

    async def _list(self, message: Message[p.ListRequest]) -> p.ListReply:
        request = message.payload
        now_ns = self._clock_ns()
        found = [r for r in self._deployments.all() if _matches(r, request, now_ns)]
        key = (request.sort_by or "-created_at").removeprefix("-")
        order = _SORT_KEYS.get(key)
        if order is None:
            raise BadInput(f"cannot sort by {key}", hint=f"sort by one of {', '.join(_SORT_KEYS)}")
        found.sort(key=order, reverse=(request.sort_by or "-created_at").startswith("-"))
        limit = min(request.limit, MAX_LISTED) if request.limit > 0 else MAX_LISTED
        start = max(0, request.offset)
        page = found[start : start + limit]
        more = start + len(page) < len(found)
        return p.ListReply(
            deployments=tuple(_listed(r) for r in page),
            total=len(found),
            has_more=more,
            next_offset=start + len(page) if more else 0,
        )

    async def _status(self, message: Message[p.DeploymentRequest]) -> p.StatusReply:
        record = self._find(message.payload.any_id)
        return p.StatusReply(
            status=record.state.phase.value, error=record.state.error, allocation_info=_allocations(record)
        )

    async def _manifest(self, message: Message[p.DeploymentRequest]) -> p.ManifestReply:
        record = self._find(message.payload.any_id)
        return p.ManifestReply(manifest=self._manifest_of(record), error="")

    async def _info(self, message: Message[p.DeploymentRequest]) -> p.InfoReply:
        record = self._find(message.payload.any_id)
        names = set(message.payload.allocation_names or ())
        return p.InfoReply(
            id=record.id,
            status=record.state.phase.value,
            error=record.state.error,
            manifest=self._manifest_of(record),
            allocations={k: a for k, a in _allocations(record).items() if not names or k in names},
        )

    async def _events(self, message: Message[p.EventsRequest]) -> p.EventsReply:
        request = message.payload
        # the status is read before the entries: whoever sees it sees what led to it
        record = self._find(request.id)
        change = self._deployments.next_change(record.id)  # before them, too: none that comes meanwhile is missed
        entries = await self._deployments.events(record.id, request.after)
        if not entries and request.wait_ms > 0 and change is not None:
            with trio.move_on_after(min(request.wait_ms / 1000, MAX_WAIT_S)):
                await change.wait()
            record = self._find(request.id)
            entries = await self._deployments.events(record.id, request.after)
        page = entries[: p.EVENTS_PAGE]
        # an entry may be on disk a moment before the status that it leads to is in force
        told = [entry.payload["status"] for entry in page if "status" in entry.payload]
        return p.EventsReply(
            events=tuple(p.DeploymentEvent(seq=e.seq, at=e.at_ns, kind=e.kind, detail=e.payload) for e in page),
            status=told[-1] if told else record.state.phase.value,
            error="",
        )

    async def _logs(self, message: Message[p.LogsRequest]) -> p.LogsReply:
        request = message.payload
        record = self._find(request.ensemble_id)
        key = find_allocation(record, request.allocation).key
        if request.stream and request.stream not in STREAMS:
            raise BadInput(f"unknown stream {request.stream}", hint="it is stdout or stderr")
        if not request.stream:
            return p.LogsReply(written_to=str(await self._deployments.fetch_logs(record.id, key)))
        size = request.max_bytes if request.max_bytes > 0 else LOG_PIECE_BYTES
        piece = await self._deployments.read_log(
            record.id, key, request.stream, request.offset, size, since_ms=request.since_ms
        )
        return p.LogsReply(
            data=piece.data,
            next_offset=piece.next_offset,
            eof=piece.eof,
            offset=piece.offset,
            total_size=piece.total_size,
        )

    async def _shutdown(self, message: Message[p.DeploymentRequest]) -> Reply:
        record = self._find(message.payload.any_id)
        await self._deployments.live(record.id).request_shutdown()
        return Reply(ok=True)

    async def _prune(self, message: Message[p.PruneRequest]) -> p.OKReply:
        request = message.payload
        if not request.all and not request.before:
            raise BadInput("say which: before a time, or all")
        now_ns = self._clock_ns()
        limit_ns = now_ns if request.all else parse_before(request.before, now_ns)
        for record in self._deployments.all():
            if record.state.is_settled and record.state.completed_ns <= limit_ns:
                await self._deployments.delete(record.id)
        return p.OKReply(ok=True, error="")

    async def _delete(self, message: Message[p.DeploymentRequest]) -> p.OKReply:
        await self._deployments.delete(self._find(message.payload.any_id).id)
        return p.OKReply(ok=True, error="")

    def _find(self, text: str) -> DeploymentRecord:
        """By id, or by the beginning of one if only one begins so."""
        if len(text) >= MIN_PREFIX:
            found = [r for r in self._deployments.all() if r.id.startswith(text)]
            if len(found) == 1:
                return found[0]
            if len(found) > 1:
                raise BadInput(f"{len(found)} deployments begin with {text}", hint="write more of the id")
        raise DeploymentNotFound(f"deployment not found: {text}")

    def _manifest_of(self, record: DeploymentRecord) -> object:
        state = record.state
        return build_manifest(
            record.config,
            ensemble_id=record.id,
            orchestrator=self._deployments.orchestrator_handle(record.id),
            nodes={
                node: NodePlacement(bid.peer, bid.handle, bid.location, bid.addresses)
                for node, bid in state.assignment.items()
            },
            allocations={
                key: AllocationPlacement(handle=a.handle, status=a.status, ports=a.ports)
                for key, a in state.allocations.items()
            },
        )


MIN_PREFIX = 4


def find_allocation(record: DeploymentRecord, name: str) -> AllocationRecord:
    """An allocation by ``<node>.<allocation>``, by its id, or by its name.

    :raises NotFound: there is none; the hint lists those that there are.
    """
    for allocation in record.state.allocations.values():
        if name in (allocation.key, allocation.id, allocation.name):
            return allocation
    raise NotFound(
        f"allocation not found: {name}", hint=f"this deployment has {', '.join(sorted(record.state.allocations))}"
    )


def rfc3339(at_ns: int) -> str:
    """UNIX nanoseconds as RFC 3339 in UTC with milliseconds; 0 is empty."""
    if not at_ns:
        return ""
    return datetime.fromtimestamp(at_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_before(text: str, now_ns: int) -> int:
    """A moment in UNIX nanoseconds: an age (``1h``, ``7d``), RFC 3339, ``2006-01-02 15:04:05`` or ``2006-01-02``.

    :raises BadInput: none of these.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return now_ns - parse_duration_ns(text, what="time")
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * NS_PER_S)


_SORT_KEYS: dict[str, Callable[[DeploymentRecord], Any]] = {
    "created_at": lambda r: r.state.created_ns,
    "updated_at": lambda r: r.state.updated_ns,
    "completed_at": lambda r: r.state.completed_ns,
    "status": lambda r: r.state.phase.value,
    "orchestrator_id": lambda r: r.id,
}


def _matches(record: DeploymentRecord, request: p.ListRequest, now_ns: int) -> bool:
    state = record.state
    if request.status and state.phase.value.lower() not in {s.lower() for s in request.status}:
        return False
    if any(record.config.v1.metadata.get(key) != value for key, value in request.metadata.items()):
        return False
    bounds = (
        (request.created_after, state.created_ns, 1),
        (request.created_before, state.created_ns, -1),
        (request.updated_after, state.updated_ns, 1),
        (request.updated_before, state.updated_ns, -1),
    )
    return all(sign * at_ns >= sign * parse_before(text, now_ns) for text, at_ns, sign in bounds if text)


def _listed(record: DeploymentRecord) -> p.ListedDeployment:
    state = record.state
    return p.ListedDeployment(
        orchestrator_id=record.id,
        status=state.phase.value,
        created_at=rfc3339(state.created_ns),
        updated_at=rfc3339(state.updated_ns),
        completed_at=rfc3339(state.completed_ns),
        metadata=record.config.v1.metadata,
        error=state.error,
    )


def _allocations(record: DeploymentRecord) -> dict[str, p.AllocationInfo]:
    return {
        key: p.AllocationInfo(
            allocation_id=a.id,
            status=a.status,
            node_id=a.node_id,
            peer=a.peer,
            type=a.type,
            error=a.error,
            reason=a.reason,
            exit_code=a.exit_code,
            ports=a.ports,
            started_at=rfc3339(a.started_ns),
            ended_at=rfc3339(a.ended_ns),
        )
        for key, a in record.state.allocations.items()
    }


def _list_error(error: str) -> p.ListReply:
    return p.ListReply(deployments=(), total=0, has_more=False, next_offset=0, error=error)


def _info_error(error: str) -> p.InfoReply:
    return p.InfoReply(id="", status="", error=error, manifest=None, allocations={})
