"""What every storage provider can do, and what it needs while it does it: bounds, progress, and partial files that
survive an interruption.

Cancellation is trio's: cancel the scope around a transfer. What was received stays in the gathering directory and is
resumed by the next attempt, where the other side still has the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import msgspec
import trio

from dms.identity.files import make_private_directory, write_private
from dms.storage.errors import TooLarge
from dms.storage.tree import Sink, check_path, room_watched
from dms.types.errors import DMSError
from dms.types.resources import SpecConfig

T = TypeVar("T")
U = TypeVar("U")

SYNC_EVERY_BYTES = 64 << 20
"""How much is received again at most after a power cut."""
NOTED_ABOVE_BYTES = 4 << 20
"""Smaller files come again after an interruption, rather than that each is synced on its own."""
REPORT_EVERY_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Limits:
    """What a transfer may bring."""

    max_bytes: int = 64 << 30
    max_files: int = 100_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is; ``total_bytes`` is ``None`` as long as nobody knows."""

    done_bytes: int = 0
    total_bytes: int | None = None
    files: int = 0


OnProgress = Callable[[Progress], None]
"""Called in trio's thread, now and then and at the end; must not block."""


class Meter:
    """Counts what one transfer moves, holds it within its limits and reports."""

    def __init__(self, limits: Limits | None = None, on_progress: OnProgress | None = None) -> None:
        self.limits = limits or Limits()
        self.progress = Progress()
        self._on_progress = on_progress
        self._reported = 0

    def expect(self, total_bytes: int | None, files: int = 0) -> None:
        """What the other side says that it will be.

        :raises TooLarge: more than is allowed.
        """
        self._check(total_bytes or 0, files)
        self.progress = Progress(self.progress.done_bytes, total_bytes, self.progress.files)

    def add(self, size: int) -> None:
        """So many bytes more.

        :raises TooLarge: more than is allowed.
        """
        done = max(0, self.progress.done_bytes + size)
        self._check(done, 0)
        self.progress = Progress(done, self.progress.total_bytes, self.progress.files)
        if abs(done - self._reported) >= REPORT_EVERY_BYTES:
            self.report()

    def file(self) -> None:
        """A file is complete."""
        files = self.progress.files + 1
        self._check(0, files)
        self.progress = Progress(self.progress.done_bytes, self.progress.total_bytes, files)
        self.report()

    def report(self) -> None:
        """Tell how far it is."""
        self._reported = self.progress.done_bytes
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def _check(self, size: int, files: int) -> None:
        if size > self.limits.max_bytes:
            raise TooLarge(f"this is more than the {self.limits.max_bytes} bytes that are allowed")
        if files > self.limits.max_files:
            raise TooLarge(f"these are more than the {self.limits.max_files} files that are allowed")


class Provider(Protocol):
    """One kind of storage elsewhere."""

    @property
    def type(self) -> str:
        """What a specification calls it."""
        ...

    def check(self, spec: SpecConfig) -> None:
        """Look at the parameters without doing anything.

        :raises InvalidStorageSpec: they cannot work.
        """
        ...

    def check_target(self, spec: SpecConfig) -> None:
        """The same for an upload."""
        ...

    async def size(self, source: SpecConfig) -> int:
        """Bytes of content.

        :raises SourceNotFound: there is no such thing.
        """
        ...

    async def download(self, source: SpecConfig, into: Gathering, meter: Meter) -> None:
        """Bring all files into ``into``; each is there whole and checked, or not at all.

        :raises ContentMismatch: what came is not what was named.
        :raises TransferFailed: it broke off; another attempt goes on from there.
        """
        ...

    async def upload(self, directory: Path, target: SpecConfig, meter: Meter) -> SpecConfig:
        """Bring the directory there; returns where it can be downloaded from, without secrets."""
        ...


@contextmanager
def one_error() -> Iterator[None]:
    """Take the error of ours out of the groups that nurseries put around it; groups that hold a defect stay as they are."""
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = [*_leaves(group)]
        ours = [leaf for leaf in leaves if isinstance(leaf, DMSError)]
        if not ours or any(not isinstance(leaf, DMSError | trio.Cancelled) for leaf in leaves):
            raise
        raise ours[0] from None


async def in_order(
    items: Sequence[T], fetch: Callable[[T], Awaitable[U]], use: Callable[[T, U], Awaitable[None]], *, ahead: int
) -> None:
    """``use`` what ``fetch`` gets of each item, in order, while up to ``ahead`` of them are being fetched or wait."""
    room = trio.Semaphore(ahead)
    channels = [trio.open_memory_channel[U](1) for _ in items]

    async def get(index: int) -> None:
        async with channels[index][0] as send:
            await send.send(await fetch(items[index]))

    async def begin() -> None:
        for index in range(len(items)):
            await room.acquire()
            nursery.start_soon(get, index)

    with one_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            for item, (_, receive) in zip(items, channels, strict=True):
                async with receive:
                    await use(item, await receive.receive())
                room.release()


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for inner in group.exceptions:
        if isinstance(inner, BaseExceptionGroup):
            yield from _leaves(inner)
        else:
            yield inner


class _State(msgspec.Struct):
    validator: str
    done: int
    is_complete: bool = False


