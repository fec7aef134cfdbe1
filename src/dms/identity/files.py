"""Files that nobody else may read: written whole or not at all, durable when the call returns."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import time
from pathlib import Path

from dms.identity.errors import BadName

_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]")
_MAX_NAME_BYTES = 200
_LEFT_BEHIND_S = 600.0


def check_name(name: str) -> str:
    """``name`` if it can safely be part of a file name.

    :raises BadName: empty, too long, hidden, or able to leave its directory.
    """
    encoded = name.encode("utf-8", "replace")
    if not name or name.startswith(".") or ".." in name or _FORBIDDEN.search(name) or len(encoded) > _MAX_NAME_BYTES:
        raise BadName(f"The name {name[:80]!r} cannot be used.")
    return name


def make_private_directory(directory: Path) -> None:
    """Create ``directory`` with mode 0700 where it is missing; one that exists is left as it is."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, mode 0600: temporary file, fsync, rename, fsync of the directory. What a writer that was
    killed long ago left beside it is removed.

    :raises OSError: the disk is full, the directory is not writable, …; the old file is untouched then.
    """
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _remove_leftovers(path: Path) -> None:
    """Temporary files of ``path`` that nobody can still be writing: they may hold secrets."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _LEFT_BEHIND_S:
                leftover.unlink()


def sync_directory(directory: Path) -> None:
    """Make renames and removals in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
