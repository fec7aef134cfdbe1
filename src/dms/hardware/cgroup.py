"""The limits that a control group sets for this process: processor quota and memory, version 1 and 2.

A container sees the whole machine in ``/proc``; what it may use stands here. A group is bound by its ancestors too, so
the smallest limit on the way to the root counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes a number about 2**63 where there is no limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``None``: no limit."""

    cores: float | None = None
    memory_bytes: int | None = None
    memory_used_bytes: int = 0
    """By the group that has the limit, without the file cache that it would give up."""


def read_limits(root: Path = Path("/")) -> Limits:
    """The limits of this process; ``root`` stands in for the root of the file system."""
    cores: list[float] = []
    memory: list[tuple[int, int]] = []
    for directory in _groups(root, "cpu"):
        cores += _quota_v2(directory) + _quota_v1(directory)
    for directory in _groups(root, "memory"):
        memory += _memory(directory, "memory.max", "memory.current", "inactive_file")
        memory += _memory(directory, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, used = min(memory, default=(None, 0))
    return Limits(min(cores, default=None), limit, used)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The directories of the group and all its ancestors."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, separator, group = rest.partition(":")
        if not separator:
            continue
        if number == "0" and not controllers:
            base = mount if (mount / "cgroup.controllers").exists() else mount / "unified"
        elif controller in controllers.split(","):
            base = mount / controller
        else:
            continue
        here = Path(group.strip().lstrip("/"))
        if ".." not in here.parts:
            yield from (base / part for part in (here, *here.parents))


def _quota_v2(directory: Path) -> list[float]:
    quota, _, period = _read(directory / "cpu.max").partition(" ")
    return _cores(quota, period)


def _quota_v1(directory: Path) -> list[float]:
    return _cores(_read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us"))


def _cores(quota: str, period: str) -> list[float]:
    quota_us, period_us = _int(quota), _int(period)
    return [quota_us / period_us] if quota_us > 0 and period_us > 0 else []


def _memory(directory: Path, limit_name: str, used_name: str, cache_name: str) -> list[tuple[int, int]]:
    limit = _int(_read(directory / limit_name))
    if not 0 < limit < UNLIMITED_BYTES:
        return []
    used = _int(_read(directory / used_name))
    for line in _read(directory / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == cache_name:
            used -= _int(value)
    return [(limit, max(used, 0))]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
