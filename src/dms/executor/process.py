"""The detached processes in which workloads run, as seen from the daemon: find again, signal, wait.

Every execution of a backend that starts processes has a private *run directory* (mode 0700) below the executor's state
directory. What the process itself keeps in it, its runner tells; beside that:

``record.json``
    Which execution this is; written and synced before the process starts, so that none is ever lost.
``cancelled``
    Exists when we asked the process to stop: what tells a cancelled execution from one that somebody else killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec
import trio

from dms.executor.detached import start_ticks, write_file, write_pid

FREEZE_S, FREEZE_POLL_S = 1.0, 0.01
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LAUNCH = "import sys; sys.path.append(sys.argv[1]); from dms.executor.{0} import {1}; {1}(sys.argv[2])"


class Record(msgspec.Struct, frozen=True):
    """``record.json``."""

    execution_id: str
    job_id: str
    results_dir: str
    memory_bytes: int
    boot_id: str


class Exit(msgspec.Struct, frozen=True):
    """``exit.json``; ``reason`` is a value of ``EndReason`` or ``signalled``."""

    exit_code: int
    reason: str
    error_msg: str


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """One execution's private directory."""

    path: Path

    @classmethod
    def of(cls, root: Path, execution_id: str) -> RunDirectory:
        """Where an execution lies; ids are free text, so the name is a digest."""
        return cls(root / hashlib.sha256(execution_id.encode()).hexdigest()[:32])

    def write(self, name: str, data: bytes, *, sync: bool = False) -> None:
        """Whole or not at all; ``sync`` what must survive a power failure, which no process does."""
        write_file(str(self.path / name), data, sync=sync)

    @property
    def record(self) -> Record | None:
        """Which execution it is; ``None`` where that cannot be read any more."""
        try:
            return msgspec.json.decode((self.path / "record.json").read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None

    @property
    def exit(self) -> Exit | None:
        """How the process said that it ended."""
        try:
            return msgspec.json.decode((self.path / "exit.json").read_bytes(), type=Exit)
        except (OSError, msgspec.MsgspecError):
            return None

    @property
    def is_cancelled(self) -> bool:
        """Whether we asked it to stop."""
        return (self.path / "cancelled").exists()

    def process(self) -> Process | None:
        """The process, if it still runs."""
        try:
            pid, ticks = (int(part) for part in (self.path / "pid").read_text().split())
        except (OSError, ValueError):
            return None
        return Process.open(pid, ticks)


class Process:
    """A running process, held by a descriptor, so that its number cannot come to mean another one."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid, self._fd = pid, fd

    @classmethod
    def open(cls, pid: int, ticks: int | None = None) -> Process | None:
        """Take hold of it; ``None`` when it is gone or, by its start time, another one."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return None
        try:
            if ticks is not None and start_ticks(pid) != ticks:
                raise ProcessLookupError(pid)
        except OSError:
            os.close(fd)
            return None
        return cls(pid, fd)

    def send(self, number: signal.Signals) -> None:
        """Signal it, unless it is gone."""
        if self._fd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    async def wait(self) -> int:
        """Wait for its end; returns the signal that killed it, as far as we are its parent, else 0."""
        await trio.lowlevel.wait_readable(self._fd)
        try:
            ended = os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222  it has ended
        except ChildProcessError:
            return 0  # it was started by an earlier process
        return ended.si_status if ended is not None and ended.si_code != os.CLD_EXITED else 0

    def close(self) -> None:
        """Let go."""
        if self._fd >= 0:
            trio.lowlevel.notify_closing(self._fd)
            os.close(self._fd)
            self._fd = -1

    async def freeze(self, *, frozen: bool) -> None:
        """Stop or continue it; returns when that shows, or after a second."""
        self.send(signal.SIGSTOP if frozen else signal.SIGCONT)
        with trio.move_on_after(FREEZE_S):
            while self._fd >= 0 and self.is_stopped != frozen:  # noqa: ASYNC110  the kernel tells nobody
                await trio.sleep(FREEZE_POLL_S)

    @property
    def is_stopped(self) -> bool:
        """Whether it is frozen."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
        except OSError:
            return False


def spawn(run: RunDirectory, runner: str, *, inherited: Mapping[int, int] = MappingProxyType({})) -> int:
    """Start the process for a prepared run directory with ``main`` of the module ``runner``; returns its id.

    It leads its own session, inherits nothing but three closed ends, and outlives us. ``inherited``: descriptors that it has,
    too, by ours its numbers for them; none of these may be one of ours.

    :raises OSError: the system refused.
    """
    null = os.devnull
    pid = os.posix_spawn(
        sys.executable,
        interpreter(runner, "main", str(run.path)),
        {},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(run.path / "runner.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            *((os.POSIX_SPAWN_DUP2, own, there) for own, there in inherited.items()),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP, signal.SIGQUIT],
    )
    with contextlib.suppress(OSError):  # it ended already, or the disk is full: it writes its id itself
        write_pid(str(run.path), pid)
    return pid


def interpreter(module: str, function: str, argument: str) -> list[str]:
    """A command line: a bare interpreter that calls ``dms.executor.<module>.<function>(argument)``."""
    root = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-I", "-S", "-c", _LAUNCH.format(module, function), root, argument]


def boot_id() -> str:
    """What changes when the machine restarts; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def dump(value: object) -> bytes:
    """JSON for the runner, which has the standard library only."""
    return json.dumps(value).encode()
