"""A container that holds a network namespace open, and does nothing else, for a workload that is a member of a private network.

The namespace is made first, gets its device, and only then the workload begins, inside it: so it finds its network there
with its first instruction. Engines cannot wait between making a namespace and starting a program in it.

The image holds one program, which waits for a signal for ever. It is written here, instruction by instruction, so that it
needs no registry and no compiler.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dms.executor.docker.api import DockerApi, Json
from dms.executor.docker.container import (
    LABEL_EXECUTOR,
    LABEL_HOLDER,
    NO_HEALTHCHECK,
    Names,
    add_dns,
    add_ports,
)
from dms.executor.docker.guard import SECURITY, check
from dms.executor.docker.shapes import CREATED
from dms.executor.errors import StartFailed
from dms.executor.protocol import ExecutionRequest

IMAGE = "localhost/nunet/holder:1"
PROGRAM = "/pause"
MEMORY_BYTES = 16 * 1024 * 1024
_BASE = 0x400000
_HEADERS_BYTES = 64 + 56
_MACHINES = {
    # pause(2), and again after each signal
    "x86_64": (62, bytes.fromhex("b8220000000f05ebf7")),
    # ppoll(2) on nothing without a time limit, as there is no pause
    "aarch64": (
        183,
        struct.pack("<7I", 0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003, 0xD2800928, 0xD4000001, 0x17FFFFFA),
    ),
}


def pause_program(machine: str) -> bytes:
    """The program for a machine as ``uname -m`` calls it; empty where none is known."""
    return program_of(*_MACHINES[machine]) if machine in _MACHINES else b""


def program_of(number: int, code: bytes) -> bytes:
    """An ELF file of one segment: its header, one program header, and the instructions (System V ABI, chapters 4 and 5).

    ``number`` is that of the machine whose instructions these are.
    """
    entry, size = _BASE + _HEADERS_BYTES, _HEADERS_BYTES + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code


def image_archive(machine: str) -> bytes:
    """A file system with nothing but the program."""
    program = pause_program(machine)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(PROGRAM.removeprefix("/"))
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    return packed.getvalue()


class Holders:
    """Of one executor."""

    def __init__(self, api: DockerApi, executor_id: str) -> None:
        self._api, self._executor_id = api, executor_id

    async def start(self, request: ExecutionRequest, names: Names, network_mode: str) -> str:
        """A running holder with the ports and the resolver of a workload, a member of its network; its id.

        :raises StartFailed: there is no program for this machine.
        :raises EngineRefused: the engine does not.
        """
        machine = os.uname().machine
        if machine not in _MACHINES:
            raise StartFailed(f"containers on {machine} cannot take part in private networks")
        if await self._api.image(IMAGE) is None:
            await self._api.import_image(IMAGE, image_archive(machine))
        query = {"name": f"{names.container}-net"}
        config = holder_config(request, names, network_mode)
        created = str(
            (await self._api.call("POST", "/containers/create", query=query, body=config, shape=CREATED))["Id"]
        )
        try:
            await self._api.call("POST", f"/containers/{created}/start")
            return created
        except BaseException:
            await self._api.remove_container(created)
            raise

    async def namespace(self, container_id: str) -> Path:
        """The network namespace of a container that runs.

        :raises StartFailed: it does not run, or its engine sees other processes than we do.
        """
        path = namespace_of(await self._api.container(container_id) or {})
        if path is not None:
            return path
        raise StartFailed("its engine runs in another process namespace, or the container has just ended")


def holder_config(request: ExecutionRequest, names: Names, network_mode: str) -> dict[str, Any]:
    """The body of the engine's create call."""
    host: dict[str, Any] = {
        "NanoCpus": 10**8,
        "Memory": MEMORY_BYTES,
        "MemorySwap": MEMORY_BYTES,
        "PidsLimit": 8,
        "OomScoreAdj": 0,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": SECURITY,
        "Privileged": False,
        "ReadonlyRootfs": True,
        "IpcMode": "private",
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        "RestartPolicy": {"Name": "no"},
    }
    if network_mode:
        host["NetworkMode"] = network_mode
    config: dict[str, Any] = {
        "Image": IMAGE,
        "Entrypoint": [PROGRAM],
        "StopSignal": "SIGKILL",  # as the first process of its namespace it hears no other, and engines wait in vain
        "Labels": {LABEL_EXECUTOR: names.executor_id, LABEL_HOLDER: names.execution_label},
        "Healthcheck": NO_HEALTHCHECK,
        "HostConfig": host,
    }
    add_dns(config, request)
    add_ports(config, request)
    check(config)
    return config


def held_by(containers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The holders among an engine's containers: their ids, by the label of the execution."""
    return {
        label: str(container["Id"])
        for container in containers
        if (label := (container.get("Labels") or {}).get(LABEL_HOLDER))
    }


def namespace_of(container: Json) -> Path | None:
    """The network namespace of a container that the engine told of, if it runs and its engine sees the processes that we see."""
    pid = (container.get("State") or {}).get("Pid") or 0
    if not isinstance(pid, int) or not pid or not _is_of(Path(f"/proc/{pid}"), str(container.get("Id") or "-")):
        return None
    return Path(f"/proc/{pid}/ns/net")


def _is_of(process: Path, container_id: str) -> bool:
    """Whether a process is that of the container, and in a network namespace that is not ours."""
    try:
        if (process / "ns/net").stat().st_ino == Path("/proc/self/ns/net").stat().st_ino:
            return False
        groups = (process / "cgroup").read_text("utf-8", "replace")
        command = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return container_id in groups or command == PROGRAM.encode() + b"\0"
