"""Machines that the owner of a node starts by hand, beside all ensembles (``spec/orchestration.md`` 2.2).

They are not reserved from what the machine offers, and live as long as the node's process: a restarted node removes
executions that belong to no allocation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.executor.errors import ExecutionNotFound, ExecutorUnavailable, InvalidEngineSpec, Unsupported
from dms.executor.protocol import ExecutionRequest, Executor
from dms.node.payloads import Nil
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.resources import Resources, SpecConfig

VM_EXECUTORS, CONTAINER_EXECUTORS = ("firecracker", "qemu"), ("docker",)
MAX_ID_CHARS = 128


class Execution(Wire):
    """What to run; directories and ports of the host cannot be asked for here."""

    job_id: str = msgspec.field(default="", name="JobID")
    execution_id: str = msgspec.field(default="", name="ExecutionID")
    engine_spec: SpecConfig = msgspec.field(default_factory=SpecConfig, name="EngineSpec")
    resources: Resources = msgspec.field(default_factory=Resources, name="Resources")


class StartRequest(Wire):
    """Start one."""

    execution: Execution = msgspec.field(default_factory=Execution, name="Execution")


class StopRequest(Wire):
    """End one; without a type it is looked for."""

    execution_id: str = msgspec.field(default="", name="ExecutionID")
    execution_type: str = msgspec.field(default="", name="ExecutionType")


class ErrorReply(Wire):
    """Empty when it was done."""

    error: str = msgspec.field(name="Error")


class Listed(Wire):
    """One execution; ours: its status and type."""

    execution_id: str = msgspec.field(name="ExecutionID")
    running: bool = msgspec.field(name="Running")
    status: str = msgspec.field(name="Status")
    type: str = msgspec.field(name="ExecutionType")


class ListReply(Wire):
    """All of them; ``ExecutionType`` names the executors that were asked."""

    error: str = msgspec.field(name="Error")
    vms: tuple[Listed, ...] = msgspec.field(name="VMS")
    execution_type: str = msgspec.field(name="ExecutionType")


class VmBehaviours:
    """``vm/*`` for microVMs, ``container/*`` for containers. ``results_dir`` gets their logs."""

    def __init__(self, executors: Mapping[str, Executor], results_dir: Path) -> None:
        self._executors, self._results_dir = executors, results_dir
        self._started: set[str] = set()

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
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
                asked.resources,
                self._results_dir / digest,
            )
            await present[type_].start(request)
            self._started.add(asked.execution_id)

        return start

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
