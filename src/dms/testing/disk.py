"""A disk that is slow, and that forgets in a power cut what was not synced.

A :class:`LossyDisk` belongs to one machine over all its lives. What is written in its directory (let that be in memory)
is there for everybody at once, as in the cache of a real system; a :meth:`LossyDisk.cut` ends the life of all who use it,
and :meth:`LossyDisk.lose` then leaves of every file what a real disk may leave: what was synced for sure, and of the rest
all, a part, or nothing. A :class:`DiskStore` is the database on it: it takes its time, once begun it is not cancelled, and
a power cut finds each transaction either before or after the moment at which it became durable.

Syncs are seen, and worker threads take their time, inside :func:`dms.testing.determinism.repeatable`.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import trio
from sqlalchemy import Engine

from dms.store import Session, Store
from dms.store.errors import StoreClosed

T = TypeVar("T")

_DISK: ContextVar[LossyDisk | None] = ContextVar("disk", default=None)
_DISKS: list[LossyDisk] = []


def current_disk() -> LossyDisk | None:
    """That of the machine whose task this is."""
    return _DISK.get()


def note_sync(descriptor: int) -> bool:
    """A file or directory is synced; whether it is on one of our disks."""
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    for disk in _DISKS:
        if path.is_relative_to(disk.root):
            disk.note(path)
            return True
    return False


class LossyDisk:
    """See the module.

    :param pause_s: how long an operation takes on average; may be changed at any time.
    """

    def __init__(self, root: Path, rng: random.Random, *, pause_s: float = 0.0) -> None:
        self.root = root
        self.pause_s = pause_s
        self.is_cut = False
        self.operations = 0
        self._rng = rng
        self._power_cut = trio.Event()
        self._files: dict[int, bytes] = {}
        """What is durable of a file, by inode."""
        self._names: dict[Path, dict[str, int]] = {}
        """What is durable of a directory."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _DISKS.append(self)

    def close(self) -> None:
        """The machine is gone, and what is on its disk."""
        _DISKS.remove(self)
        shutil.rmtree(self.root, ignore_errors=True)

    def use(self) -> None:
        """Let the calling task, and those that it starts, work on this disk; the power is back."""
        self.is_cut, self._power_cut = False, trio.Event()
        _DISK.set(self)

    def cut(self) -> None:
        """The power is gone: whoever waits for the disk gets an error, and so does all that comes later."""
        self.is_cut = True
        self._power_cut.set()

    async def work(self, operation: Callable[[], T]) -> T:
        """Something that a thread would do; once begun it is not cancelled.

        :raises OSError: the power was cut.
        """
        with trio.CancelScope(shield=True):
            await self.take_time()
            result = operation()
            await self.take_time()
        return result

    async def take_time(self) -> None:
        """Half an operation.

        :raises OSError: the power was cut.
        """
        self.operations += 1
        if self.is_cut:
            raise OSError("power cut")
        if self.pause_s <= 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            with trio.move_on_after(self._rng.expovariate(2 / self.pause_s)):
                await self._power_cut.wait()
        if self.is_cut:
            raise OSError("power cut")

    # what is durable -------------------------------------------------------------------------------------------------

    def note(self, path: Path) -> None:
        """What is at ``path`` now is durable."""
        if path.is_dir():
            self._names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
        elif path.exists():
            self._files[path.stat().st_ino] = path.read_bytes()

    def lose(self) -> None:
        """Take away what a power cut may take away."""
        for directory, _, names in sorted(os.walk(self.root)):
            durable = self._names.get(Path(directory), {})
            for name in sorted(set(names) | {name for name in durable if not (Path(directory) / name).is_dir()}):
                self._lose(Path(directory) / name, durable.get(name))

    def _lose(self, path: Path, named: int | None) -> None:
        now = path.stat().st_ino if path.exists() else None
        is_name_safe = now == named
        if not is_name_safe and self._rng.random() < 0.5:  # creation, removal or renaming did not get there
            old = self._files.get(named) if named is not None else None
            if old is not None:
                path.write_bytes(old)
            elif named is None:
                path.unlink(missing_ok=True)
            return
        if now is None:
            return
        written, durable = path.read_bytes(), self._files.get(now, b"")
        if written == durable:
            return
        if written.startswith(durable):  # appended
            kept = self._rng.choice([len(durable), len(written), self._rng.randint(len(durable), len(written))])
            os.truncate(path, kept)
        elif self._rng.random() < 0.5:
            path.write_bytes(durable)


class DiskStore(Store):
    """A database in memory with the timing and the durability of one on ``disk``; each life of a node opens another one on
    the same ``engine``.
    """

    def __init__(
        self, engine: Engine, disk: LossyDisk, now: Callable[[], float], *, written: Callable[[], None]
    ) -> None:
        super().__init__(engine, None, None, now)
        self._disk = disk
        self._written = written

    async def run(self, fn: Callable[[Session], T]) -> T:
        """As :meth:`dms.store.Store.run` of a file does it."""
        if self._closed:
            raise StoreClosed
        now_ns = self._now_ns()
        await trio.lowlevel.checkpoint_if_cancelled()
        async with self._one_at_a_time:
            try:
                return await self._disk.work(lambda: self._write(fn, now_ns))
            except OSError:
                raise StoreClosed from None

    def _write(self, fn: Callable[[Session], T], now_ns: int) -> T:
        self._written()
        return self._transact(fn, now_ns)


class MortalStore(Store):
    """A database in memory whose node dies after some transaction: whoever waits for that one never hears of it."""

    left: int | None = None
    die: Callable[[], None]

    async def run(self, fn: Callable[[Session], T]) -> T:
        """As the original, as long as the node lives."""
        result = await super().run(fn)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self._closed = True
                self.die()
                await trio.sleep_forever()
        return result
