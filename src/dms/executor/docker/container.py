"""How a request becomes a container (``spec/execution.md`` 2.3–2.5). Pure but for a look at the mounts' sources.

What a container may do is less than Docker's default: no new privileges, system calls filtered by the engine's own
profile, the memory limit covers swap, processes, open files and output are bounded, nothing of the host's namespaces is
shared, and of the capabilities only :data:`CAPABILITIES` are kept, those without which the servers of common images
cannot drop to their own user, own their files or listen on ports below 1024.

:func:`check` looks once more at what was made, whoever made it: no parameter of a job can lead past it.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dms.executor.docker.devices import NVIDIA_VARIABLE, gpu_config, has_nvidia
from dms.executor.docker.engine import Engine
from dms.executor.docker.mounts import bind
from dms.executor.docker.params import DockerParams
from dms.executor.docker.provision import PROVISION_RUNNER, effective_command
from dms.executor.errors import Unsupported
from dms.executor.protocol import ExecutionRequest

LABEL_EXECUTOR, LABEL_JOB, LABEL_EXECUTION = "nunet-executor", "nunet-jobID", "nunet-executionID"
LABEL_RESULTS = "nunet-resultsDir"
"""Ours alone: where the logs go, so that a later process can go on writing them."""
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
PIDS_LIMIT = 1024
OPEN_FILES_LIMIT = 65536
"""Or what this process may have at most: engines without all rights cannot give more."""
PODMAN_USER_PROCESSES = 16384
"""Of one user of the machine altogether, so no limit for a container: that is :data:`PIDS_LIMIT`."""
OOM_SCORE = 500
"""When the whole machine runs out of memory, workloads end before the daemon and the system do."""
DEFAULT_MEMORY_BYTES = 512 * 1024 * 1024
DEFAULT_CORES = 1.0
DEFAULT_DISK_BYTES = 10 * 1024**3
ENGINE_LOG_SIZE, ENGINE_LOG_FILES = "48m", "2"
"""What the engine itself keeps of the output; after a restart of ours the log is completed from it."""
MAX_RESTARTS = 10
PUBLIC_DNS = "1.1.1.1"
READ_ONLY_TMPFS = ("/tmp", "/run", "/var/tmp")  # noqa: S108  paths in the container
TMPFS_BYTES = 64 * 1024 * 1024
_FORBIDDEN_HOST_KEYS = ("Binds", "VolumesFrom", "Links", "Sysctls", "CgroupParent", "Cgroup", "VolumeDriver")
_NAMESPACES = ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode")


@dataclass(frozen=True, slots=True)
class Names:
    """Name and labels of the container of one execution."""

    executor_id: str
    job_id: str
    execution_id: str

    @property
    def job_label(self) -> str:
        """Value of the job's label."""
        return f"{self.executor_id}_{self.job_id}"

    @property
    def execution_label(self) -> str:
        """Value of the execution's label."""
        return f"{self.job_label}_{self.execution_id}"

    @property
    def container(self) -> str:
        """The container's name; engines allow fewer characters than ids may have."""
        return re.sub(r"[^a-zA-Z0-9_.-]", "-", self.execution_label).lstrip("_.-")

    def labels(self, results_dir: Path) -> dict[str, str]:
        """All labels."""
        return {
            LABEL_EXECUTOR: self.executor_id,
            LABEL_JOB: self.job_label,
            LABEL_EXECUTION: self.execution_label,
            LABEL_RESULTS: str(results_dir),
        }

    @classmethod
    def read(cls, executor_id: str, labels: Mapping[str, str]) -> Names | None:
        """The ids behind labels; ``None`` where these are not ours."""
        job_label, execution_label = labels.get(LABEL_JOB, ""), labels.get(LABEL_EXECUTION, "")
        if not job_label.startswith(f"{executor_id}_") or not execution_label.startswith(f"{job_label}_"):
            return None
        return cls(executor_id, job_label[len(executor_id) + 1 :], execution_label[len(job_label) + 1 :])


