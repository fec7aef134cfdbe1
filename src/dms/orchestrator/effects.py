"""What a deployment asks of others: reservations, starts, logs, the end. No decisions are taken here.

Each function talks to the peers of an assignment side by side, with a deadline each, and returns what they said; a
peer that does not answer is an answer too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from dms.actor.handle import Handle
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.keys import key_scripts
from dms.orchestrator import messages
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.errors import NothingToRead
from dms.orchestrator.insisting import insist
from dms.orchestrator.lifecycle.events import Allocated, Committed
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState, Left
from dms.orchestrator.lifecycle.strategies import is_restartable
from dms.orchestrator.logs.finding import MAX_KEPT_BYTES, LogCopy, piece_bytes
from dms.orchestrator.udp_ports import udp_ports
from dms.types import gojson
from dms.types.errors import DMSError
from dms.types.ids import AllocationID, PeerID
from dms.types.resources import GPU

MAX_REASON_CHARS = 500
COMMIT_TIMEOUT_S = 3.0
ALLOCATE_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 15.0
SHUTDOWN_TRIES = 3
LOG_TIMEOUT_S = 30.0

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


# commit and allocate -------------------------------------------------------------------------------------------------


async def commit_all(ctx: Context, state: DeploymentState) -> dict[str, Committed]:
    """Ask every chosen peer to reserve for each of its allocations; all at once."""
    timeout_s = COMMIT_TIMEOUT_S * max(1, len(state.allocations))

    async def commit(_key: str, record: AllocationRecord) -> Committed:
        allocation = ctx.config.v1.allocations[record.name]
        ports = [p for p in ctx.config.v1.nodes[record.node_id].ports if p.allocation == record.name]
        request = messages.CommitRequest(
            ensemble_id=ctx.ensemble,
            allocation_id=record.id,
            node_id=record.node_id,
            resources=gojson.convert(
                gojson.to_builtins(allocation.resources) | {"allocationID": record.id}, messages.CommitResources
            ),
            port_mapping={str(p.public): p.private for p in ports if p.public},
            dynamic_ports=tuple(p.private for p in ports if not p.public),
            beside=_beside(ctx.config, state, record),
        )
        handle = state.assignment[record.node_id].handle
        try:
            reply = await ctx.actor.invoke(handle, messages.COMMIT, request, messages.CommitReply, timeout_s=timeout_s)
        except DMSError as exc:
            return Committed(ok=False, error=exc.message)
        return Committed(ok=reply.ok, error=reply.error, ports=reply.port_mapping or request.port_mapping)

    return await _each(state.allocations, commit)


def _beside(config: EnsembleConfig, state: DeploymentState, record: AllocationRecord) -> dict[str, tuple[GPU, ...]]:
    """What the other allocations on the same machine want of its GPUs, if this one wants any."""
    if not config.v1.allocations[record.name].resources.gpus:
        return {}
    peer = state.assignment[record.node_id].peer
    hosted = [other for other in state.allocations.values() if other.node_id in state.assignment]
    return {
        other.id: gpus
        for other in hosted
        if other.id != record.id
        and state.assignment[other.node_id].peer == peer
        and (gpus := config.v1.allocations[other.name].resources.gpus)
    }


async def allocate_all(ctx: Context, state: DeploymentState) -> dict[str, Allocated]:
    """Have every chosen peer make its allocations; all at once."""

    async def allocate(node: str, bid: Bid) -> Allocated:
        records = [r for r in state.allocations.values() if r.node_id == node]
        request = messages.AllocateRequest(
            ensemble_id=ctx.ensemble, node_id=node, allocations={r.id: _order(ctx, r) for r in records}
        )
        try:
            reply = await ctx.actor.invoke(
                bid.handle,
                messages.ALLOCATE,
                request,
                messages.AllocateReply,
                timeout_s=ALLOCATE_TIMEOUT_S * max(1, len(records)),
            )
        except DMSError as exc:
            return Allocated(ok=False, error=exc.message)
        return Allocated(ok=reply.ok, error=reply.error, handles=reply.allocations)

    return await _each(state.assignment, allocate)


def _order(ctx: Context, record: AllocationRecord) -> messages.AllocationOrder:
    config = ctx.config
    allocation = config.v1.allocations[record.name]
    keys = key_scripts(allocation)
    return messages.AllocationOrder(
        type=allocation.type,
        executor=allocation.executor,
        resources=allocation.resources,
        execution=allocation.execution,
        provision_scripts=keys | {script: config.v1.scripts[script] for script in allocation.provision},
        provision_order=(*keys, *allocation.provision),
        volumes=allocation.volume,
        recoverable=is_restartable(ctx.whole or config, record.standby_for or record.node_id, record.name),
        udp_ports=udp_ports(config, record),
        standby=record.is_standby,
        needs_network=config.v1.subnet is not None and config.v1.subnet.required,
    )


async def revert(ctx: Context, bids: Iterable[Bid]) -> tuple[str, ...]:
    """Have peers give back everything; those that said that they did. Others may let it expire."""
    handles = {bid.peer: bid.handle for bid in bids}
    request = messages.RevertRequest(ensemble_id=ctx.ensemble)

    async def tell(peer: PeerID, handle: Handle) -> bool:
        try:
            reply = await ctx.actor.invoke(
                handle, messages.REVERT, request, messages.Reply, timeout_s=SHUTDOWN_TIMEOUT_S
            )
        except DMSError as exc:
            await ctx.note("revert_unanswered", {"peer": peer, "reason": exc.message})
            return False
        return reply.ok

    return tuple(sorted(peer for peer, done in (await _each(handles, tell)).items() if done))


# the end -------------------------------------------------------------------------------------------------------------


async def end_lost(ctx: Context, state: DeploymentState, key: str) -> None:
    """Have the provider end an allocation of which nothing was heard, in case that it still runs."""
    record = state.allocations[key]
    bid = state.assignment.get(record.node_id)
    if bid is None:
        return
    try:
        await _end(ctx, record, bid)
    except DMSError as exc:
        await ctx.note("shutdown_unanswered", {"allocation": key, "peer": bid.peer, "reason": exc.message})


async def shutdown_all(ctx: Context, state: DeploymentState) -> tuple[tuple[str, ...], dict[str, str]]:
    """End every allocation that has not ended; the keys of those whose provider could not be reached, and of those
    whose outputs are lost, with the reason."""
    unreached: list[str] = []
    lost: dict[str, str] = {}

    async def end(_key: str, record: AllocationRecord) -> None:
        bid = state.assignment.get(record.node_id)
        if bid is None:
            return
        for attempt in range(SHUTDOWN_TRIES):
            try:
                if reason := await _end(ctx, record, bid):
                    lost[record.key] = reason
                return
            except DMSError as exc:
                await ctx.note(
                    "shutdown_unanswered", {"allocation": record.key, "peer": bid.peer, "reason": exc.message}
                )
                await trio.sleep(2.0**attempt)
        unreached.append(record.key)

    running = {key: r for key, r in state.allocations.items() if not r.is_over and r.handle is not None}
    await _each(running, end)
    reserved_only = {r.node_id for r in state.allocations.values() if r.handle is None}
    await revert(ctx, [bid for node, bid in state.assignment.items() if node in reserved_only])
    return tuple(sorted(unreached)), lost


async def _end(ctx: Context, record: AllocationRecord, bid: Bid) -> str:
    """End one; why its outputs are lost, if they are."""
    request = messages.ShutdownAllocationRequest(allocation_id=record.id)
    behaviour = messages.ensemble_shutdown(ctx.ensemble)
    reply = await insist(ctx.actor, bid.handle, behaviour, request, messages.Reply, timeout_s=SHUTDOWN_TIMEOUT_S)
    return reply.error[:MAX_REASON_CHARS]


# logs ----------------------------------------------------------------------------------------------------------------


async def read_log(
    ctx: Context,
    state: DeploymentState,
    key: str,
    stream: str,
    offset: int,
    max_bytes: int = 0,
    since_ms: int = 0,
) -> messages.AllocationLogsReply:
    """A piece of a log from the provider; ``max_bytes`` 0: as much as goes into one message.

    :raises DMSError: it cannot be reached, or has no such log.
    """
    record = state.allocations.get(key)
    bid = state.assignment.get(record.node_id) if record is not None else None
    if record is None or bid is None:
        raise NothingToRead(f"{key} is nowhere now", hint="it is being placed, or was a standby that is gone")
    return await _read_piece(ctx, bid, record.id, stream, offset, max_bytes, since_ms)


async def _read_piece(
    ctx: Context, bid: Bid, id_: AllocationID, stream: str, offset: int, max_bytes: int = 0, since_ms: int = 0
) -> messages.AllocationLogsReply:
    most = piece_bytes(ctx.actor.network.message_limit_bytes(bid.handle.addr.host))
    request = messages.AllocationLogsRequest(
        allocation=id_,
        stream=stream,
        offset=offset,
        max_bytes=min(max_bytes or most, most),
        since_ms=since_ms,
    )
    reply = await ctx.actor.invoke(
        bid.handle, messages.ensemble_logs(ctx.ensemble), request, messages.AllocationLogsReply, timeout_s=LOG_TIMEOUT_S
    )
    if reply.error:
        raise DMSError(reply.error)
    return reply


async def fetch_logs(ctx: Context, state: DeploymentState, key: str, directory: Path) -> None:
    """Copy both logs of an allocation into ``directory`` (made with mode 0700), whole or not at all.

    :raises DMSError: the provider cannot be reached.
    """
    await trio.Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    for stream in ("stdout", "stderr"):
        copy = LogCopy(directory, stream)
        while copy.add(await read_log(ctx, state, key, stream, copy.offset)):
            continue
        await trio.to_thread.run_sync(copy.finish)


async def keep_logs(ctx: Context, left: Left, directory: Path) -> None:
    """Copy the end of both logs of what is about to end on a machine.

    :raises DMSError: it cannot be reached, or has none.
    """
    pieces = {stream: await _last_pieces(ctx, left, stream) for stream in ("stdout", "stderr")}
    await trio.Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    for stream, found in pieces.items():
        copy = LogCopy(directory, stream)
        for piece in found:
            copy.add(piece)
        await trio.to_thread.run_sync(copy.finish)


async def _last_pieces(ctx: Context, left: Left, stream: str) -> list[messages.AllocationLogsReply]:
    """The end of a log, as if it had begun there."""
    piece = await _read_piece(ctx, left.bid, left.id, stream, -MAX_KEPT_BYTES)
    begun, found = piece.offset, list[messages.AllocationLogsReply]()
    while True:
        found.append(msgspec.structs.replace(piece, offset=max(0, piece.offset - begun)))
        if not piece.data or piece.offset - begun >= MAX_KEPT_BYTES:  # it is being written to
            return found
        piece = await _read_piece(ctx, left.bid, left.id, stream, piece.offset + len(piece.data))


async def _each(items: Mapping[K, V], task: Callable[[K, V], Awaitable[T]]) -> dict[K, T]:
    """Run a task for every item, side by side; the results by the same keys."""
    results: dict[K, T] = {}

    async def run(key: K, value: V) -> None:
        results[key] = await task(key, value)

    async with trio.open_nursery() as nursery:
        for key, value in items.items():
            nursery.start_soon(run, key, value)
    return results
