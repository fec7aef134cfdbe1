"""Mounting on this machine: by the kernel's own calls, so that a directory that was looked at is the one that is mounted.

Binding needs the capability ``CAP_SYS_ADMIN``; :func:`can_mount` tells.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import trio

from dms.storage.errors import ProviderMissing, StorageError

CAP_SYS_ADMIN = 21
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH, _NOFOLLOW = 2, 8
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mounter(Protocol):
    """What can be mounted, and undone."""

    def can_bind(self) -> bool:
        """Whether directories can be bound elsewhere."""
        ...

    async def bind(self, descriptor: int, target: Path, *, read_only: bool) -> None:
        """Show the open directory ``descriptor`` at ``target``, without devices and set-user-id programs."""
        ...

    async def unmount(self, target: Path) -> None:
        """End it; nothing mounted there is fine."""
        ...

    def mounted_below(self, base: Path) -> tuple[Path, ...]:
        """Where something is mounted below ``base``, the innermost first."""
        ...


class SystemMounter:
    """This machine's kernel."""

    def can_bind(self) -> bool:
        """See :func:`can_mount`."""
        return can_mount()

    async def bind(self, descriptor: int, target: Path, *, read_only: bool) -> None:
        """By way of ``/proc/self/fd``, which leads to the open directory whatever its path leads to by now."""
        if not can_mount():
            raise ProviderMissing("this program may not mount", hint="it needs the capability CAP_SYS_ADMIN")
        await trio.to_thread.run_sync(_bind, descriptor, target, read_only)

    async def unmount(self, target: Path) -> None:
        """Out of sight at once, and for good when nobody uses it any more."""
        await trio.to_thread.run_sync(_unmount, target)

    def mounted_below(self, base: Path) -> tuple[Path, ...]:
        """As the kernel tells."""
        found = [path for path in _mount_points() if path != base and path.is_relative_to(base)]
        return tuple(sorted(found, key=lambda path: len(path.parts), reverse=True))


def can_mount() -> bool:
    """Whether this process holds ``CAP_SYS_ADMIN``."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> CAP_SYS_ADMIN & 1)


def _bind(descriptor: int, target: Path, read_only: bool) -> None:  # noqa: FBT001  for a thread
    where = os.fsencode(target)
    _call("mount", f"/proc/self/fd/{descriptor}".encode(), where, None, _BIND, None)
    try:
        _call("mount", None, where, None, _PRIVATE, None)
        flags = _REMOUNT | _BIND | _NOSUID | _NODEV | (_RDONLY if read_only else 0)
        _call("mount", None, where, None, flags, None)
    except StorageError:
        _unmount(target)
        raise


def _unmount(target: Path) -> None:
    if target not in set(_mount_points()):
        return
    _call("umount2", os.fsencode(target), _DETACH | _NOFOLLOW)


def _mount_points() -> Iterator[Path]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), line.split(" ")[4]))


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_ulong(a) if isinstance(a, int) and len(arguments) > 2 else a for a in arguments]
    if getattr(libc, name)(*values) != 0:
        number = ctypes.get_errno()
        raise StorageError(f"{name} failed: {os.strerror(number)}")
