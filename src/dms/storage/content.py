"""The content id of a directory: what ``ipfs add --recursive --hidden --cid-version=1`` would call it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dms.storage.cid import CID
from dms.storage.errors import StorageError
from dms.storage.tree import Entry, fold
from dms.storage.unixfs import DEFAULT, Builder, Emit, Layout, Link


@dataclass(frozen=True, slots=True)
class Content:
    """What a directory holds."""

    cid: CID
    size_bytes: int
    files: int


def read_content(root: Path, *, layout: Layout = DEFAULT, emit: Emit | None = None) -> Content:
    """Read all of ``root``, in constant memory for files.

    ``emit`` takes every block. Symbolic links are content themselves and not followed.

    :raises StorageError: a device, socket or pipe is among the files.
    """
    builder = Builder(layout, emit)
    size = files = 0

    def leaf(entry: Entry) -> Link:
        nonlocal size, files
        size += entry.size
        files += 1
        if entry.kind == "symlink":
            return builder.symlink(os.fsencode(os.readlink(entry.parts[-1], dir_fd=entry.parent)))
        if entry.kind != "file":
            raise StorageError(f"{entry.path!r} is neither file nor directory nor link; volumes hold nothing else")
        with entry.open() as file:
            return builder.file(file)

    def directory(_path: str, found: list[tuple[str, object]]) -> Link:
        named = ((os.fsencode(name), cast("Link", link)) for name, link in found)
        return builder.directory(Link(link.cid, name, link.total_bytes, link.file_bytes) for name, link in named)

    try:
        root_link = cast("Link", fold(root, leaf, directory))
    except OSError as exc:
        raise StorageError(f"cannot read {root}: {exc.strerror}") from exc
    return Content(root_link.cid, size, files)
