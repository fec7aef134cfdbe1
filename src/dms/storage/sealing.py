"""Volumes at rest, encrypted: one file each, of libsodium's secretstream (XChaCha20-Poly1305) around a tar archive.

The file is :data:`MAGIC`, the stream's header, then pieces of 64 KiB, each with a tag of its own; the last one says
that it is the last. So a byte that was changed, a piece that was moved, left out or repeated, and a file that was cut
off are all noticed, names and directories are hidden too, and files of any size need little memory.
"""

from __future__ import annotations

import base64
import io
import os
import tarfile
from pathlib import Path
from typing import BinaryIO

from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_ABYTES as ABYTES,
)
from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_HEADERBYTES as HEADER_BYTES,
)
from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_KEYBYTES,
    crypto_secretstream_xchacha20poly1305_pull,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
)
from nacl.exceptions import CryptoError
from nacl.utils import random

from dms.identity.files import write_private
from dms.storage.archive import UnpackLimits, unpack_tar
from dms.storage.errors import CannotUnseal, InvalidStorageSpec, StorageError
from dms.storage.tree import Entry, Extent, room_watched, walk

MAGIC = b"NUVOL\x00\x00\x01"
PIECE_BYTES = 64 * 1024
KEY_BYTES: int = crypto_secretstream_xchacha20poly1305_KEYBYTES
_FINAL: int = crypto_secretstream_xchacha20poly1305_TAG_FINAL
_MESSAGE: int = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_KEY_PREFIX = "nunet-volume-key-1:"


_UNBOUNDED = UnpackLimits(max_bytes=1 << 62, max_files=1 << 62)
"""What is authentic is ours; it was as large before it was encrypted."""


class SealingKey:
    """A key for volumes. It prints as nothing but its kind."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise InvalidStorageSpec(f"a key for volumes has {KEY_BYTES} bytes")
        self._secret = secret

    def __repr__(self) -> str:
        return "SealingKey(…)"

    @classmethod
    def generate(cls) -> SealingKey:
        """A new one."""
        return cls(random(KEY_BYTES))

    @classmethod
    def load(cls, path: Path) -> SealingKey:
        """Read a key file.

        :raises InvalidStorageSpec: it is missing, readable by others, or no key.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(200).decode("ascii", "replace").strip()
        except OSError as exc:
            raise InvalidStorageSpec(f"cannot read the key file {path}: {exc.strerror}") from None
        if mode & 0o077:
            raise InvalidStorageSpec(f"others may read the key file {path}", hint=f"chmod 600 {path}")
        try:
            return cls.parse(text)
        except InvalidStorageSpec:
            raise InvalidStorageSpec(f"{path} is no key for volumes") from None

    @classmethod
    def parse(cls, text: str) -> SealingKey:
        """Read what stands in a key file.

        :raises InvalidStorageSpec: it is no key; the text is not repeated.
        """
        try:
            if not text.startswith(_KEY_PREFIX):
                raise ValueError
            return cls(base64.b64decode(text.strip().removeprefix(_KEY_PREFIX), validate=True))
        except ValueError:
            raise InvalidStorageSpec("this is no key for volumes", hint="send the content of a key file") from None

    def text(self) -> str:
        """What stands in a key file: a secret."""
        return f"{_KEY_PREFIX}{base64.b64encode(self._secret).decode()}"

    def save(self, path: Path) -> None:
        """Write a key file that only its owner reads; one that is there is never replaced.

        :raises InvalidStorageSpec: there is one.
        """
        if path.exists():
            raise InvalidStorageSpec(f"there is a file {path} already", hint="without its key a volume is lost")
        with room_watched(path):
            write_private(path, f"{self.text()}\n".encode())

    @property
    def secret(self) -> bytes:
        """The bytes: for the cipher only."""
        return self._secret