class Gathering:
    """A directory in which one download is put together, over as many attempts as it takes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content = root / "content"
        self._parts = root / "parts"
        self._complete: dict[str, str] = {}
        """Validators of small files that came whole in this process."""

    async def prepare(self) -> None:
        """Make it, or find it again."""
        with room_watched(self.root):
            await trio.to_thread.run_sync(self._prepare)

    async def has(self, path: str, validator: str) -> bool:
        """Whether the file ``path`` came whole already, as it is still there on the other side."""
        return await trio.to_thread.run_sync(self._has, path, validator)

    async def part(self, path: str, validator: str) -> Part:
        """Begin or resume the file ``path``. ``validator`` tells one state of the other side's file from another; where
        it is empty, nothing is resumed."""
        check_path(path)
        with room_watched(path):
            return await trio.to_thread.run_sync(self._open, path, validator)

    async def directory(self, path: str) -> None:
        """An empty directory."""
        with room_watched(path):
            await trio.to_thread.run_sync(self._directory, path)

    async def symlink(self, path: str, target: str) -> None:
        """A symbolic link, as it is on the other side."""
        with room_watched(path):
            await trio.to_thread.run_sync(self._symlink, path, target)

    def note(self, path: str, validator: str) -> None:
        """The file ``path`` came whole."""
        self._complete[path] = validator

    def _prepare(self) -> None:
        for directory in (self.root, self.content, self._parts):
            make_private_directory(directory)

    def _has(self, path: str, validator: str) -> bool:
        state = self._state(path)
        known = state.validator if state is not None and state.is_complete else self._complete.get(path)
        return bool(validator) and known == validator and (self.content / path).is_file()

    def _open(self, path: str, validator: str) -> Part:
        state = self._state(path)
        file, note = self._files(path)
        with Sink(self.content) as sink:
            sink.discard(path)  # of an attempt before, or it has changed on the other side
        done = 0
        if state is not None and not state.is_complete and validator and state.validator == validator and file.exists():
            done = min(state.done, file.stat().st_size)
        return Part(self, path, file, note, validator, done)

    def _directory(self, path: str) -> None:
        with Sink(self.content) as sink:
            sink.directory(path)

    def _symlink(self, path: str, target: str) -> None:
        with Sink(self.content) as sink:
            sink.discard(path)
            sink.symlink(path, target)

    def _state(self, path: str) -> _State | None:
        try:
            return msgspec.json.decode(self._files(path)[1].read_bytes(), type=_State)
        except (OSError, msgspec.MsgspecError):
            return None

    def _files(self, path: str) -> tuple[Path, Path]:
        name = hashlib.sha256(path.encode()).hexdigest()[:40]
        return self._parts / name, self._parts / f"{name}.json"


class Part:
    """One file that is being received. ``async with`` it: on an error, what is there is kept for the next attempt."""

    def __init__(self, gathering: Gathering, path: str, file: Path, note: Path, validator: str, done: int) -> None:
        self.path = path
        self.offset = done
        """How much is there already."""
        self.validator = validator
        self._gathering = gathering
        self._file = file
        self._note = note
        self._synced = done
        self._is_finished = False
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(file, flags, 0o600)
        os.ftruncate(self._descriptor, done)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._close)

    async def write(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        with room_watched(self.path):
            await trio.to_thread.run_sync(self._write, data)

    def write_now(self, data: bytes | memoryview) -> None:
        """The same, within a worker thread."""
        with room_watched(self.path):
            self._write(data)

    async def restart(self) -> None:
        """Throw away what is there."""
        self.offset = self._synced = 0
        await trio.to_thread.run_sync(os.ftruncate, self._descriptor, 0)

    async def digest(self, algorithm: str) -> str:
        """The hash of what is there, in hex."""
        return await trio.to_thread.run_sync(self._digest, algorithm)

    async def finish(self, *, is_executable: bool = False) -> None:
        """It is whole and right: put it where it belongs. Small files are durable once their volume is locked."""
        with room_watched(self.path):
            await trio.to_thread.run_sync(self._finish, is_executable)

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._descriptor, view, self.offset)
            self.offset += count
            view = view[count:]
        if self.validator and self.offset - self._synced >= SYNC_EVERY_BYTES:
            self._remember()

    def _remember(self) -> None:
        os.fsync(self._descriptor)
        write_private(self._note, msgspec.json.encode(_State(self.validator, self.offset)))
        self._synced = self.offset

    def _digest(self, algorithm: str) -> str:
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            return hashlib.file_digest(file, algorithm).hexdigest()

    def _finish(self, is_executable: bool) -> None:  # noqa: FBT001  for a thread
        os.fchmod(self._descriptor, 0o755 if is_executable else 0o644)
        is_noted = self.offset > NOTED_ABOVE_BYTES or self._note.exists()
        if is_noted:
            os.fsync(self._descriptor)
        with Sink(self._gathering.content) as sink:
            sink.move_in(self._file, self.path)
        self._gathering.note(self.path, self.validator)
        if is_noted:
            write_private(self._note, msgspec.json.encode(_State(self.validator, self.offset, is_complete=True)))
        self._is_finished = True

    def _close(self) -> None:
        try:
            if not self._is_finished and self.validator and self.offset > self._synced:
                self._remember()
        except OSError:
            pass  # a full disk: less will be resumed
        finally:
            os.close(self._descriptor)
