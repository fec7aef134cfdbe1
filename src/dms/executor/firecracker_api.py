"""Firecracker's API: HTTP on a Unix socket, as its published description tells (``spec/execution.md`` 3).

Only what a machine here is made of. A request is a value that says where it goes, so that tests can hold each of them
against the description.
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import ClassVar

import httpx2
import msgspec

from dms.executor.errors import EngineRefused, ExecutorUnavailable
from dms.executor.qmp import short_path

TIMEOUT_S = 10.0
MAX_MESSAGE_CHARS = 500
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A client wants one even for a Unix socket, and would load all certificates of this machine anew for each request."""


class Request(msgspec.Struct, omit_defaults=True, frozen=True):
    """The body of one request; ``method`` and ``path`` tell where it goes."""

    method: ClassVar[str] = "PUT"

    @property
    def path(self) -> str:
        """Where it goes."""
        return self.PATH

    PATH: ClassVar[str] = ""


class Logger(Request, frozen=True):
    """What Firecracker itself has to say, and where."""

    PATH: ClassVar[str] = "/logger"

    log_path: str
    level: str
    show_level: bool = False


class Metrics(Request, frozen=True):
    """Counters of the machine, a JSON object per line."""

    PATH: ClassVar[str] = "/metrics"

    metrics_path: str


class MachineConfiguration(Request, frozen=True):
    """Size of the machine. ``vcpu_count`` is 1 or even."""

    PATH: ClassVar[str] = "/machine-config"

    vcpu_count: int
    mem_size_mib: int


class BootSource(Request, frozen=True):
    """Kernel, its arguments, its initial RAM disk."""

    PATH: ClassVar[str] = "/boot-source"

    kernel_image_path: str
    boot_args: str = ""
    initrd_path: str = ""


class Drive(Request, frozen=True):
    """A drive; the flags are told in any case."""

    drive_id: str
    path_on_host: str
    is_root_device: bool
    is_read_only: bool

    @property
    def path(self) -> str:
        """Where it goes."""
        return f"/drives/{self.drive_id}"


class NetworkInterface(Request, frozen=True):
    """A network card on a TAP device."""

    iface_id: str
    host_dev_name: str
    guest_mac: str

    @property
    def path(self) -> str:
        """Where it goes."""
        return f"/network-interfaces/{self.iface_id}"


class MmdsConfig(Request, frozen=True):
    """Which cards reach the metadata service."""

    PATH: ClassVar[str] = "/mmds/config"

    network_interfaces: tuple[str, ...]
    version: str = ""


class Action(Request, frozen=True):
    """Something to do at once: ``InstanceStart``."""

    PATH: ClassVar[str] = "/actions"

    action_type: str


class Vm(Request, frozen=True):
    """``Paused`` or ``Resumed``."""

    method: ClassVar[str] = "PATCH"
    PATH: ClassVar[str] = "/vm"

    state: str


class InstanceInfo(msgspec.Struct, frozen=True):
    """What a machine tells of itself; ``state`` is ``Not started``, ``Running`` or ``Paused``."""

    id: str
    state: str
    vmm_version: str
    app_name: str


async def send(socket: Path, request: Request) -> None:
    """Have it done.

    :raises ExecutorUnavailable: Firecracker does not answer.
    :raises EngineRefused: it says no.
    """
    await _call(socket, request.method, request.path, msgspec.json.encode(request))


async def send_metadata(socket: Path, content: str) -> None:
    """What the guest finds in its metadata service: a JSON object."""
    await _call(socket, "PUT", "/mmds", content.encode())


async def instance_info(socket: Path) -> InstanceInfo:
    """What the machine tells of itself."""
    content = await _call(socket, "GET", "/", b"")
    try:
        return msgspec.json.decode(content, type=InstanceInfo)
    except msgspec.MsgspecError as exc:
        raise EngineRefused(f"Firecracker answered something else than was asked: {exc}") from None


async def _call(socket: Path, method: str, path: str, body: bytes) -> bytes:
    try:
        async with short_path(socket) as name:
            transport = httpx2.AsyncHTTPTransport(uds=name, verify=_NO_TLS)
            async with httpx2.AsyncClient(transport=transport, timeout=TIMEOUT_S, trust_env=False) as client:
                headers = {"Content-Type": "application/json", "Accept": "application/json"}
                response = await client.request(
                    method, f"http://localhost{path}", content=body or None, headers=headers if body else None
                )
    except (httpx2.TransportError, OSError) as exc:
        raise ExecutorUnavailable(f"Firecracker does not answer: {str(exc) or type(exc).__name__}") from exc
    if response.status_code >= 400:
        raise EngineRefused(
            f"Firecracker refused {method} {path}: {_reason(response.content)}", status=response.status_code
        )
    return response.content


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["fault_message"])[:MAX_MESSAGE_CHARS]
    except (ValueError, KeyError, TypeError):
        return "without a reason"
