"""A file that names the process, for scripts that want to signal it; it is gone when the process ended in order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dms.daemon.errors import AlreadyRuns
from dms.types.errors import BadInput


@contextlib.contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Keep ``path`` with the id of this process in decimal digits and a line's end; ``None``: nothing.

    What a killed process left is replaced.

    :raises AlreadyRuns: the process that it names lives and is another.
    :raises BadInput: it cannot be written.
    """
    if path is None:
        yield
        return
    if (other := _named(path)) is not None and other != os.getpid() and _lives(other):
        raise AlreadyRuns(f"{path} names the process {other}, which runs")
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_text(f"{os.getpid()}\n", encoding="ascii")
        fresh.replace(path)
    except OSError as exc:
        raise BadInput(f"cannot write {path}: {exc.strerror}", hint="give --pid-file another place") from None
    try:
        yield
    finally:
        if _named(path) == os.getpid():
            with contextlib.suppress(OSError):
                path.unlink()


def _named(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and 0 < int(text) < 1 << 31 else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