def container_config(
    request: ExecutionRequest,
    params: DockerParams,
    names: Names,
    image: Mapping[str, Any],
    *,
    mounts: Sequence[Mapping[str, Any]] = (),
    scripts_dir: Path | None = None,
    engine: Engine | None = None,
    network_mode: str = "",
) -> dict[str, Any]:
    """The body of the engine's create call, without a limit of the disk (:func:`limit_disk`).

    ``image`` is what the engine tells of the image. ``mounts`` were checked by
    :func:`~dms.executor.docker.mounts.mount_config`. ``scripts_dir`` on the host holds the provision scripts and their
    runner.

    :raises Unsupported: GPUs that cannot be given.
    """
    engine = engine or Engine()
    host = _host_config(request, params, engine)
    host["Mounts"] = [*mounts, *_tmpfs(params, {str(mount.get("Target")) for mount in mounts})]
    config: dict[str, Any] = {
        "Image": params.image,
        "Env": _environment(params, request, engine),
        "Labels": names.labels(request.results_dir),
        "Tty": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host,
    }
    if params.working_directory:
        config["WorkingDir"] = params.working_directory
    if params.entrypoint:
        config["Entrypoint"] = list(params.entrypoint)
    if params.cmd:
        config["Cmd"] = list(params.cmd)
    if network_mode:
        host["NetworkMode"] = network_mode
    if request.gateway_ip:
        host |= {
            "Dns": [request.gateway_ip, PUBLIC_DNS],
            "DnsSearch": ["internal"],
            "DnsOptions": ["ndots:1", "timeout:2", "attempts:1"],
        }
    if request.ports:
        _add_ports(config, request)
    if request.provision_scripts and scripts_dir is not None:
        inside = f"/tmp/nunet/init-scripts-{names.container}"  # noqa: S108  a path in the container
        host["Mounts"].append(bind(scripts_dir, inside, read_only=True))
        config["Entrypoint"] = ["/bin/sh", f"{inside}/{PROVISION_RUNNER}"]
        config["Cmd"] = list(effective_command(params, image))
    check(config, allow_privileged=params.privileged)
    return config


def limit_disk(config: Mapping[str, Any], limit_bytes: int) -> dict[str, Any]:
    """The same container with a limit of what it may write beside its volumes; few storage drivers can do that."""
    return {**config, "HostConfig": {**config["HostConfig"], "StorageOpt": {"size": str(limit_bytes)}}}


def check(config: Mapping[str, Any], *, allow_privileged: bool = False) -> None:
    """The last look before an engine gets it: nothing that opens the sandbox, wherever it came from.

    :raises Unsupported: with what it is.
    """
    host: Mapping[str, Any] = config["HostConfig"]
    for key in _NAMESPACES:
        mode = str(host.get(key) or "")
        if mode in ("host", "shareable") or mode.startswith(("container:", "ns:")):
            raise Unsupported(f"{key} {mode}: a container shares no namespace with the machine or with others")
    for key in _FORBIDDEN_HOST_KEYS:
        if host.get(key):
            raise Unsupported(f"{key} is not for containers of jobs")
    for mount in host.get("Mounts") or ():
        if mount.get("Type") not in ("bind", "tmpfs"):
            raise Unsupported(f"a mount of type {mount.get('Type')} is not for containers of jobs")
        if mount.get("Type") == "bind" and (mount.get("BindOptions") or {}).get("Propagation") != "rprivate":
            raise Unsupported("a mount would be passed on to the machine")
    if allow_privileged:
        return
    if host.get("Privileged"):
        raise Unsupported("privileged containers are not allowed")
    if list(host.get("CapDrop") or ()) != ["ALL"] or set(host.get("CapAdd") or ()) - set(CAPABILITIES):
        raise Unsupported("these capabilities are not for containers of jobs")
    options = [str(option) for option in host.get("SecurityOpt") or ()]
    if "no-new-privileges:true" not in options or any("unconfined" in option for option in options):
        raise Unsupported("these security options are not for containers of jobs")
    for device in host.get("Devices") or ():
        if not re.fullmatch(r"/dev/(kfd|dri/(card|renderD)\d+)", str(device.get("PathOnHost"))):
            raise Unsupported(f"the device {device.get('PathOnHost')} is not for containers of jobs")