def seal(source: Path, target: Path, key: SealingKey) -> Extent:
    """Write the directory ``source`` into the new file ``target``, mode 0600, on the disk when this returns.

    :raises StorageError: a device, socket or pipe is in it, or the file cannot be written; it is removed then.
    """
    size = files = 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with room_watched(target), os.fdopen(descriptor, "wb") as file:
            sealer = Sealer(file, key)
            with tarfile.open(fileobj=sealer, mode="w|", format=tarfile.PAX_FORMAT, bufsize=PIECE_BYTES) as tar:
                for entry in walk(source):
                    size += entry.size if entry.kind == "file" else 0
                    files += 1
                    _add(tar, entry)
            sealer.finish()
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Extent(size, files)


def unseal(source: Path, target: Path, key: SealingKey) -> Extent:
    """Restore what :func:`seal` wrote into the empty directory ``target``.

    :raises CannotUnseal: the key is wrong or the file damaged; what was written so far is left to the caller.
    """
    with source.open("rb") as file:
        opener = Unsealer(file, key)
        extent = unpack_tar(opener, target, _UNBOUNDED, links_may_leave=True)
        while opener.read(PIECE_BYTES):
            pass  # the end must be authentic, too
        return extent


class Sealer(io.RawIOBase):
    """Encrypts what is written; :meth:`finish` makes it whole."""

    def __init__(self, target: BinaryIO, key: SealingKey) -> None:
        super().__init__()
        self._target = target
        self._pending = bytearray()
        self._state = crypto_secretstream_xchacha20poly1305_state()
        header = crypto_secretstream_xchacha20poly1305_init_push(self._state, key.secret)
        target.write(MAGIC + header)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: object) -> int:
        """Encrypt ``data``, a piece at a time."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]  # any buffer
        self._pending += view
        while len(self._pending) > PIECE_BYTES:
            piece = bytes(self._pending[:PIECE_BYTES])
            del self._pending[:PIECE_BYTES]
            self._push(piece, _MESSAGE)
        return len(view)

    def finish(self) -> None:
        """Write the last piece; without it the stream is invalid."""
        self._push(bytes(self._pending), _FINAL)
        self._pending.clear()

    def _push(self, piece: bytes, tag: int) -> None:
        self._target.write(crypto_secretstream_xchacha20poly1305_push(self._state, piece, MAGIC, tag))


class Unsealer(io.RawIOBase):
    """Decrypts while it is read. Nothing is handed out that is not authentic; the end only after the last piece."""

    def __init__(self, source: BinaryIO, key: SealingKey) -> None:
        super().__init__()
        self._source = source
        self._ready = b""
        self._is_over = False
        head = source.read(len(MAGIC) + HEADER_BYTES)
        if len(head) != len(MAGIC) + HEADER_BYTES or not head.startswith(MAGIC):
            raise CannotUnseal("this is no encrypted volume")
        self._state = crypto_secretstream_xchacha20poly1305_state()
        crypto_secretstream_xchacha20poly1305_init_pull(self._state, head[len(MAGIC) :], key.secret)

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while not self._ready and not self._is_over:
            self._pull()
        count = len(self._ready) if size < 0 else min(size, len(self._ready))
        out, self._ready = self._ready[:count], self._ready[count:]
        return out

    def _pull(self) -> None:
        piece = self._source.read(PIECE_BYTES + ABYTES)
        if not piece:
            raise CannotUnseal("the encrypted volume was cut off")
        try:
            self._ready, tag = crypto_secretstream_xchacha20poly1305_pull(self._state, piece, MAGIC)
        except (CryptoError, RuntimeError, ValueError):
            raise CannotUnseal from None
        self._is_over = tag == _FINAL
        if self._is_over and self._source.read(1):
            raise CannotUnseal("the encrypted volume has something behind its end")


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    if entry.kind == "directory":
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    elif entry.kind == "symlink":
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry.parts[-1], dir_fd=entry.parent)
        tar.addfile(info)
    elif entry.kind == "file":
        with entry.open() as file:
            found = os.fstat(file.fileno())
            info.size, info.mode = found.st_size, 0o755 if found.st_mode & 0o100 else 0o644
            tar.addfile(info, file)
    else:
        raise StorageError(f"{entry.path!r} is neither file nor directory nor link; volumes hold nothing else")
