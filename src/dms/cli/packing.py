"""Files of this machine become an archive that any ``tar`` unpacks, as a stream."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dms.types.errors import BadInput

BUFFER_BYTES = 256 * 1024


def pack(source: Path, name: str, stream: IO[bytes], note: Callable[[int], object] = lambda _bytes: None) -> list[str]:
    """Write a file or a tree as one top entry of that name; what is neither file, directory nor link is left out and told.

    Owners do not travel: whoever unpacks it owns it.

    :raises BadInput: something cannot be read, or changes while it is.
    """
    left_out: list[str] = []
    written = 0

    def taken(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal written
        if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
            left_out.append(entry.name)
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode &= 0o777
        note(written)
        written += entry.size
        return entry

    try:
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT, bufsize=BUFFER_BYTES) as archive:
            archive.add(os.path.realpath(source), arcname=name, filter=taken)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BadInput(f"cannot read {error.filename or source}: {error.strerror or error}") from None
    note(written)
    return left_out
