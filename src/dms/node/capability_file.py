"""The anchors of a running node and the file that keeps them (``spec/security.md`` 4.6, 5.10).

The file is what lasts; the context in memory is what decides. Both sides write: the command line changes the file and
the node takes that up; behaviours change the node, and the file before they answer. No side ever loses what the other
wrote: every change is made to what the file holds at that moment, under the lock that all writers take.

What the node grants while it runs (to orchestrators, for hours) is in memory only and survives a reload.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from dms.capability.context import CapabilityContext
from dms.capability.store import load_context, save_context
from dms.capability.token import TokenList
from dms.identity.ids import DID
from dms.identity.trust import TrustContext
from dms.node.holding import FileState, file_state, held
from dms.observe import get_logger
from dms.tasks import Interval, Scheduler
from dms.types.errors import DMSError, Unavailable

POLL_S = 1.0
RETRY_S = 60.0
"""How long to wait before keys are asked for again that could not be had: tokens in the file rest on them."""
LOCK_TIMEOUT_S = 10.0
LOCK_POLL_S = 0.02

Anchors = tuple[tuple[DID, ...], TokenList, TokenList, TokenList]
"""Roots, require and provide anchors, revocations."""

T = TypeVar("T")

log = get_logger(__name__)


class AnchorKeeper(Protocol):
    """A context, and the one way to change its anchors for good."""

    @property
    def context(self) -> CapabilityContext:
        """What decides."""
        ...

    async def change(self, edit: Callable[[CapabilityContext], T]) -> T:
        """Change the anchors; durable when this returns, and in force. ``edit`` may be given a context that stands for
        this one, and what it raises leaves everything as it was.

        :raises DMSError: the change could not be kept.
        """
        ...


class Unkept:
    """The anchors of a node that has no file: they end with it."""

    def __init__(self, context: CapabilityContext) -> None:
        self.context = context

    async def change(self, edit: Callable[[CapabilityContext], T]) -> T:
        """Change the context itself."""
        await trio.lowlevel.checkpoint()
        return edit(self.context)


class CapabilityFile:
    """The anchors on disk, joined to the context in memory.

    :param trust: signs for ``did``, which a file that is made here is for.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        did: DID,
        trust: TrustContext,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self._name = name
        self._trust = trust
        self._clock_ns = clock_ns
        self._mutex = trio.Lock()
        self._asked_at_s = 0.0
        self._tell: Callable[[FileState], None] = _tell_nobody
        if not path.exists():
            save_context(CapabilityContext(name, did, trust, clock_ns=clock_ns), path)
        self._state = file_state(path)
        self.context = self._load()
        self._on_disk: CapabilityContext | None = None
        self._loaded: Anchors = self.context.list_roots()
        self._are_keys_missing = any(self.context.unresolved.values())

    async def change(self, edit: Callable[[CapabilityContext], T]) -> T:
        """Make ``edit`` in the file, then take it up; see :class:`AnchorKeeper`.

        :raises DMSError: of ``edit``; or the file cannot be read, locked or written.
        """
        await self._resolve()
        async with self._mutex:
            with await self._locked():
                fresh = self._fresh()
                self._on_disk = None  # until it is certain that it is what the file holds
                result = edit(fresh)
                try:
                    await trio.to_thread.run_sync(save_context, fresh, self.path)
                except OSError as exc:
                    raise Unavailable(
                        f"the capability file {self.path} cannot be written: {exc.strerror or exc}",
                        hint="free space on the disk, and look at the rights of its directory",
                    ) from None
                self._adopt(fresh)
                return result

    def reload(self) -> None:
        """Add what is new in the file and drop what is gone from it; what cannot be read changes nothing."""
        state = file_state(self.path)
        try:
            fresh = self._load()
            problems = fresh.load_problems
            self._state = state
            self._adopt(fresh, state)
        except DMSError as exc:
            self._state = state
            log.error("capabilities_not_reloaded", file=str(self.path), reason=exc.message)
            return
        warn_of_problems(problems, self.path)
        log.info("capabilities_reloaded", file=str(self.path))

    async def keep_up(self, tasks: Scheduler) -> None:
        """Reload when the file has changed, until cancelled."""
        with held(self.path) as tell:
            self._tell = tell
            tell(self._state)
            self._asked_at_s = trio.current_time()
            task = tasks.add("capability_file", self._look, Interval(POLL_S))
            try:
                await trio.sleep_forever()
            finally:
                tasks.remove(task, cancels=True)
                self._tell = _tell_nobody

    async def _look(self) -> None:
        is_due = self._are_keys_missing and trio.current_time() - self._asked_at_s >= RETRY_S
        if self._mutex.locked() or (file_state(self.path) == self._state and not is_due):
            return
        self._asked_at_s = trio.current_time()
        await self._resolve()
        self.reload()

    async def reload_on_signal(self) -> None:
        """Reload at each SIGUSR1, until cancelled."""
        if threading.current_thread() is not threading.main_thread():
            return  # signals belong to whoever embeds us
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            async for _ in signals:
                await self._resolve()
                async with self._mutex:
                    self.reload()

    async def _resolve(self) -> None:
        """Fetch the keys that the tokens in the file need and that are not known, before they are verified."""
        with contextlib.suppress(OSError):
            await self._trust.resolve_mentioned(self.path.read_bytes())

    def _load(self) -> CapabilityContext:
        return load_context(self.path, self._trust, name=self._name, clock_ns=self._clock_ns)

    def _fresh(self) -> CapabilityContext:
        """What the file holds now; what we wrote ourselves last need not be read and verified again."""
        if self._on_disk is not None and self._state and file_state(self.path) == self._state:
            return self._on_disk
        fresh = self._load()
        warn_of_problems(fresh.load_problems, self.path)
        return fresh

    def _adopt(self, fresh: CapabilityContext, state: FileState | None = None) -> None:
        """Make the context what it was, without what is gone from the file and with what is new there."""
        found = fresh.list_roots()
        gone, new = _without(self._loaded, found), _without(found, self._loaded)
        self.context.remove_roots(*gone)
        try:
            self.context.add_roots(*new)
        except DMSError:
            self.context.add_roots(*gone)
            raise
        self._loaded, self._on_disk = found, fresh
        self._are_keys_missing = any(fresh.unresolved.values())
        self._state = file_state(self.path) if state is None else state
        self._tell(self._state)

    async def _locked(self) -> _Lock:
        """The lock that every writer of the file takes; waited for without a thread, because a writer may be stopped.

        :raises Unavailable: somebody keeps it.
        """
        deadline = trio.current_time() + LOCK_TIMEOUT_S
        lock = _Lock(self.path)
        while not lock.try_acquire():
            if trio.current_time() >= deadline:
                lock.release()
                raise Unavailable(
                    f"another program keeps the capability file {self.path} locked", hint="end that program, try again"
                )
            await trio.sleep(LOCK_POLL_S)
        return lock


class _Lock:
    """The lock file of :func:`dms.capability.store.edit_context`, taken without waiting."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_acquire(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_exc: object) -> None:
        self.release()


def warn_of_problems(problems: tuple[str, ...], path: Path) -> None:
    """Log what a context file held that cannot be used."""
    for problem in problems:
        log.warning("capability_skipped", file=str(path), problem=problem)


def _tell_nobody(_state: FileState) -> None:
    return


def _without(anchors: Anchors, others: Anchors) -> Anchors:
    """Of ``anchors`` those that are not among ``others``."""
    roots = tuple(root for root in anchors[0] if root not in set(others[0]))
    require, provide, revoke = (_difference(a, b) for a, b in zip(anchors[1:], others[1:], strict=True))
    return roots, require, provide, revoke


def _difference(tokens: TokenList, others: TokenList) -> TokenList:
    known = {token.fingerprint for token in others.tokens}
    return TokenList.of(*(token for token in tokens.tokens if token.fingerprint not in known))
