"""Which engine this is, and what it can do for isolation: Docker or Podman, rootful or not.

Nothing is assumed: what an engine lacks is told (:meth:`Engine.weaknesses`), so that the owner of a machine can read it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOTFUL_SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
GPU_RUNTIMES = ("nvidia", "amd", "habana", "ascend")
"""Words in the names of runtimes that look at such variables."""
USER_SOCKETS = ("docker.sock", "podman/podman.sock")
"""Below ``XDG_RUNTIME_DIR``."""


def find_host(
    host: str = "", *, environment: Mapping[str, str] | None = None, is_socket: Callable[[Path], bool] = Path.is_socket
) -> str:
    """Where the engine listens: as given, else ``DOCKER_HOST``, else the first of the usual sockets that is there:
    Docker's, Podman's, then those of the user who runs them without root."""
    environment = os.environ if environment is None else environment
    if given := host or environment.get("DOCKER_HOST", ""):
        return given
    candidates = list(ROOTFUL_SOCKETS)
    if runtime_dir := environment.get("XDG_RUNTIME_DIR", ""):
        candidates += [f"{runtime_dir}/{name}" for name in USER_SOCKETS]
    found = next((path for path in candidates if _is_socket(Path(path), is_socket)), ROOTFUL_SOCKETS[0])
    return f"unix://{found}"


@dataclass(frozen=True, slots=True)
class Engine:
    """The facts that decide how containers are made; the defaults are those of a plain rootful Docker."""

    kind: str = "docker"
    version: str = ""
    is_rootless: bool = False
    root_dir: str = ""
    storage_driver: str = ""
    mapped_owner: tuple[int, int] | None = None
    """User and group of the host that containers take for root, where the whole engine maps them."""
    has_user_namespaces: bool = False
    has_seccomp: bool = True
    has_memory_limit: bool = True
    has_swap_limit: bool = True
    has_pids_limit: bool = True
    has_cpu_limit: bool = True
    has_init: bool = False
    has_gpu_runtime: bool = False
    """A runtime of a vendor of GPUs is there: variables of a container could ask it for some."""

    @classmethod
    def read(cls, version: Mapping[str, object], info: Mapping[str, object]) -> Engine:
        """Out of the answers of ``/version`` and ``/info``."""
        options = [str(option) for option in _items(info.get("SecurityOptions"))]
        names = {option.partition(",")[0].removeprefix("name=") for option in options}
        components = [str(one.get("Name") or "") for one in _items(version.get("Components")) if isinstance(one, dict)]
        root_dir, runtimes = str(info.get("DockerRootDir") or ""), info.get("Runtimes")
        is_rootless = "rootless" in names
        return cls(
            kind="podman" if any("podman" in name.lower() for name in components) else "docker",
            version=str(version.get("Version") or ""),
            is_rootless=is_rootless,
            root_dir=root_dir,
            storage_driver=str(info.get("Driver") or ""),
            mapped_owner=_owner(root_dir) if "userns" in names else None,
            has_user_namespaces="userns" in names or is_rootless,
            has_seccomp=any(o.startswith("name=seccomp") and "profile=unconfined" not in o for o in options),
            has_memory_limit=bool(info.get("MemoryLimit")),
            has_swap_limit=bool(info.get("SwapLimit")),
            has_pids_limit=bool(info.get("PidsLimit")),
            has_cpu_limit=bool(info.get("CpuCfsQuota")),
            has_init=bool(info.get("InitBinary")),
            has_gpu_runtime=isinstance(runtimes, dict)
            and any(word in str(name).lower() for name in runtimes for word in GPU_RUNTIMES),
        )

    def weaknesses(self) -> tuple[str, ...]:
        """What this engine does not give, one line each."""
        found = (
            (self.has_seccomp, "system calls are not filtered: the engine runs without a seccomp profile"),
            (self.has_memory_limit, "memory is not limited"),
            (self.has_swap_limit or not self.has_memory_limit, "swap is not limited"),
            (self.has_pids_limit, "the number of processes is not limited"),
            (self.has_cpu_limit, "processor time is not limited"),
            (self.has_user_namespaces, "root in a container is root of the machine: no user namespace"),
        )
        return tuple(text for is_there, text in found if not is_there)


def _owner(root_dir: str) -> tuple[int, int] | None:
    """An engine that maps users keeps its data in a directory named after them."""
    match = re.fullmatch(r"(\d+)\.(\d+)", Path(root_dir).name)
    return (int(match[1]), int(match[2])) if match else None


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_socket(path: Path, is_socket: Callable[[Path], bool]) -> bool:
    try:
        return is_socket(path)
    except OSError:
        return False
