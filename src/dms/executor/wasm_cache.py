"""Compiled programs on the disk: what makes the second start of a program fast.

Whoever can put compiled code there can run anything as us. So an entry is loaded only where nobody else could have
written it (a regular file in a directory, both ours and closed to everybody else), and where it carries the right code
of authentication: keyed BLAKE2b over its name and content, with a key that never leaves the directory. Everything else
is as if it were not there, and is replaced. The name is a hash over the program, the version of Wasmtime and what it
was configured to do; Wasmtime itself refuses what was compiled for another processor.

::

    <directory>/key             32 random bytes, mode 0600
    <directory>/<name>.cwasm    MAGIC, 32 bytes of authentication, the compiled code; mode 0600

What was used last is kept: an entry's time is that of its last use. Standard library only, and little of it: this is
part of the start of every program.
"""

from __future__ import annotations

import os
import stat
from _blake2 import blake2b  # hashlib would load OpenSSL

from dms.executor.detached import remove_file, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAGIC = b"NUCWASM1"
MAC_BYTES = KEY_BYTES = 32
SUFFIX = ".cwasm"
MAX_CACHE_BYTES = 512 * 1024 * 1024
"""Of all entries together."""
MAX_ENTRY_PART = 2
"""One entry takes at most this part of it."""


def open_key(directory: str) -> bytes:
    """The key of this directory, made where there is none or one that others could have read.

    :raises OSError: it can be neither read nor written.
    """
    key = _key(directory)
    if key is None:
        key = os.urandom(KEY_BYTES)
        write_file(
            f"{directory}/key", key
        )  # of two that make one at once the last wins: the other's entry is made anew
    return key


def load(directory: str, name: str) -> bytes | None:
    """The compiled code of this name, if it is there and beyond doubt."""
    try:
        if not _is_ours(os.stat(directory), stat.S_ISDIR):  # noqa: PTH116
            return None
        key, path = _key(directory), _path(directory, name)
        head, code = _read_own(path, len(MAGIC) + MAC_BYTES, MAX_CACHE_BYTES)
        if key is None or head != MAGIC + _mac(key, name, code):  # a local file: nobody measures how long this takes
            return None
        os.utime(path)
    except OSError:
        return None
    return code


def store(directory: str, name: str, code: bytes, *, limit_bytes: int = MAX_CACHE_BYTES) -> None:
    """Keep it, and drop those unused for longest until all fit. What cannot be kept is not: the next start is slower,
    nothing else."""
    if len(code) > limit_bytes // MAX_ENTRY_PART:
        return
    try:
        if not _is_ours(os.stat(directory), stat.S_ISDIR):  # noqa: PTH116
            return
        prune(directory, limit_bytes - len(code))
        write_file(_path(directory, name), MAGIC + _mac(open_key(directory), name, code) + code, sync=False)
    except OSError:
        pass


def prune(directory: str, limit_bytes: int = MAX_CACHE_BYTES) -> None:
    """Drop entries, those unused for longest first, until the rest is within the limit; and what an interrupted write left.

    :raises OSError: the directory cannot be read.
    """
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith((SUFFIX, ".tmp")):
                info = entry.stat(follow_symlinks=False)
                found.append((info.st_mtime, info.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit_bytes:
            return
        remove_file(path)
        total -= size


def _path(directory: str, name: str) -> str:
    return f"{directory}/{name}{SUFFIX}"


def _mac(key: bytes, name: str, code: bytes) -> bytes:
    digest = blake2b(key=key, digest_size=MAC_BYTES)
    digest.update(name.encode() + b"\0")
    digest.update(code)
    return digest.digest()


def _key(directory: str) -> bytes | None:
    key, more = _read_own(f"{directory}/key", KEY_BYTES, KEY_BYTES)
    return key if len(key) == KEY_BYTES and not more else None


def _read_own(path: str, head_bytes: int, max_bytes: int) -> tuple[bytes, bytes]:
    """The beginning and the rest of a file that nobody else can have written or read; of every other file, nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b"", b""
    with open(fd, "rb") as file:  # noqa: PTH123
        info = os.fstat(file.fileno())
        if not _is_ours(info, stat.S_ISREG) or info.st_nlink != 1 or info.st_size > max_bytes:
            return b"", b""
        return file.read(head_bytes), file.read(max_bytes)


def _is_ours(info: os.stat_result, kind: Callable[[int], bool]) -> bool:
    return kind(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o077
