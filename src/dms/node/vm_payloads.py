"""Payloads of ``/dms/node/vm/*`` and ``/dms/node/container/*``."""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire
from dms.types.resources import Resources, SpecConfig


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
