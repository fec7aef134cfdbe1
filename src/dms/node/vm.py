"""Machines that the owner of a node starts by hand, beside all ensembles (``spec/orchestration.md`` 2.2).

Where the machine is onboarded, they take their part of what it offers, as allocations do: it is reserved on the disk before
the machine starts, found again after a restart together with the machine, and given back when that has ended. Where it
is not, they live as long as the node's process: a restarted node removes executions that belong to nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.executor.errors import AlreadyStarted, ExecutionNotFound, ExecutorUnavailable, InvalidEngineSpec, Unsupported
from dms.executor.protocol import ExecutionRequest, Executor
from dms.node.payloads import Nil
from dms.node.vm_payloads import ErrorReply, Listed, ListReply, StartRequest, StopRequest
from dms.resources.manager import ResourceManager
from dms.types.errors import DMSError
from dms.types.ids import AllocationID
from dms.types.resources import CPU, RAM, Resources

DEFAULT_RESOURCES = Resources(cpu=CPU(cores=1.0), ram=RAM(size=512 << 20))
"""What executors give to one that names no cores or memory."""
PREFIX = "by-hand:"
"""Of the names under which the ledger knows them."""
START_WITHIN_S = 60.0
"""How long a promise lasts that does not become a reservation, which is the next step."""
VM_EXECUTORS, CONTAINER_EXECUTORS = ("firecracker", "qemu"), ("docker",)
MAX_ID_CHARS = 128
NS_PER_S = 10**9


class VmBehaviours:
    """``vm/*`` for microVMs, ``container/*`` for containers. ``results_dir`` gets their logs."""

    def __init__(
        self, actor: Actor, executors: Mapping[str, Executor], results_dir: Path, resources: ResourceManager
    ) -> None:
        self._actor, self._executors, self._results_dir = actor, executors, results_dir
        self._resources = resources
        self._started: set[str] = set()

    async def restore(self) -> None:
        """After a restart: what still runs keeps its part, what has ended gives it back."""
        reserved = reserved_by_hand(self._resources)
        for executor in self._present().values():
            for info in await executor.list():
                if info.execution_id in reserved and not info.status.is_final:
                    reserved = reserved - {info.execution_id}
                    self._keep(executor, info.execution_id)
        for execution_id in reserved:
            await self._resources.release(_name(execution_id))

    def register(self) -> None:
        """Answer on the actor."""
        actor = self._actor
        for name, kinds in (("vm", VM_EXECUTORS), ("container", CONTAINER_EXECUTORS)):
            present = {kind: self._executors[kind] for kind in kinds if kind in self._executors}
            start = "start/custom" if name == "vm" else "start"
            self._on(actor, f"{name}/{start}", self._starter(present, kinds), StartRequest)
            self._on(actor, f"{name}/stop", self._stopper(present), StopRequest)
            actor.on(
                f"/dms/node/{name}/list",
                self._lister(present),
                payload=Nil,
                error_reply=lambda error: ListReply(error=error, vms=(), execution_type=""),
            )

    @staticmethod
    def _on(actor: Actor, name: str, handler: Callable[[Message[Any]], Awaitable[None]], payload: Any) -> None:
        async def answer(message: Message[Any]) -> ErrorReply:
            try:
                await handler(message)
            except DMSError as exc:
                return ErrorReply(error=exc.message)
            return ErrorReply(error="")

        actor.on(f"/dms/node/{name}", answer, payload=payload, error_reply=lambda error: ErrorReply(error=error))

    def _starter(
        self, present: Mapping[str, Executor], kinds: tuple[str, ...]
    ) -> Callable[[Message[StartRequest]], Awaitable[None]]:
        async def start(message: Message[StartRequest]) -> None:
            asked = message.payload.execution
            if not asked.execution_id or len(asked.execution_id) > MAX_ID_CHARS:
                raise InvalidEngineSpec(f"ExecutionID must have 1 to {MAX_ID_CHARS} characters")
            type_ = asked.engine_spec.type.strip().lower()
            if type_ not in kinds:
                raise InvalidEngineSpec(f"EngineSpec.type must be one of {', '.join(kinds)}")
            if type_ not in present:
                raise ExecutorUnavailable(f"this machine has no executor {type_}")
            digest = hashlib.sha256(asked.execution_id.encode()).hexdigest()[:32]
            request = ExecutionRequest(
                asked.job_id or "manual",
                asked.execution_id,
                asked.engine_spec,
                _with_defaults(asked.resources),
                self._results_dir / digest,
            )
            await self._start(present[type_], request)

        return start

    async def _start(self, executor: Executor, request: ExecutionRequest) -> None:
        name = _name(request.execution_id)
        if request.execution_id in self._started or self._resources.is_allocated(name):
            raise AlreadyStarted(f"execution ({request.execution_id[:MAX_ID_CHARS]}) is started already")
        if self._resources.onboarded is not None:
            expires_at = self._actor.security.now_ns() / NS_PER_S + START_WITHIN_S
            # with the very GPUs that are given
            given = await self._resources.commit(name, request.resources, expires_at)
            request = replace(request, resources=given)
            await self._resources.allocate(name)
        self._started.add(request.execution_id)
        try:
            await executor.start(request)
        except BaseException:
            self._started.discard(request.execution_id)
            with trio.CancelScope(shield=True):
                await self._resources.release(name)
            raise
        self._keep(executor, request.execution_id)

    def _keep(self, executor: Executor, execution_id: str) -> None:
        self._started.add(execution_id)
        self._actor.start_soon(self._release_at_end, executor, execution_id)

    async def _release_at_end(self, executor: Executor, execution_id: str) -> None:
        with suppress(DMSError):  # removed meanwhile, or of a backend that knows it no more
            await executor.wait(execution_id)
        if execution_id in self._started:  # whoever stops it gives back himself: another may have its name by now
            await self._resources.release(_name(execution_id))

    def _present(self) -> dict[str, Executor]:
        kinds = (*VM_EXECUTORS, *CONTAINER_EXECUTORS)
        return {kind: self._executors[kind] for kind in kinds if kind in self._executors}

    def _stopper(self, present: Mapping[str, Executor]) -> Callable[[Message[StopRequest]], Awaitable[None]]:
        async def stop(message: Message[StopRequest]) -> None:
            asked = message.payload
            for type_, executor in present.items():
                if asked.execution_type not in ("", type_):
                    continue
                if not any(info.execution_id == asked.execution_id for info in await executor.list()):
                    continue
                if asked.execution_id not in self._started:
                    raise Unsupported("this execution belongs to an allocation", hint="shut its deployment down")
                await executor.remove(asked.execution_id)
                self._started.discard(asked.execution_id)
                await self._resources.release(_name(asked.execution_id))
                return
            raise ExecutionNotFound(f"execution ({asked.execution_id[:MAX_ID_CHARS]}) not found")

        return stop

    @staticmethod
    def _lister(present: Mapping[str, Executor]) -> Callable[[Message[Any]], Awaitable[ListReply]]:
        async def list_(_message: Message[Any]) -> ListReply:
            found = [
                Listed(
                    execution_id=info.execution_id,
                    running=not info.status.is_final,
                    status=info.status.value,
                    type=info.engine,
                )
                for executor in present.values()
                for info in await executor.list()
            ]
            return ListReply(error="", vms=tuple(found), execution_type=",".join(present))

        return list_


def reserved_by_hand(resources: ResourceManager) -> frozenset[str]:
    """The executions that somebody has started by hand and for which something is reserved."""
    return frozenset(name.removeprefix(PREFIX) for name in resources.allocations if name.startswith(PREFIX))


def _name(execution_id: str) -> AllocationID:
    """In the ledger; ids of allocations have no colon."""
    return AllocationID(PREFIX + execution_id)


def _with_defaults(wanted: Resources) -> Resources:
    cpu, ram = wanted.cpu, wanted.ram
    return msgspec.structs.replace(
        wanted,
        cpu=cpu if cpu.cores else msgspec.structs.replace(cpu, cores=DEFAULT_RESOURCES.cpu.cores),
        ram=ram if ram.size else msgspec.structs.replace(ram, size=DEFAULT_RESOURCES.ram.size),
    )
