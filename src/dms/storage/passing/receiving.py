"""The receiving side of a file: what came so far, and putting it in its place once it is whole.

The partial file lies in the staging directory of the volumes, under a name made of everything that says what it is, so
that another attempt, also of another process, goes on from its end. What is there is hashed again before it is believed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Self

import trio

from dms.identity.files import sync_directory
from dms.network.byte_streams import ByteStream
from dms.storage.errors import ContentMismatch, StorageFull, TransferFailed
from dms.storage.passing.protocol import DIGEST_BYTES, STALL_S
from dms.storage.passing.transfers import Transfer
from dms.storage.tree import Sink, room_watched

READ_BYTES = 1 << 20
SPARE_BYTES = 64 << 20
"""What must stay free on the disk."""


class Partial:
    """A file that is not whole yet; ``with`` it. Synchronous: for worker threads."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._size = size
        self._hash = hashlib.sha256()
        with room_watched(path.name):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "r+b")
            if os.fstat(descriptor).st_size > size:
                self._file.truncate(0)
            while data := self._file.read(READ_BYTES):
                self._hash.update(data)
            self.done = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    def add(self, data: bytes) -> None:
        """So many bytes more.

        :raises StorageFull: no room for them.
        """
        with room_watched(self.path.name):
            self._file.write(data)
        self._hash.update(data)
        self.done += len(data)

    def finish(self, digest: bytes, volume: Path, name: str) -> None:
        """Put it in its place, unless it is not what was sent; then nothing of it is kept.

        :raises ContentMismatch: it is not.
        :raises InvalidVolumeName: the place is taken meanwhile.
        """
        if self._hash.digest() != digest:
            self._file.close()
            self.path.unlink(missing_ok=True)
            raise ContentMismatch("what arrived is not what was sent", hint="send it again: it may have been changed")
        with room_watched(name):
            self._file.flush()
            os.fchmod(self._file.fileno(), 0o644)
            os.fsync(self._file.fileno())
            with Sink(volume) as sink:
                sink.move_in(self.path, name)
            sync_directory((volume / name).parent)


def require_room(directory: Path, missing: int, allowed: int | None) -> None:
    """See that the rest of a file will fit.

    :raises StorageFull: it will not.
    """
    free = shutil.disk_usage(directory).free - SPARE_BYTES
    if missing > free or (allowed is not None and missing > allowed):
        raise StorageFull(f"no room for {missing} more bytes")


async def receive(stream: ByteStream, partial: Partial, transfer: Transfer) -> bytes:
    """Take in the rest of a file; its digest as the sender has it.

    :raises TransferFailed: nothing came for a while, or too little.
    """
    left, digest = transfer.size - partial.done, b""
    while left or len(digest) < DIGEST_BYTES:
        with trio.move_on_after(STALL_S) as scope:
            data = await stream.read(min(READ_BYTES, left) if left else DIGEST_BYTES - len(digest))
        if scope.cancelled_caught:
            raise TransferFailed(f"nothing came for {STALL_S:g} s")
        if not data:
            raise TransferFailed(f"the other side ended the stream, {left} bytes before the end of the file")
        if left:
            await trio.to_thread.run_sync(partial.add, data)
            left -= len(data)
            transfer.done = partial.done
        else:
            digest += data
    return digest