def _host_config(request: ExecutionRequest, params: DockerParams, engine: Engine) -> dict[str, Any]:
    memory_bytes = request.resources.ram.size or DEFAULT_MEMORY_BYTES
    host: dict[str, Any] = {
        "NanoCpus": round((request.resources.cpu.cores or DEFAULT_CORES) * 1e9),
        "Memory": memory_bytes,
        "MemorySwap": memory_bytes,
        "PidsLimit": params.pids_limit or PIDS_LIMIT,
        "OomScoreAdj": OOM_SCORE,
        "Ulimits": _ulimits(engine),
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "ReadonlyRootfs": params.read_only,
        "IpcMode": "private",
        "LogConfig": {"Type": "json-file", "Config": {"max-size": ENGINE_LOG_SIZE, "max-file": ENGINE_LOG_FILES}},
        "RestartPolicy": {"Name": params.restart_policy},
    }
    if engine.kind == "docker":
        host["CgroupnsMode"] = "private"
    else:  # Podman has no such limit of its log, but one of the same meaning
        host["LogConfig"] = {"Type": "k8s-file", "Config": {"max-size": ENGINE_LOG_SIZE}}
    if params.restart_policy == "on-failure":
        host["RestartPolicy"]["MaximumRetryCount"] = MAX_RESTARTS
    if params.shm_bytes:
        host["ShmSize"] = params.shm_bytes
    if engine.has_init:
        host["Init"] = True  # passes on signals and buries the dead
    host |= gpu_config(request.resources.gpus)
    if params.privileged:
        host |= {"Privileged": True, "CapDrop": [], "CapAdd": [], "SecurityOpt": []}
    return host


def _ulimits(engine: Engine) -> list[dict[str, Any]]:
    limits = {"nofile": _at_most(resource.RLIMIT_NOFILE, OPEN_FILES_LIMIT), "core": 0}
    if engine.kind == "podman":  # its own default is more than it may give where it lacks rights
        limits["nproc"] = _at_most(resource.RLIMIT_NPROC, PODMAN_USER_PROCESSES)
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in limits.items()]


def _at_most(kind: int, wanted: int) -> int:
    most = resource.getrlimit(kind)[1]
    return wanted if most == resource.RLIM_INFINITY else min(wanted, most)


def _environment(params: DockerParams, request: ExecutionRequest, engine: Engine) -> list[str]:
    """As given, but no GPU can be had by a variable."""
    kept = [item for item in params.environment if item.partition("=")[0] != NVIDIA_VARIABLE]
    if engine.has_nvidia and not has_nvidia(request.resources.gpus):
        kept.append(f"{NVIDIA_VARIABLE}=void")
    return kept


def _tmpfs(params: DockerParams, taken: set[str]) -> list[dict[str, Any]]:
    sizes = dict.fromkeys(READ_ONLY_TMPFS, TMPFS_BYTES) if params.read_only else {}
    sizes |= dict(params.tmpfs)
    return [
        {"Type": "tmpfs", "Target": target, "TmpfsOptions": {"SizeBytes": size, "Mode": 0o1777}}
        for target, size in sizes.items()
        if target not in taken
    ]


def _add_ports(config: dict[str, Any], request: ExecutionRequest) -> None:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in request.ports:
        key = f"{port.executor_port}/{port.protocol}"
        bindings.setdefault(key, []).append({"HostIp": port.ip, "HostPort": str(port.host_port)})
    config["ExposedPorts"] = {key: {} for key in bindings}
    config["HostConfig"]["PortBindings"] = bindings
