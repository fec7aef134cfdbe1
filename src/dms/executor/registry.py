"""Which executors work on this machine (``spec/execution.md`` 1.7): one that does not is skipped, with the reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from dms.executor.errors import ExecutorError
from dms.executor.protocol import Executor, FetchFile

PROBE_TIMEOUT_S = 15.0
"""How long one backend may take to say that it is there."""


@dataclass(frozen=True, slots=True)
class AvailableExecutors:
    """What was found."""

    executors: dict[str, Executor] = field(default_factory=dict)
    """By type: ``wasm``, ``docker``, ``qemu``, ``firecracker``, ``null``."""
    missing: dict[str, str] = field(default_factory=dict)
    """Type → why it is not there, in one line."""


async def available_executors(
    nursery: trio.Nursery,
    state_dir: Path,
    *,
    executor_id: str,
    enabled: Iterable[str] = ("wasm", "docker", "qemu", "firecracker"),
    modules_dir: Path | None = None,
    module_dirs: Iterable[Path] | None = None,
    fetch_file: FetchFile | None = None,
    docker_host: str = "",
    allow_privileged_docker: bool = False,
    volume_dirs: Iterable[Path] = (),
    image_dirs: Iterable[Path] | None = None,
    with_jailer: bool = False,
) -> AvailableExecutors:
    """Try each backend of ``enabled``; they find again what an earlier process left running.

    ``nursery`` holds their background tasks: cancelling it leaves workloads running. ``state_dir`` belongs to the
    executors alone; nodes of one user may share ``modules_dir``, which holds compiled programs. ``fetch_file`` is how
    programs come from elsewhere. ``executor_id`` tells the containers of this node
    from those of others on one Docker engine, so it must be the same after a restart. ``docker_host`` is
    ``unix:///…``; empty means ``DOCKER_HOST`` or the usual socket. A container sees of this machine what lies in
    ``volume_dirs`` (with none, whatever it is told to, but for links). ``image_dirs`` hold the kernels and images that
    microVMs may boot; left out, it is ``images`` beside ``state_dir``. ``module_dirs`` hold the WebAssembly programs that
    may be named by their path; left out, it is ``modules`` there.
    """
    found = AvailableExecutors()
    modules = tuple(module_dirs) if module_dirs is not None else (state_dir.parent / "modules",)
    images = tuple(image_dirs) if image_dirs is not None else (state_dir.parent / "images",)

    async def open_wasm() -> Executor:
        from dms.executor.wasm import WasmExecutor

        return await WasmExecutor.open(
            nursery,
            state_dir / "wasm",
            modules_dir=modules_dir,
            allowed_module_dirs=modules,
            fetch_file=fetch_file,
        )

    async def open_docker() -> Executor:
        from dms.executor.docker import DockerExecutor

        return await DockerExecutor.open(
            nursery,
            state_dir / "docker",
            executor_id=executor_id,
            host=docker_host,
            allow_privileged=allow_privileged_docker,
            volume_dirs=tuple(volume_dirs),
        )

    async def open_qemu() -> Executor:
        from dms.executor.qemu import QemuExecutor

        return await QemuExecutor.open(nursery, state_dir / "qemu", image_dirs=images)

    async def open_firecracker() -> Executor:
        from dms.executor.firecracker import FirecrackerExecutor

        return await FirecrackerExecutor.open(
            nursery, state_dir / "firecracker", image_dirs=images, with_jailer=with_jailer
        )

    async def open_null() -> Executor:
        from dms.executor.null import NullExecutor

        return NullExecutor(nursery)

    known: dict[str, Callable[[], Awaitable[Executor]]] = {
        "wasm": open_wasm,
        "docker": open_docker,
        "qemu": open_qemu,
        "firecracker": open_firecracker,
        "null": open_null,
    }

    async def attempt(type_: str) -> None:
        if type_ == "containerd":
            from dms.executor.containerd import refusal

            found.missing[type_] = refusal().message
            return
        if type_ not in known:
            found.missing[type_] = f"there is no such executor; there are {', '.join(known)}"
            return
        try:
            with trio.fail_after(PROBE_TIMEOUT_S):
                found.executors[type_] = await known[type_]()
        except ExecutorError as exc:
            found.missing[type_] = exc.message
        except (OSError, ImportError, trio.TooSlowError) as exc:
            found.missing[type_] = str(exc) or "it does not answer"

    async with trio.open_nursery() as probes:
        for type_ in dict.fromkeys(enabled):
            probes.start_soon(attempt, type_)
    return found
