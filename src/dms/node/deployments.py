"""Deployment control by users: ``/dms/node/deployment/*`` (``spec/orchestration.md`` 2.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.manifest import AllocationPlacement, NodePlacement, build_manifest
from dms.node import payloads as p
from dms.node.finding import find_allocation, find_deployment, find_key
from dms.node.inspection import Detail, describe, describe_all
from dms.node.listing import listing, parse_before, rfc3339
from dms.node.nearness import filter_of
from dms.node.usage import usage_of
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.journal import DeploymentRecord
from dms.orchestrator.messages import AllocationLogsReply, Reply
from dms.orchestrator.scheduling.queueing import is_queued
from dms.types.errors import BadInput, DMSError, NotFound

NAMESPACE = "/dms/node/deployment"
MAX_WAIT_S = 30.0
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
            ("network", self._network, p.DeploymentRequest, lambda e: p.NetworkReply(error=e)),
            ("events", self._events, p.EventsRequest, lambda e: p.EventsReply(events=(), status="", error=e)),
            ("logs", self._logs, p.LogsRequest, lambda e: p.LogsReply(error=e)),
            ("restart", self._restart, p.RestartRequest, lambda e: p.RestartReply(ok=False, error=e)),
            ("shutdown", self._shutdown, p.DeploymentRequest, lambda e: Reply(ok=False, error=e)),
            ("prune", self._prune, p.PruneRequest, lambda e: p.PruneReply(ok=False, error=e)),
            ("delete", self._delete, p.DeploymentRequest, lambda e: p.OKReply(ok=False, error=e)),
        )
        for name, handler, payload, error_reply in table:
            actor.on(f"{NAMESPACE}/{name}", handler, payload=payload, error_reply=error_reply)

    async def _new(self, message: Message[p.NewDeployment]) -> p.NewDeploymentReply:
        try:
            config = decode_ensemble(message.payload.ensemble)
            ensemble = await self._deployments.submit(
                config,
                message.expiry_ns,
                owner=message.sender.did.uri,
                queue_for_s=message.payload.queue_timeout_ms / 1000,
                run_for_s=message.payload.run_for_ms / 1000,
                only_peers=message.payload.peers or (),
                choice=filter_of(message.payload.choice) if message.payload.choice is not None else None,
            )
        except DMSError as exc:
            return p.NewDeploymentReply(status="ERROR", ensemble_id="", error=exc.message, hint=exc.hint)
        return p.NewDeploymentReply(status="OK", ensemble_id=ensemble)

    async def _list(self, message: Message[p.ListRequest]) -> p.ListReply:
        return listing(self._deployments.all(), message.payload, self._clock_ns())

    async def _status(self, message: Message[p.DeploymentRequest]) -> p.StatusReply:
        record = self._find(message.payload.any_id)
        told = await describe_all(self._deployments, record, Detail(usage=message.payload.include_usage))
        state = record.state
        return p.StatusReply(
            status=state.status,
            error=state.error,
            allocation_info=told.allocations,
            allocation_usage={k: usage_of(a.executor_stats) for k, a in told.allocations.items() if a.executor_stats},
            queued_since=rfc3339(state.queued_ns if is_queued(state) else 0),
            queued_until=rfc3339(state.terms.queue_until_ns if is_queued(state) else 0),
            ends_at=rfc3339(state.ends_ns),
            version=state.version,
        )

    async def _manifest(self, message: Message[p.DeploymentRequest]) -> p.ManifestReply:
        record = self._find(message.payload.any_id)
        return p.ManifestReply(manifest=self._manifest_of(record), error="")

    async def _info(self, message: Message[p.DeploymentRequest]) -> p.InfoReply:
        request = message.payload
        record = self._find(request.any_id)
        wanted = Detail(
            usage=request.include_usage, logs=request.include_logs, names=frozenset(request.allocation_names or ())
        )
        return await describe(self._deployments, record, wanted, self._manifest_of(record))

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
            status=told[-1] if told else record.state.status,
            error="",
        )

    async def _logs(self, message: Message[p.LogsRequest]) -> p.LogsReply:
        request = message.payload
        record = self._find(request.ensemble_id)
        if request.stream and request.stream not in STREAMS:
            raise BadInput(f"unknown stream {request.stream}", hint="it is stdout or stderr")
        if request.version and request.version != record.state.version:
            return await self._kept_logs(record, request)
        if request.version and not request.allocation:
            return p.LogsReply(allocations=tuple(sorted(record.state.allocations)))
        key = find_allocation(record, request.allocation).key
        if not request.stream:
            return p.LogsReply(written_to=str(await self._deployments.fetch_logs(record.id, key)))
        size = request.max_bytes if request.max_bytes > 0 else LOG_PIECE_BYTES
        piece = await self._deployments.read_log(
            record.id, key, request.stream, request.offset, size, since_ms=request.since_ms
        )
        return _reply_of(piece)

    async def _kept_logs(self, record: DeploymentRecord, request: p.LogsRequest) -> p.LogsReply:
        """Of what an update took away."""
        keys = await self._deployments.kept_logs(record.id, request.version)
        if not keys:
            hint = "kept are those of what an update, or its way back, took away: nunet versions ID"
            raise NotFound(f"no logs of version {request.version} are kept", hint=hint)
        if not request.allocation:
            return p.LogsReply(allocations=keys)
        key = find_key(keys, request.allocation)
        if not request.stream:
            return p.LogsReply(written_to=str(self._deployments.kept_folder(record.id, request.version, key)))
        size = request.max_bytes if request.max_bytes > 0 else LOG_PIECE_BYTES
        return _reply_of(
            await self._deployments.read_kept_log(record.id, request.version, key, request.stream, request.offset, size)
        )

    async def _restart(self, message: Message[p.RestartRequest]) -> p.RestartReply:
        request = message.payload
        try:
            record = self._find(request.id)
            keys = [find_allocation(record, name).key for name in request.allocation_names or ()]
            restarted = await self._deployments.live(record.id).orders.restart(keys)
        except DMSError as exc:
            return p.RestartReply(ok=False, error=exc.message, hint=exc.hint)
        return p.RestartReply(ok=True, allocations=restarted)

    async def _shutdown(self, message: Message[p.DeploymentRequest]) -> Reply:
        record = self._find(message.payload.any_id)
        await self._deployments.live(record.id).orders.shutdown()
        return Reply(ok=True)

    async def _prune(self, message: Message[p.PruneRequest]) -> p.PruneReply:
        request = message.payload
        if request.all == bool(request.before):
            raise BadInput("say which: before a time, or all")
        now_ns = self._clock_ns()
        limit_ns = now_ns if request.all else parse_before(request.before, now_ns)
        pruned = await self._deployments.prune(limit_ns, dry_run=request.dry_run)
        return p.PruneReply(ok=True, error="", pruned=pruned)

    async def _delete(self, message: Message[p.DeploymentRequest]) -> p.OKReply:
        await self._deployments.delete(self._find(message.payload.any_id).id)
        return p.OKReply(ok=True, error="")

    def _find(self, text: str) -> DeploymentRecord:
        return find_deployment(self._deployments, text)

    async def _network(self, message: Message[p.DeploymentRequest]) -> p.NetworkReply:
        record = self._find(message.payload.any_id)
        live = self._deployments.live(record.id)
        if live.state.network is None:
            return p.NetworkReply(error="this deployment has no private network, or not yet")
        return p.NetworkReply(
            cidr=live.state.network.cidr, names=live.private_names(), machines=await live.network_reports()
        )

    def _manifest_of(self, record: DeploymentRecord) -> object:
        state, address = record.state, self._deployments.private_address
        return build_manifest(
            record.config,
            ensemble_id=record.id,
            version=state.version,
            orchestrator=self._deployments.orchestrator_handle(record.id),
            nodes={
                node: NodePlacement(bid.peer, bid.handle, bid.location, bid.addresses)
                for node, bid in state.assignment.items()
            },
            allocations={
                key: AllocationPlacement(
                    handle=a.handle, status=a.status, ports=a.ports, id=a.id, priv_addr=address(record.id, key)
                )
                for key, a in state.allocations.items()
            },
        )


def _list_error(error: str) -> p.ListReply:
    return p.ListReply(deployments=(), total=0, has_more=False, next_offset=0, error=error)


def _info_error(error: str) -> p.InfoReply:
    return p.InfoReply(id="", status="", error=error, manifest=None, allocations={})


def _reply_of(piece: AllocationLogsReply) -> p.LogsReply:
    return p.LogsReply(
        data=piece.data,
        next_offset=piece.next_offset,
        eof=piece.eof,
        offset=piece.offset,
        total_size=piece.total_size,
    )
