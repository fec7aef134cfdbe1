"""What is known of a microVM: while it is about to start, and what its folder tells of it afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from dms.executor.machine_files import DriveFile
from dms.executor.process import RunDirectory
from dms.executor.protocol import ExecutionRequest, Member, NetInfo
from dms.executor.supervision import SupervisedExecution
from dms.executor.vm_member import namespace_of
from dms.executor.vm_params import MachineParams


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is about to start; files are names in ``directory``."""

    execution_id: str
    directory: Path
    params: MachineParams
    vcpus: int
    memory_mib: int
    kernel_args: str
    has_initrd: bool
    drives: tuple[DriveFile, ...]
    request: ExecutionRequest
    user: tuple[int, int, list[int]] | None
    member: Member | None = None
    """Of a private network."""


@dataclass(eq=False, slots=True)
class MachineExecution(SupervisedExecution):
    """With what is known of its machine."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    """Around its control socket, which takes one client."""
    has_booted: bool = False
    """Its process answers, and the guest runs."""


def run_of(execution: MachineExecution) -> RunDirectory:
    """Its private directory."""
    if execution.run is None:
        raise AssertionError("a machine has a run directory")
    return execution.run


def has_agent(execution: MachineExecution) -> bool:
    """Whether something of ours runs in its guest."""
    return bool(_job(execution).get("has_agent"))


def is_member(execution: MachineExecution) -> bool:
    """Whether it was made for a private network."""
    return bool(_job(execution).get("private"))


def net_info(execution: MachineExecution) -> NetInfo | None:
    """How it is reached from this machine."""
    job, process = _job(execution), execution.process
    namespace = namespace_of(process.pid) if job.get("private") and process is not None else None
    tap, cidr = job.get("net") or ("", "")
    if not tap:
        return NetInfo(namespace=namespace) if namespace is not None else None
    master = Path(f"/sys/class/net/{tap}/master")
    bridge = master.resolve().name if master.exists() else tap
    return NetInfo("eth0", bridge, cidr.partition("/")[0], cidr, namespace=namespace)


def _job(execution: MachineExecution) -> dict[str, Any]:  # JSON of ours
    try:
        job = json.loads((run_of(execution).path / "job.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return job if isinstance(job, dict) else {}
