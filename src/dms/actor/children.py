"""The children of an actor: found by inbox, supervised, forgotten when they have ended (``spec/security.md`` 5.8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import trio
from trio import TaskStatus

from dms.actor.errors import ActorExists, ChildFailed
from dms.actor.supervision import Forget, GiveUp, Restart, Strategy, Supervision
from dms.observe import get_logger

if TYPE_CHECKING:
    from dms.actor.actor import Actor

log = get_logger(__name__)

OnGivenUp = Callable[["Actor", BaseException | None], None]


class _Child:
    """One child and what its keeper waits for."""

    def __init__(self, actor: Actor, restart: Restart) -> None:
        self.actor = actor
        self.restart = restart
        self.is_running = False
        self.is_stopped = False
        self.halted: trio.Event | None = None
        """Set once it has ended because a sibling failed; it is started again with that one."""
        self.again = trio.Event()
        self.pause: trio.CancelScope | None = None
        self.gone = trio.Event()
        self.given_up: Exception | None = None


class _Started:
    """Passes on that a child has started, and remembers it."""

    def __init__(self, status: TaskStatus[None]) -> None:
        self._status = status
        self.is_set = False

    def started(self, value: None = None) -> None:
        """See :class:`trio.TaskStatus`."""
        self.is_set = True
        self._status.started(value)


class Children:
    """Runs each child in a task of its own and follows the decisions of :class:`Supervision`.

    A child that fails too often is given up: told to ``on_given_up`` and to whoever waits in :meth:`wait_gone`, and with it
    its group, as its members mean nothing without each other; with ``is_escalating`` the failure also goes up to whoever
    runs the parent.
    """

    def __init__(
        self,
        supervision: Supervision | None = None,
        *,
        is_escalating: bool = False,
        on_given_up: OnGivenUp | None = None,
    ) -> None:
        self._supervision = supervision or Supervision()
        self._is_escalating = is_escalating
        self._on_given_up = on_given_up
        self._children: dict[str, _Child] = {}

    def __len__(self) -> int:
        return len(self._children)

    def __contains__(self, inbox: str) -> bool:
        return inbox in self._children

    def __iter__(self) -> Iterator[Actor]:
        return iter([child.actor for child in self._children.values()])

    def names(self) -> tuple[str, ...]:
        """Their inboxes, in the order of their first start."""
        return tuple(self._children)

    def get(self, inbox: str) -> Actor | None:
        """The child of that name, running or about to be started again."""
        found = self._children.get(inbox)
        return found.actor if found else None

    async def start(self, nursery: trio.Nursery, actor: Actor, restart: Restart) -> None:
        """Run a child; returns once it receives.

        :raises ActorExists: there is one with this inbox.
        """
        inbox = actor.inbox
        if inbox in self._children:
            raise ActorExists(f"actor already exists: {inbox}")
        child = self._children[inbox] = _Child(actor, restart)
        self._supervision.add(inbox, restart)
        try:
            await nursery.start(self._keep, child)
        except BaseException:
            self._forget(child)  # where its keeper never began
            raise

    def stop(self, inbox: str) -> None:
        """End a child for good."""
        child = self._children.get(inbox)
        if child is not None:
            child.is_stopped = True
            if child.pause is not None:
                child.pause.cancel()
            child.actor.cancel()

    async def wait_gone(self, inbox: str) -> Exception | None:
        """Return once there is no such child: its last failure if it was given up, else nothing."""
        child = self._children.get(inbox)
        if child is None:
            return None
        await child.gone.wait()
        return child.given_up

    async def _keep(self, child: _Child, task_status: TaskStatus[None]) -> None:
        first = _Started(task_status)
        try:
            if child.is_stopped:  # before it could begin
                first.started()
                return
            failure = await self._run(child, first)
            if failure is not None and not first.is_set:
                raise failure
            while await self._is_started_again(child, failure):
                failure = await self._run(child, trio.TASK_STATUS_IGNORED)
        finally:
            self._forget(child)

    def _forget(self, child: _Child) -> None:
        if child.gone.is_set():
            return
        self._children.pop(child.actor.inbox, None)
        self._supervision.remove(child.actor.inbox)
        child.actor.finish()
        if child.halted is not None:
            child.halted.set()
        child.gone.set()

    async def _run(self, child: _Child, task_status: TaskStatus[None]) -> Exception | None:
        child.is_running = True
        try:
            await child.actor.run(task_status)
        except Exception as exc:
            log.exception("actor_failed", inbox=child.actor.inbox)
            return exc
        finally:
            child.is_running = False
        return None

    async def _is_started_again(self, child: _Child, failure: Exception | None) -> bool:
        """Wait for the time of the next start; False when there is none."""
        if child.is_stopped:
            return False
        if child.halted is not None:
            return await self._is_released(child)
        inbox = child.actor.inbox
        decision = self._supervision.ended(inbox, failed=failure is not None, now_s=trio.current_time())
        if isinstance(decision, Forget):
            return False
        if isinstance(decision, GiveUp):
            self._give_up(child, failure, decision.restarts)
            return False
        log.warning("actor_restarting", inbox=inbox, beside=decision.names, in_s=decision.delay_s)
        siblings = [self._children[name] for name in decision.names if name != inbox]
        await self._halt(siblings)
        await _pause(child, trio.sleep, decision.delay_s)
        for sibling in siblings:
            sibling.again.set()
        return not child.is_stopped

    async def _halt(self, siblings: list[_Child]) -> None:
        """Stop them, the last started first, and wait until each has stopped."""
        for sibling in reversed(siblings):
            if not sibling.is_running or sibling.halted is not None:
                continue
            sibling.halted, sibling.again = trio.Event(), trio.Event()
            sibling.actor.cancel()
            await sibling.halted.wait()

    async def _is_released(self, child: _Child) -> bool:
        assert child.halted is not None
        child.halted.set()
        await _pause(child, child.again.wait)
        child.halted = None
        return not child.is_stopped and child.restart is not Restart.TEMPORARY

    def _give_up(self, child: _Child, failure: Exception | None, restarts: int) -> None:
        log.error("actor_given_up", inbox=child.actor.inbox, restarts=restarts, error=repr(failure))
        child.given_up = failure or ChildFailed(f"it ended {restarts + 1} times")
        if self._on_given_up is not None:
            self._on_given_up(child.actor, failure)
        if self._is_escalating:
            raise ChildFailed(f"the child {child.actor.inbox} failed {restarts + 1} times") from failure
        if self._supervision.strategy is not Strategy.ONE_FOR_ONE:
            for name in self._children.keys() - {child.actor.inbox}:
                self.stop(name)


async def _pause(child: _Child, wait: Callable[..., Awaitable[object]], *args: float) -> None:
    """Wait until then, or until the child is stopped."""
    with trio.CancelScope() as child.pause:
        await wait(*args)
    child.pause = None
