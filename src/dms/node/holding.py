"""Which running node uses a capability file, and which state of it that node has taken up.

The node holds a lock on a small file beside the context for as long as it lives; the kernel drops the lock with the
process, so nothing has to be cleaned after a crash, and no process id is ever signalled on a guess. In the small file
it writes the state of the context file that it loaded last: whoever changed the file can wait for that.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

FileState = tuple[int, ...]
"""What changes whenever a file is written: modification time, inode and size; empty when it is not there."""

POLL_S = 0.05
MAX_BYTES = 4096
_TRIES = 20


class Uptake(Enum):
    """What became of a change to a context file."""

    NO_NODE = "no node"
    TAKEN_UP = "taken up"
    NOT_YET = "not yet"


def file_state(path: Path) -> FileState:
    """The state of a file now."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size


@contextmanager
def held(path: Path) -> Iterator[Callable[[FileState], None]]:
    """Say, while the context lasts, that this process uses the context file ``path``; the function that it yields says
    which state of it has been loaded. Where another process says so already, or the directory cannot be written to,
    nothing is said.
    """
    try:
        descriptor = os.open(_beside(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield lambda _state: None
        return
    try:
        if not _lock(descriptor, fcntl.LOCK_EX):
            yield lambda _state: None
            return

        def loaded(state: FileState) -> None:
            with suppress(OSError):
                data = json.dumps(state).encode()
                os.pwrite(descriptor, data.ljust(MAX_BYTES // 16), 0)

        yield loaded
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def wait_for_uptake(path: Path, *, timeout_s: float) -> Uptake:
    """Wait until the node that uses the context file ``path`` has loaded its present state."""
    state, deadline = file_state(path), time.monotonic() + timeout_s
    while True:
        loaded = _loaded_by_node(path)
        if loaded is None:
            return Uptake.NO_NODE
        if loaded == state:
            return Uptake.TAKEN_UP
        if time.monotonic() >= deadline:
            return Uptake.NOT_YET
        time.sleep(POLL_S)


def _loaded_by_node(path: Path) -> FileState | None:
    """What the node loaded; ``None`` when no node uses the file."""
    try:
        descriptor = os.open(_beside(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _parse(os.pread(descriptor, MAX_BYTES, 0))
    except OSError:
        return None
    else:
        return None
    finally:
        os.close(descriptor)


def _parse(data: bytes) -> FileState:
    try:
        value = json.loads(data or b"[]")
    except ValueError:
        return ()
    return tuple(value) if isinstance(value, list) else ()


def _lock(descriptor: int, kind: int) -> bool:
    for _ in range(_TRIES):  # a command that only looks holds it for an instant
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(POLL_S / 10)
        else:
            return True
    return False


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.node")
