"""How a request becomes a container (``spec/execution.md`` 2.3–2.5). Pure but for a look at the mounts' sources.

What a container may do is less than Docker's default: no new privileges, system calls filtered by the engine's own
profile, the memory limit covers swap, processes, open files and output are bounded, nothing of the host's namespaces is
shared, and of the capabilities only a few are kept. Of what an *image* says about its containers only that counts which
concerns nobody but them: its labels, which other programs of the machine may obey, and its health check do not.

:mod:`~dms.executor.docker.guard` looks once more at what was made, whoever made it: no parameter of a job can lead past.
"""

from __future__ import annotations

import hashlib
import re
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dms.executor.docker.devices import GPU_VARIABLES, NVIDIA_VARIABLE, gpu_config, has_nvidia
from dms.executor.docker.engine import Engine
from dms.executor.docker.guard import CAPABILITIES, MIN_NANO_CPUS, SECURITY, check
from dms.executor.docker.mounts import bind
from dms.executor.docker.params import DockerParams
from dms.executor.docker.provision import PROVISION_RUNNER, effective_command
from dms.executor.errors import InvalidEngineSpec
from dms.executor.protocol import ExecutionRequest

LABEL_EXECUTOR, LABEL_JOB, LABEL_EXECUTION = "nunet-executor", "nunet-jobID", "nunet-executionID"
LABEL_RESULTS, LABEL_NETWORK = "nunet-resultsDir", "nunet-network"
"""Ours alone: where the logs go, so that a later process can go on writing them; the tenant's network."""
LABEL_HOLDER = "nunet-holder"
"""Ours alone: for which execution a container holds the network (:mod:`~dms.executor.docker.holder`)."""
LABEL_DISK = "nunet-diskBytes"
"""Ours alone: what it may write, where nobody but us watches that."""
PIDS_LIMIT = 1024
OPEN_FILES_LIMIT = 65536
"""Or what this process may have at most: engines without all rights cannot give more."""
PODMAN_USER_PROCESSES = 16384
"""Of one user of the machine altogether, so no limit for a container: that is :data:`PIDS_LIMIT`."""
OOM_SCORE = 500
"""When the whole machine runs out of memory, workloads end before the daemon and the system do."""
DEFAULT_MEMORY_BYTES = 512 * 1024 * 1024
DEFAULT_CORES, MAX_CORES = 1.0, 1e6
DEFAULT_DISK_BYTES = 10 * 1024**3
ENGINE_LOG_SIZE, ENGINE_LOG_FILES = "48m", "2"
"""What the engine itself keeps of the output; after a restart of ours the log is completed from it."""
MAX_RESTARTS = 10
DNS_SEARCH, DNS_OPTIONS = "internal", ("timeout:3", "attempts:2")
"""The gateway is the only resolver: another one beside it would be told the ensemble's names whenever the first is late. Not
``ndots``: with it Docker's own resolver, which stands in between, does not pass on names without a dot."""
READ_ONLY_TMPFS = ("/tmp", "/run", "/var/tmp")  # noqa: S108  paths in the container
MAX_NAME_CHARS = 180
TMPFS_BYTES = 64 * 1024 * 1024
NO_HEALTHCHECK = {"Test": ["NONE"]}
"""The image's own check would be run by the engine, as often as the image wants and outside of what we limit."""


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
        name = re.sub(r"[^a-zA-Z0-9_.-]", "-", self.execution_label).lstrip("_.-")[:MAX_NAME_CHARS]
        if name == self.execution_label:
            return name
        # other ids may become the same name
        return f"{name}-{hashlib.sha256(repr((self.job_id, self.execution_id)).encode()).hexdigest()[:12]}"

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
    holder: str = "",
) -> dict[str, Any]:
    """The body of the engine's create call, without a limit of the disk (:func:`limit_disk`).

    ``image`` is what the engine tells of the image. ``mounts`` were checked by
    :func:`~dms.executor.docker.mounts.mount_config`. ``scripts_dir`` on the host holds the provision scripts and their
    runner. ``holder`` is the id of the container whose network it shares, if there is one; that has the ports, too.

    :raises Unsupported: GPUs that cannot be given.
    :raises InvalidEngineSpec: resources that are none.
    """
    engine = engine or Engine()
    host = _host_config(request, params, engine)
    host["Mounts"] = [*mounts, *_tmpfs(params, {str(mount.get("Target")) for mount in mounts})]
    config: dict[str, Any] = {
        "Image": params.image,
        "Env": _environment(params, request, engine),
        "Labels": _blank_labels(image) | names.labels(request.results_dir),
        "Healthcheck": NO_HEALTHCHECK,
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
    if holder:
        host["NetworkMode"] = f"container:{holder}"
    else:
        if network_mode:
            host["NetworkMode"] = network_mode
        add_dns(config, request)
        add_ports(config, request)
    if request.provision_scripts and scripts_dir is not None:
        inside = f"/tmp/nunet/init-scripts-{names.container}"  # noqa: S108  a path in the container
        host["Mounts"].append(bind(scripts_dir, inside, read_only=True))
        config["Entrypoint"] = ["/bin/sh", f"{inside}/{PROVISION_RUNNER}"]
        config["Cmd"] = list(effective_command(params, image))
    check(config, allow_privileged=params.privileged, holder=holder)
    return config


def add_dns(config: dict[str, Any], request: ExecutionRequest) -> None:
    """Who resolves names, where the ensemble has names of its own: nobody else, so that no other one is told of them."""
    if request.gateway_ip:
        config["HostConfig"] |= {
            "Dns": [request.gateway_ip],
            "DnsSearch": [DNS_SEARCH],
            "DnsOptions": list(DNS_OPTIONS),
        }


def resolver_file(gateway: str) -> str:
    """The same for ``/etc/resolv.conf``."""
    return f"nameserver {gateway}\nsearch {DNS_SEARCH}\noptions {' '.join(DNS_OPTIONS)}\n"


def add_ports(config: dict[str, Any], request: ExecutionRequest) -> None:
    """Which ports of the machine lead in."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in request.ports:
        key = f"{port.executor_port}/{port.protocol}"
        bindings.setdefault(key, []).append({"HostIp": port.ip, "HostPort": str(port.host_port)})
    if bindings:
        config["ExposedPorts"] = {key: {} for key in bindings}
        config["HostConfig"]["PortBindings"] = bindings


def limit_disk(config: Mapping[str, Any], limit_bytes: int) -> dict[str, Any]:
    """The same container with a limit of what it may write beside its volumes; few storage drivers can do that."""
    return {**config, "HostConfig": {**config["HostConfig"], "StorageOpt": {"size": str(limit_bytes)}}}


def watch_disk(config: Mapping[str, Any], limit_bytes: int) -> dict[str, Any]:
    """The same container, marked as one whose writing is watched by us."""
    return {**config, "Labels": {**config["Labels"], LABEL_DISK: str(limit_bytes)}}


def has_volumes(image: Mapping[str, Any]) -> bool:
    """Whether the image has the engine make directories of the host for its containers; no driver limits these."""
    return bool((image.get("Config") or {}).get("Volumes"))


def _host_config(request: ExecutionRequest, params: DockerParams, engine: Engine) -> dict[str, Any]:
    cores, memory_bytes = (
        request.resources.cpu.cores or DEFAULT_CORES,
        request.resources.ram.size or DEFAULT_MEMORY_BYTES,
    )
    if not 0 < cores < MAX_CORES or memory_bytes < 0 or request.resources.disk.size < 0:
        raise InvalidEngineSpec("a container cannot have resources of no size")
    host: dict[str, Any] = {
        "NanoCpus": max(MIN_NANO_CPUS, round(cores * 1e9)),
        "Memory": memory_bytes,
        "MemorySwap": memory_bytes,
        "PidsLimit": params.pids_limit or PIDS_LIMIT,
        "OomScoreAdj": OOM_SCORE,
        "Ulimits": _ulimits(engine),
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": SECURITY,
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
    """As given, but no GPU can be had by a variable, neither of the job's nor of the image's."""
    kept = [item for item in params.environment if item.partition("=")[0] not in GPU_VARIABLES]
    if engine.has_gpu_runtime:
        given = (NVIDIA_VARIABLE,) if has_nvidia(request.resources.gpus) else ()
        kept += [f"{name}=void" for name in GPU_VARIABLES if name not in given]
    names = {item.partition("=")[0] for item in kept}
    return kept + [item for item in request.environment if item.partition("=")[0] not in names]


def _blank_labels(image: Mapping[str, Any]) -> dict[str, str]:
    return dict.fromkeys((image.get("Config") or {}).get("Labels") or (), "")


def _tmpfs(params: DockerParams, taken: set[str]) -> list[dict[str, Any]]:
    sizes = dict.fromkeys(READ_ONLY_TMPFS, TMPFS_BYTES) if params.read_only else {}
    sizes |= dict(params.tmpfs)
    return [
        {"Type": "tmpfs", "Target": target, "TmpfsOptions": {"SizeBytes": size, "Mode": 0o1777}}
        for target, size in sizes.items()
        if target not in taken
    ]
