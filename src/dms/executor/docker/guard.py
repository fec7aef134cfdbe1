"""The last look at a container before an engine gets it: nothing that opens the sandbox, wherever it came from. Pure.

What is not known here is refused: engines have settings that are other names of forbidden ones, and get new ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dms.executor.docker.params import MAX_PIDS
from dms.executor.errors import Unsupported

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""Those without which the servers of common images cannot drop to their own user, own their files or listen on ports
below 1024."""
MIN_NANO_CPUS = 10**7
"""A hundredth of a processor, the least that engines take; 0 would be no limit."""
SECURITY = ["no-new-privileges:true"]
LOG_DRIVERS = ("json-file", "k8s-file")
_KEYS = frozenset(
    [
        "Image",
        "Env",
        "Labels",
        "Tty",
        "AttachStdout",
        "AttachStderr",
        "HostConfig",
        "WorkingDir",
        "Entrypoint",
        "Cmd",
        "ExposedPorts",
        "Healthcheck",
        "StopSignal",
    ]
)
_HOST_KEYS = frozenset(
    [
        "NanoCpus",
        "Memory",
        "MemorySwap",
        "PidsLimit",
        "OomScoreAdj",
        "Ulimits",
        "ShmSize",
        "StorageOpt",
        "CapDrop",
        "CapAdd",
        "SecurityOpt",
        "Privileged",
        "ReadonlyRootfs",
        "Init",
        "RestartPolicy",
        "LogConfig",
        "NetworkMode",
        "PidMode",
        "IpcMode",
        "UTSMode",
        "UsernsMode",
        "CgroupnsMode",
        "Dns",
        "DnsSearch",
        "DnsOptions",
        "PortBindings",
        "Mounts",
        "Devices",
        "DeviceRequests",
        "GroupAdd",
    ]
)
_NAMESPACES = {
    "NetworkMode": r"(?!(?i:host)$)[A-Za-z0-9][A-Za-z0-9_.-]*",
    "PidMode": r"private",
    "IpcMode": r"private|none",
    "UTSMode": r"private",
    "UsernsMode": r"",
    "CgroupnsMode": r"private",
}
"""What each may be, beside nothing. Whatever has a colon shares with others, or opens the machine's network to them."""
_DEVICE, _GPU = r"/dev/(kfd|dri/(card|renderD)\d+)", r"(GPU|MIG)-[0-9A-Za-z/-]+"


def check(config: Mapping[str, Any], *, allow_privileged: bool = False, holder: str = "") -> None:
    """Look. ``holder`` is the one container whose network may be shared.

    :raises Unsupported: with what it is.
    """
    host: Mapping[str, Any] = config["HostConfig"]
    for key in (*(config.keys() - _KEYS), *(host.keys() - _HOST_KEYS)):
        raise Unsupported(f"{key} is not for containers of jobs")
    for key, allowed in _NAMESPACES.items():
        mode = str(host.get(key) or "")
        is_held = key == "NetworkMode" and holder and mode == f"container:{holder}"
        if mode and not is_held and not re.fullmatch(allowed, mode):
            raise Unsupported(f"{key} {mode}: a container shares no namespace with the machine or with others")
    _check_limits(host)
    for mount in host.get("Mounts") or ():
        if mount.get("Type") not in ("bind", "tmpfs"):
            raise Unsupported(f"a mount of type {mount.get('Type')} is not for containers of jobs")
        if mount.get("Type") == "bind" and (mount.get("BindOptions") or {}).get("Propagation") != "rprivate":
            raise Unsupported("a mount would be passed on to the machine")
    if not allow_privileged:
        _check_rights(host)


def _check_limits(host: Mapping[str, Any]) -> None:
    memory = host.get("Memory") or 0
    if memory <= 0 or host.get("MemorySwap") != memory:
        raise Unsupported("a container without a limit of memory and swap is not for jobs")
    if (host.get("NanoCpus") or 0) < MIN_NANO_CPUS:
        raise Unsupported("a container without a limit of processor time is not for jobs")
    if not 0 < (host.get("PidsLimit") or 0) <= MAX_PIDS:
        raise Unsupported("a container without a limit of processes is not for jobs")
    if (host.get("OomScoreAdj") or 0) < 0:
        raise Unsupported("a container that outlives the system when memory is short is not for jobs")
    if (host.get("LogConfig") or {}).get("Type") not in LOG_DRIVERS:
        raise Unsupported("an output that is not bounded by the engine is not for jobs")


def _check_rights(host: Mapping[str, Any]) -> None:
    if host.get("Privileged"):
        raise Unsupported("privileged containers are not allowed")
    if list(host.get("CapDrop") or ()) != ["ALL"] or set(host.get("CapAdd") or ()) - set(CAPABILITIES):
        raise Unsupported("these capabilities are not for containers of jobs")
    if list(host.get("SecurityOpt") or ()) != SECURITY:
        raise Unsupported("these security options are not for containers of jobs")
    for device in host.get("Devices") or ():
        path = str(device.get("PathOnHost"))
        if not re.fullmatch(_DEVICE, path) or device.get("CgroupPermissions") != "rw":
            raise Unsupported(f"the device {path} is not for containers of jobs")
    for request in host.get("DeviceRequests") or ():
        ids = request.get("DeviceIDs") or ()
        if not ids or request.keys() - {"Driver", "DeviceIDs", "Capabilities"} or request.get("Driver") != "nvidia":
            raise Unsupported("this request for devices is not for containers of jobs")
        if not all(re.fullmatch(_GPU, str(one)) for one in ids):
            raise Unsupported("GPUs are given by their UUID only")
