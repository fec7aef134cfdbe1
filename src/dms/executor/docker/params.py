"""Engine parameters of type ``docker`` (``spec/execution.md`` 2.1), and how a request becomes a container (2.3–2.5).

Pure: text and values in, the engine's JSON out.

What a container may do is less than Docker's default: no new privileges, the memory limit covers swap, processes are
counted, and of the capabilities only :data:`CAPABILITIES` are kept, those without which the servers of common images
cannot drop to their own user, own their files or listen on ports below 1024.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dms.executor.errors import InvalidEngineSpec
from dms.executor.params import Params
from dms.executor.protocol import ExecutionRequest, Mount
from dms.types.resources import SpecConfig

ENGINE = "docker"
LABEL_EXECUTOR, LABEL_JOB, LABEL_EXECUTION = "nunet-executor", "nunet-jobID", "nunet-executionID"
LABEL_RESULTS = "nunet-resultsDir"
"""Ours alone: where the logs go, so that a later process can go on writing them."""
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
PIDS_LIMIT = 1024
DEFAULT_MEMORY_BYTES = 512 * 1024 * 1024
DEFAULT_CORES = 1.0
ENGINE_LOG_SIZE, ENGINE_LOG_FILES = "32m", "2"
"""What the engine itself keeps of the output; after a restart of ours the log is written anew from it."""
PUBLIC_DNS = "1.1.1.1"
PROVISION_RUNNER = "run_provision_scripts.sh"
MAX_IMAGE_CHARS = 512


@dataclass(frozen=True, slots=True)
class DockerParams:
    """The parameters, checked."""

    image: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    environment: tuple[str, ...]
    working_directory: str
    privileged: bool

    @classmethod
    def parse(cls, spec: SpecConfig) -> DockerParams:
        """Check. Unknown parameters are ignored.

        :raises InvalidEngineSpec: with the parameter and the reason.
        """
        params = Params(spec, ENGINE)
        image = params.text("image").strip()
        if not image:
            raise params.error("image cannot be empty")
        if len(image) > MAX_IMAGE_CHARS or re.search(r"\s", image) or "?" in image or "#" in image:
            raise params.error(f'image "{image[:64]}" is not the name of an image')
        params.environment()  # each must be KEY=VALUE
        return cls(
            image,
            params.texts("entrypoint"),
            params.texts("cmd"),
            params.texts("environment"),
            params.text("working_directory"),
            params.flag("privileged"),
        )


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
    scripts_dir: Path | None = None,
    with_init: bool = False,
    network_mode: str = "",
) -> dict[str, Any]:
    """The body of the engine's create call.

    ``image`` is what the engine tells of the image. ``scripts_dir`` on the host holds the provision scripts and their
    runner. ``with_init``: the engine has an init process to offer, which passes on signals and buries the dead.
    """
    host: dict[str, Any] = {
        "NanoCpus": round((request.resources.cpu.cores or DEFAULT_CORES) * 1e9),
        "Memory": request.resources.ram.size or DEFAULT_MEMORY_BYTES,
        "MemorySwap": request.resources.ram.size or DEFAULT_MEMORY_BYTES,
        "PidsLimit": PIDS_LIMIT,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges:true"],
        "Mounts": [_mount(mount) for mount in (*request.inputs, *request.outputs)],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": ENGINE_LOG_SIZE, "max-file": ENGINE_LOG_FILES}},
        "RestartPolicy": {"Name": "no"},
    }
    config: dict[str, Any] = {
        "Image": params.image,
        "Env": list(params.environment),
        "Labels": names.labels(request.results_dir),
        "Tty": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "HostConfig": host,
    }
    if params.working_directory:
        config["WorkingDir"] = params.working_directory
    if params.entrypoint:
        config["Entrypoint"] = list(params.entrypoint)
    if params.cmd:
        config["Cmd"] = list(params.cmd)
    if with_init:
        host["Init"] = True
    if network_mode:
        host["NetworkMode"] = network_mode
    if params.privileged:
        host |= {"Privileged": True, "CapDrop": [], "CapAdd": [], "SecurityOpt": []}
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
        host["Mounts"].append({"Type": "bind", "Source": str(scripts_dir), "Target": inside, "ReadOnly": True})
        config["Entrypoint"] = ["/bin/sh", f"{inside}/{PROVISION_RUNNER}"]
        config["Cmd"] = list(effective_command(params, image))
    return config


def effective_command(params: DockerParams, image: Mapping[str, Any]) -> tuple[str, ...]:
    """What would run without provision scripts: given parts win over the image's, and an entrypoint that is given
    cancels the image's command.

    :raises InvalidEngineSpec: nothing would.
    """
    own = image.get("Config") or {}
    entrypoint = params.entrypoint or tuple(own.get("Entrypoint") or ())
    cmd = params.cmd or (() if params.entrypoint else tuple(own.get("Cmd") or ()))
    if not entrypoint + cmd:
        raise InvalidEngineSpec(f"the image {params.image} has no command of its own", hint="give cmd or entrypoint")
    return entrypoint + cmd


def provision_files(scripts: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """The files of the scripts directory: the scripts in their order, and the runner, which passes the workload's
    arguments on as they are."""
    files = {
        f"{index:03d}-{re.sub(r'[^a-zA-Z0-9_.-]', '-', name)[:64]}": body for index, (name, body) in enumerate(scripts)
    }
    lines = ["#!/bin/sh", 'here=$(dirname "$0")']
    for (name, _), file in zip(scripts, files, strict=True):
        shown = re.sub(r"[^a-zA-Z0-9_. -]", "-", name)[:64]
        lines += [f'echo "provision: {shown}"', f'"$here/{file}" || exit $?']
    files[PROVISION_RUNNER] = "\n".join([*lines, 'exec "$@"', ""]).encode()
    return files


def _mount(mount: Mount) -> dict[str, Any]:
    if not str(mount.source):
        raise InvalidEngineSpec("a mount has no source")
    if not mount.target.startswith("/"):
        raise InvalidEngineSpec(f'the mount target "{mount.target[:64]}" is not absolute')
    return {"Type": "bind", "Source": str(mount.source), "Target": mount.target, "ReadOnly": mount.read_only}


def _add_ports(config: dict[str, Any], request: ExecutionRequest) -> None:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in request.ports:
        key = f"{port.executor_port}/{port.protocol}"
        bindings.setdefault(key, []).append({"HostIp": port.ip, "HostPort": str(port.host_port)})
    config["ExposedPorts"] = {key: {} for key in bindings}
    config["HostConfig"]["PortBindings"] = bindings
