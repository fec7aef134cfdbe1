"""Control groups: what the host holds a process to, where the daemon is root. Both versions of the interface.

A limit that the kernel does not offer is left out: a machine is bounded by its own memory and processors in any case.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PARENT = "nunet"
CONTROLLERS = ("memory", "cpu", "pids")
PERIOD_US = 100_000
PROCS = "cgroup.procs"


def make_group(
    name: str, *, cores: float, max_processes: int, memory_bytes: int | None = None, root: Path = ROOT
) -> tuple[str, ...]:
    """Make a group; returns the files to which a process writes its id to join. None where this is not root, or there
    are no control groups.

    :param memory_bytes: none: the memory is bounded in another way.
    """
    if os.geteuid() != 0:
        return ()
    quota_us = max(1000, round(cores * PERIOD_US))
    if (root / "cgroup.controllers").exists():
        second: dict[str, object] = {"cpu.max": f"{quota_us} {PERIOD_US}", "pids.max": max_processes}
        if memory_bytes is not None:
            second["memory.max"] = memory_bytes
        return _make(_second(name, root), {key: str(value) for key, value in second.items()})
    settings = {
        "memory": {} if memory_bytes is None else {"memory.limit_in_bytes": memory_bytes},
        "cpu": {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": quota_us},
        "pids": {"pids.max": max_processes},
    }
    files: tuple[str, ...] = ()
    for controller, values in settings.items():
        if values and (root / controller / PROCS).exists():
            directory = root / controller / PARENT / name
            files += _make(directory, {key: str(value) for key, value in values.items()})
    return files


def group_name(directory: Path) -> str:
    """The name of the group of what runs in a directory of one node."""
    return hashlib.sha256(str(directory).encode()).hexdigest()[:32]


def remove_group(name: str, *, root: Path = ROOT) -> None:
    """Remove it; it need not be there. Its processes must have ended."""
    for directory in (root / PARENT / name, *(root / controller / PARENT / name for controller in CONTROLLERS)):
        with suppress(OSError):
            directory.rmdir()


def _second(name: str, root: Path) -> Path:
    """The directory of a group, with the controllers handed down to it."""
    for directory in (root, root / PARENT):
        with suppress(OSError):
            directory.mkdir(exist_ok=True)
        for controller in CONTROLLERS:
            with suppress(OSError):
                (directory / "cgroup.subtree_control").write_text(f"+{controller}")
    return root / PARENT / name


def _make(directory: Path, values: dict[str, str]) -> tuple[str, ...]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ()
    for key, value in values.items():
        with suppress(OSError):
            (directory / key).write_text(value)
    return (str(directory / PROCS),)
