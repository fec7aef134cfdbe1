"""The provider's side of a deployment: bid, commit, allocate, revert, logs, shutdown (``spec/orchestration.md`` 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.envelope import Envelope
from dms.actor.handle import Handle
from dms.allocation.allocation import Allocation
from dms.capability.errors import NotAuthorized
from dms.executor.logs import LOST
from dms.executor.protocol import Executor
from dms.node.bidding import Bidder, Offerings
from dms.node.edges import EdgeMeter
from dms.node.errors import NoBid
from dms.node.hosting import Hosting
from dms.node.order import RequestOrder
from dms.node.private_networks import PrivateNetworks
from dms.node.reach import ReachBehaviour
from dms.node.reservations import Reservations
from dms.node.telling import Teller
from dms.node.worklog import WorkLog
from dms.observe import catalogue, get_logger
from dms.orchestrator import messages
from dms.orchestrator.logs.finding import MAX_PIECE_BYTES, piece_bytes, read_piece
from dms.resources.capability import HardwareCapability
from dms.resources.manager import ResourceManager
from dms.resources.ports import PortAllocator
from dms.types.errors import DMSError
from dms.types.ids import AllocationID, EnsembleID
from dms.types.places import Place
from dms.types.resources import GPU, Location

MAX_BESIDE = 256
"""Allocations for which room is left while one is committed."""
SWEEP_INTERVAL_S = 60.0
WHOLE_LOG_BYTES = 128 * 1024
"""Of the end of each log, when it is asked for whole."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """Where this machine says that it is, what workloads may do, and what else its owner says of it."""

    location: Location
    position: Place | None = None
    allow_privileged: bool = False
    declared: HardwareCapability = field(default_factory=HardwareCapability)
    tells_reasons: bool = True
    """Whether who may deploy here is told why there is no bid."""
    work_log: Path | None = None
    """Where the diary of bids is kept; ``None``: in memory only."""


class Provider:
    """Hosts allocations for orchestrators that hold the capability."""

    def __init__(
        self,
        root: Actor,
        resources: ResourceManager,
        ports: PortAllocator,
        reservations: Reservations,
        hosting: Hosting,
        networks: PrivateNetworks,
        executors: Mapping[str, Executor],
        options: ProviderOptions,
    ) -> None:
        self._root = root
        self._resources = resources
        self._ports = ports
        self._reservations = reservations
        self._hosting = hosting
        self._networks = networks
        self._executors = executors
        self._options = options
        self._recovered = False
        self._locks: dict[EnsembleID, trio.Lock] = {}
        self._served: set[EnsembleID] = set()
        """Those whose logs and shutdown this node answers for."""
        self._teller = Teller(root.security, is_willing=options.tells_reasons)
        self.bidder = Bidder(root, self, work=WorkLog(options.work_log), teller=self._teller)
        self._order = RequestOrder()
        self.edges = EdgeMeter(root, self.bidder)

    def follow(self, options: ProviderOptions) -> None:
        """Bid by other options from now on; the diary stays where it is."""
        self._options = options
        self._teller.is_willing = options.tells_reasons

    def register(self) -> None:
        """Answer on the root actor."""
        self._root.on(
            messages.BID_REQUEST,
            self.bidder.on_request,
            payload=messages.BidRequest,
            topic=messages.BID_REQUEST_TOPIC,
            on_denied=self._on_denied,
        )
        self.edges.register()
        self._root.on(messages.COMMIT, self._on_commit, payload=messages.CommitRequest)
        self._root.on(messages.ALLOCATE, self._on_allocate, payload=messages.AllocateRequest)
        self._root.on(messages.REVERT, self._on_revert, payload=messages.RevertRequest)
        ReachBehaviour(self._root).register()

    async def restore(self) -> None:
        """After a restart, and before any bid: find again what was promised and what runs."""
        await self.bidder.work.load()
        await self._reservations.load()
        await self._networks.restore()
        await self._hosting.restore()
        await self._networks.sweep()
        for allocation in self._hosting:
            self._register_ensemble(allocation.spec.ensemble_id)
        self._recovered = True

    async def tidy(self) -> None:
        """Give back what expired."""
        self.bidder.sweep()
        self._order.sweep(trio.current_time())
        self.bidder.work.sweep(self._root.security.now_ns())
        await self.bidder.work.save()
        expired = await self._reservations.sweep()
        if expired:
            log.info("reservations_expired", count=expired)
        await self._hosting.sweep()
        await self._networks.sweep()
        for ensemble in tuple(self._served):
            self._unregister_if_empty(ensemble)
        self._locks = {k: lock for k, lock in self._locks.items() if lock.locked()}

    @property
    def is_recovered(self) -> bool:
        """Whether everything of an earlier life was found again."""
        return self._recovered

    @property
    def executors(self) -> frozenset[str]:
        """What can run here."""
        return frozenset(self._executors)

    async def offerings(self) -> Offerings | None:
        """What this machine has now; ``None`` when it offers nothing."""
        onboarded = self._resources.onboarded
        if not self._recovered or onboarded is None:
            return None
        return Offerings(
            peer=self._root.network.peer_id,
            executors=frozenset(self._executors),
            machine=onboarded,
            free=await self._resources.available(),
            location=self._options.location,
            position=self._options.position,
            ports=self._ports.check,
            allow_privileged=self._options.allow_privileged,
            lacks_network=self._networks.lacks,
            declared=self._options.declared,
        )

    # behaviours ----------------------------------------------------------------------------------------------------

    async def _on_commit(self, message: Message[messages.CommitRequest]) -> messages.CommitReply:
        request = message.payload
        try:
            async with self._lock(request.ensemble_id):
                expiry_ns = self.bidder.check(request.ensemble_id, request.node_id, message.sender.id)
                self._in_order(message, request.ensemble_id, request.allocation_id)
                existing = self._hosting.find(request.ensemble_id, request.allocation_id)
                if existing is not None and existing.spec.orchestrator.id != message.sender.id:
                    raise NoBid(f"the allocation is somebody else's: {request.allocation_id}")
                if existing is not None and not existing.view.state.is_final:  # the revert of an attempt was lost
                    return messages.CommitReply(ok=True, port_mapping=existing.spec.ports, expiry_ns=expiry_ns)
                if existing is not None:
                    await self._hosting.discard(existing)
                beside = self._still_wanted(request)
                held = await self._reservations.commit(request, message.sender, expiry_ns, beside=beside)
        except DMSError as exc:
            return messages.CommitReply(ok=False, error=exc.message)
        self.bidder.work.committed(request.ensemble_id, self._root.security.now_ns())
        self._root.events.emit(
            catalogue.RESOURCES_COMMITTED,
            ensemble=request.ensemble_id,
            allocation=request.allocation_id,
            orchestrator=message.peer,
            cores=held.resources.cpu.cores,
            ram_bytes=held.resources.ram.size,
            disk_bytes=held.resources.disk.size,
            gpus=len(held.resources.gpus),
        )
        return messages.CommitReply(ok=True, port_mapping=held.ports, expiry_ns=held.expiry_ns)

    async def _on_allocate(self, message: Message[messages.AllocateRequest]) -> messages.AllocateReply:
        request, sender = message.payload, message.sender.id
        handles = {}
        try:
            async with self._lock(request.ensemble_id):
                for id_, order in request.allocations.items():
                    self._in_order(message, request.ensemble_id, id_)
                    existing = self._hosting.find(request.ensemble_id, id_)
                    if existing is not None and existing.spec.orchestrator.id == sender:
                        handles[id_] = existing.actor.handle
                        continue
                    reservation = self._reservations.get(AllocationID(id_), sender)
                    handles[id_] = await self._hosting.allocate(reservation, order)
                self._register_ensemble(request.ensemble_id)
        except DMSError as exc:
            return messages.AllocateReply(ok=False, error=exc.message)
        return messages.AllocateReply(ok=True, allocations=handles)

    async def _on_revert(self, message: Message[messages.RevertRequest]) -> messages.Reply:
        request, sender, number = message.payload, message.sender.id, message.envelope.nonce
        only = frozenset(request.allocation_ids or ())

        def is_meant(id_: AllocationID) -> bool:
            is_newer = self._order.is_overtaken(request.ensemble_id, sender, id_, number)
            return not is_newer and (not only or id_ in only)

        async with self._lock(request.ensemble_id):
            self._order.revert(request.ensemble_id, sender, only, number, trio.current_time())
            reservations = self._reservations.of(request.ensemble_id, sender)
            allocations = tuple(self._hosting.of(request.ensemble_id, sender))
            for reservation in reservations:
                if is_meant(reservation.allocation_id):
                    await self._reservations.release(reservation)
            for allocation in allocations:
                if is_meant(allocation.spec.id):
                    await self._hosting.discard(allocation)
            held = [*(r.allocation_id for r in reservations), *(a.spec.id for a in allocations)]
            if not only and all(is_meant(id_) for id_ in held):
                self.bidder.forget(request.ensemble_id, sender)
                self._unregister_if_empty(request.ensemble_id)
        return messages.Reply(ok=True)

    def _in_order(self, message: Message[Any], ensemble: EnsembleID, allocation: str) -> None:
        number = message.envelope.nonce
        self._order.make(ensemble, message.sender.id, allocation, number, trio.current_time())

    def _on_denied(self, envelope: Envelope, error: NotAuthorized) -> None:
        sender = envelope.from_
        now_ns = self._root.security.now_ns()
        self.bidder.work.denied(sender.addr.host, sender.did.uri, now_ns, error.message, error.hint)

    def _still_wanted(self, request: messages.CommitRequest) -> tuple[tuple[GPU, ...], ...]:
        """The GPUs for which room must be left: of the other allocations of the deployment, as far as they are to come
        here, or else of the node, that have none yet."""
        taken = self._resources.commitments.keys() | self._resources.allocations.keys()
        if request.beside:
            told = list(request.beside.items())[:MAX_BESIDE]
            return tuple(gpus for id_, gpus in told if id_ != request.allocation_id and id_ not in taken)
        wants = self.bidder.wants(request.ensemble_id, request.node_id)
        ids = {name: AllocationID(f"{request.ensemble_id}_{request.node_id}.{name}") for name in wants}
        return tuple(
            wants[name].gpus
            for name, id_ in ids.items()
            if id_ != request.allocation_id
            and id_ not in self._resources.commitments
            and id_ not in self._resources.allocations
        )

    def _register_ensemble(self, ensemble: EnsembleID) -> None:
        async def on_logs(message: Message[messages.AllocationLogsRequest]) -> messages.AllocationLogsReply:
            return await self._logs(ensemble, message.payload, message.sender)

        async def on_shutdown(message: Message[messages.ShutdownAllocationRequest]) -> messages.Reply:
            allocation = self._hosting.find(ensemble, message.payload.allocation_id)
            if allocation is not None and allocation.spec.orchestrator.id == message.sender.id:
                await allocation.shutdown("shut down by its orchestrator", quiet=True)
                return messages.Reply(ok=True, error=allocation.lost)
            return messages.Reply(ok=True)

        self._root.on(
            messages.ensemble_logs(ensemble),
            on_logs,
            payload=messages.AllocationLogsRequest,
            error_reply=lambda error: messages.AllocationLogsReply(error=error),
        )
        self._served.add(ensemble)
        self._networks.serve(ensemble)
        self._root.on(messages.ensemble_shutdown(ensemble), on_shutdown, payload=messages.ShutdownAllocationRequest)

    def _unregister_if_empty(self, ensemble: EnsembleID) -> None:
        if not any(a.spec.ensemble_id == ensemble for a in self._hosting):
            self._served.discard(ensemble)
            self._root.off(messages.ensemble_logs(ensemble))
            self._root.off(messages.ensemble_shutdown(ensemble))
            self._networks.stop_serving(ensemble)

    async def _logs(
        self, ensemble: EnsembleID, request: messages.AllocationLogsRequest, sender: Handle
    ) -> messages.AllocationLogsReply:
        allocation = self._hosting.find(ensemble, request.allocation)
        if allocation is None or allocation.spec.orchestrator.id != sender.id:
            return messages.AllocationLogsReply(error=f"allocation not found: {request.allocation}")
        if request.stream in ("stdout", "stderr"):
            most = piece_bytes(self._root.network.message_limit_bytes(sender.addr.host))
            size = min(request.max_bytes if request.max_bytes > 0 else MAX_PIECE_BYTES, most)
            return await _piece(allocation, request.stream, request.offset, size, request.since_ms)
        out = await _tail(allocation, "stdout")
        err = await _tail(allocation, "stderr")
        if not out and not err:
            return messages.AllocationLogsReply(error="the logs are empty")
        return messages.AllocationLogsReply(stdout=out, stderr=err)

    def _lock(self, ensemble: EnsembleID) -> trio.Lock:
        return self._locks.setdefault(ensemble, trio.Lock())


async def _piece(
    allocation: Allocation, stream: str, offset: int, size: int, since_ms: int = 0
) -> messages.AllocationLogsReply:
    # whether it is over must be known before the file is read, or the last lines could be missed
    is_over = allocation.view.state.is_final
    path = allocation.results_dir / f"{stream}.log"
    return await trio.to_thread.run_sync(
        lambda: read_piece(path, offset, size, is_over=is_over, since_ms=since_ms, most=size)
    )


async def _tail(allocation: Allocation, stream: str) -> bytes:
    piece = await _piece(allocation, stream, -WHOLE_LOG_BYTES, WHOLE_LOG_BYTES)
    told = piece.data
    while piece.data and piece.next_offset < piece.total_size and len(told) < WHOLE_LOG_BYTES:
        place = piece.next_offset
        piece = await _piece(allocation, stream, place, WHOLE_LOG_BYTES)
        told += (LOST if piece.offset > place else b"") + piece.data
    return told[-WHOLE_LOG_BYTES:]
