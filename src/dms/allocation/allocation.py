"""The allocation actor: one workload on this machine, driven by its state machine (``spec/orchestration.md`` 6)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.health import Check, NotYet
from dms.allocation import messages
from dms.allocation.answering import try_start
from dms.allocation.errors import AlreadyEnded, ExecRefused, HookFailed, NotRunning
from dms.allocation.exec import ExecSessions
from dms.allocation.health import find_problem, read_check
from dms.allocation.machine import (
    Action,
    AllocationState,
    AllocationView,
    Ended,
    Event,
    Shutdown,
    Start,
    StartFailed,
    Stop,
    step,
    with_lost,
)
from dms.allocation.membership import Membership
from dms.allocation.spec import AllocationSpec, Surroundings
from dms.ensemble.config import HealthCheckManifest
from dms.executor.errors import ExecutionNotFound, ExecutorUnavailable
from dms.executor.protocol import (
    EndReason,
    ExecutionRequest,
    ExecutionResult,
    ExecutionStatus,
    Executor,
    ExecutorStats,
    NetInfo,
    PortBinding,
)
from dms.executor.sessions import ExecRequest, ExecSession
from dms.observe import get_logger
from dms.observe.tracing import span
from dms.types.errors import DMSError

KILLED_EXIT_CODE = 137
SHUTDOWN_GRACE_S = 5.0
"""How long a workload may take to stop when asked, before it is killed."""

log = get_logger(__name__)


class Allocation:
    """One workload. Decisions are :func:`dms.allocation.machine.step`'s; this class carries them out, one at a time."""

    def __init__(
        self,
        spec: AllocationSpec,
        actor: Actor,
        surroundings: Surroundings,
        *,
        view: AllocationView | None = None,
        execution_id: str = "",
        health_check: HealthCheckManifest | None = None,
    ) -> None:
        self.spec = spec
        self.actor = actor
        self.view = view or AllocationView()
        self.execution_id = execution_id or f"{spec.id}-1"
        self.health_check = health_check
        """What its orchestrator registered."""
        self.started_ns = 0
        """When this process started or adopted the workload, UNIX nanoseconds; 0 before."""
        self.lost = ""
        """Why what it wrote could not be saved, once that has failed."""
        self.progress = ""
        """What a hook does for it before it runs or after it has, and how far that is; empty otherwise."""
        self.is_busy = False
        """Whether :meth:`doing` had something to tell when it was asked last."""
        self.over = trio.Event()
        """Set once the state is final and everything is released."""
        self._surroundings = surroundings
        self.waits_s = trio.current_time()
        """Since when it waits to be started, or again, if it does: whatever the clock on the wall is set to meanwhile; a
        life of the process counts from its beginning."""
        self._lock, self._restart_lock = trio.Lock(), trio.Lock()
        self._quiet = False
        self._starting: trio.CancelScope | None = None
        self._verdict: ExecutionResult | None = None
        self._awaited = ""
        self._begun = trio.Event()
        self._was_attended = False
        self._membership = Membership(spec, surroundings.networks, self._unjoined)
        self._seen_running = ""
        self._register()

    @property
    def results_dir(self) -> Path:
        """Where its logs lie."""
        return self._surroundings.results_dir

    @property
    def number(self) -> int:
        """Which execution this is, from 1."""
        return int(self.execution_id.rpartition("-")[2])

    @property
    def _executor(self) -> Executor:
        if self._surroundings.executor is None:
            raise ExecutorUnavailable(f"this machine has no executor {self.spec.executor} any more")
        return self._surroundings.executor

    # commands ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run it. Twice is once; that it has run already is fine.

        :raises DMSError: it could not be started (the state is failed then), or was ended before.
        """
        failure = await self._apply(Start())
        if failure is not None:
            raise failure
        view = self.view
        if view.state is AllocationState.TERMINATED or (view.state is AllocationState.FAILED and view.never_ran):
            raise AlreadyEnded(f"the allocation is {view.state.value}: {view.error}")

    async def stop(self) -> None:
        """End the workload and keep the reservation."""
        await self._apply(Stop())

    async def restart(self, number: int = 0) -> None:
        """End the workload and run it anew, as execution ``number`` if that is still to come. Twice is once.

        :raises DMSError: it never ran, has ended, or could not be started; in the last case it is held for another try, if
            its order says so.
        """
        async with self._restart_lock:
            state = self.view.state
            if number and number == self.number and state is AllocationState.RUNNING:
                return
            if state.is_final or state in (AllocationState.PENDING, AllocationState.STANDBY):
                raise AlreadyEnded(f"the allocation is {state.value}: it cannot be restarted")
            await self.stop()
            await self._remove()
            self.execution_id = f"{self.spec.id}-{max(number, self.number + 1)}"
            await self.start()

    async def abandon(self, error: str) -> None:
        """Nobody could attend to it: whatever runs is ended, and it has failed."""
        await self._remove()
        await self._apply(Ended(_lost(error), hold=self.spec.recoverable))

    async def shutdown(self, reason: str = "", *, quiet: bool = False) -> None:
        """End everything; returns when all is released. ``quiet``: the orchestrator asked, it need not be told."""
        self._quiet = self._quiet or quiet
        if self._starting is not None:
            self._starting.cancel()
        await self._apply(Shutdown(reason))

    async def end(self, reason: EndReason, error: str) -> None:
        """End the workload, which broke a rule: the allocation has failed then, for that reason.

        :raises DMSError: the backend cannot end it now.
        """
        self._verdict = ExecutionResult(exit_code=KILLED_EXIT_CODE, reason=reason, error_msg=error)
        await self._executor.cancel(self.execution_id, grace_s=0.0)

    def shutdown_soon(self, reason: str) -> None:
        """The same, from inside a hook."""
        self.actor.start_soon(self.shutdown, reason)

    async def destroy(self) -> None:
        """It will never run again: leave nothing behind."""
        await self._remove()
        await self._hooks("destroy")

    async def resume(self) -> None:
        """After a restart of the node: adopt the workload if it still runs, or learn how it ended."""
        async with self._lock:
            if self.view.state is not AllocationState.RUNNING:
                return
            failure = await self._execute(self._request())
        if failure is not None:
            await self._apply(Ended(_lost(failure.message), hold=self.spec.recoverable))

    async def connect(self) -> None:
        """It has got an address in a private network although it runs already, as with the original's first orchestrators."""
        async with self._lock:
            request = self._request()
            if self.view.state is not AllocationState.RUNNING or request.join is None or self._membership.is_known:
                return
            try:
                await self._executor.connect(request)
            except DMSError as exc:
                self._membership.tell(exc.message)

    async def attend(self, _actor: Actor) -> None:
        """The body of its actor: take note of the end of each execution. Whatever fails here unforeseen ends all tasks of the
        actor, also those of hooks; run again, it takes up where that left off.
        """
        if self._was_attended:
            await self._recover()
        self._was_attended = True
        while True:
            await self._begun.wait()
            self._begun = trio.Event()
            if self._awaited:
                await self._await_end(self._awaited)

    async def find_problem(self) -> str:
        """What is wrong with the workload, or nothing: it runs, and its check, if there is one, finds it well.

        :raises DMSError: the executor cannot say.
        """
        state = self.view.state
        if state is not AllocationState.RUNNING:
            return f"the allocation is {state.value}"
        if self._starting is not None or self.progress:
            return NotYet(self.progress or "the allocation is being started")
        status = await self._executor.status(self.execution_id)
        if status is ExecutionStatus.PENDING:
            return NotYet("the workload is pending")
        if status is not ExecutionStatus.RUNNING:
            return f"the workload is {status.value}"
        if self.health_check is None:
            return ""
        return await find_problem(self.health_check, self._executor, self.execution_id, self.spec.ports)

    async def doing(self) -> str:
        """What is done that the workload waits for, or that waits for it, in words; empty while it simply runs.

        :raises DMSError: the executor cannot say.
        """
        told = self.progress
        is_started = self.view.state is AllocationState.RUNNING and self._starting is None
        if not told and is_started and self._seen_running != self.execution_id:
            info = await self._executor.info(self.execution_id)
            if info.status is ExecutionStatus.PENDING:
                told = info.doing or "getting ready"
            else:
                self._seen_running = self.execution_id
        self.is_busy = bool(told)
        return told

    async def stats(self) -> ExecutorStats:
        """What it uses now."""
        if self.view.state is not AllocationState.RUNNING:
            return ExecutorStats()
        return await self._executor.stats(self.execution_id)

    async def net(self) -> NetInfo | None:
        """How it is reached from this machine, as far as its executor says.

        :raises DMSError: it does not run, or the executor does not know it.
        """
        if self.view.state is not AllocationState.RUNNING or self._starting is not None:
            raise NotRunning(f"the allocation is {self.view.state.value}")
        return (await self._executor.info(self.execution_id)).net

    async def open_exec(self, request: ExecRequest) -> ExecSession:
        """Run a command beside the workload.

        :raises DMSError: it does not run, this machine allows none, or the executor cannot.
        """
        if not self._surroundings.allow_exec:
            raise ExecRefused("this machine runs no commands in the jobs of others")
        if self.view.state is not AllocationState.RUNNING or self._starting is not None:
            raise ExecRefused(f"the allocation is {self.view.state.value}: commands need one that runs")
        return await self._executor.open_exec(replace(request, execution_id=self.execution_id))

    # the shell -----------------------------------------------------------------------------------------------------

    async def _apply(self, event: Event) -> DMSError | None:
        """One event: the new state is on disk before its actions are carried out."""
        async with self._lock:
            before = self.view.state
            self.view, actions = step(self.view, event)
            if not actions:
                return None
            self.waits_s = trio.current_time() if self.view.state is AllocationState.STOPPED else self.waits_s
            await self._surroundings.save(self)
            failure: DMSError | None = None
            for action in actions:
                match action:
                    case Action.EXECUTE:
                        failure = await self._execute(self._request())
                        if failure is not None:
                            break
                    case Action.CANCEL:
                        await self._hooks("prekill")
                        await self._remove()
                        self.lost = await self._hooks("postrun")
                        await self._hooks("stop")
                        if self.lost and self.view.state.is_final:
                            self.view = with_lost(self.view, self.lost)
                            await self._surroundings.save(self)
                    case Action.REPORT:
                        if not self._quiet:
                            await self._surroundings.report(self, before)
                    case Action.RELEASE:
                        await self._release()
        if failure is None:
            return None
        await self._apply(StartFailed(failure.message, hold=self.spec.recoverable and self.number > 1))
        return failure

    async def _execute(self, request: ExecutionRequest) -> DMSError | None:
        """Start the workload, or adopt the one that runs already under this id; the error if that failed."""
        failure = await self._begin(request)
        if failure is not None:
            await self._hooks("stop")
        return failure

    async def _begin(self, request: ExecutionRequest) -> DMSError | None:
        with trio.CancelScope() as self._starting:
            try:
                for hook in self._surroundings.hooks:
                    with span(f"prerun {type(hook).__name__}", allocation=self.spec.id):
                        await hook.prerun(self)
                with span("execute", allocation=self.spec.id, executor=self.spec.executor):
                    self._membership.is_known = False
                    self._membership.check_possible(request)
                    await self._executor.start(self._with_mounts(request))
                await self._membership.check_joined(request, self._executor)
            except DMSError as exc:
                return exc
            except Exception as exc:
                log.exception("start_crashed", allocation=self.spec.id)
                return HookFailed(f"internal error: {exc!r}")
            finally:
                self._starting = None
            self._verdict = None
            self.started_ns = self.started_ns or self.actor.security.now_ns()
            await self._hooks("poststart")
            self._awaited = self.execution_id
            self._begun.set()
            return None
        return HookFailed("shut down while it was being started")

    async def _recover(self) -> None:
        """After a failure of the actor: what it had begun is done again."""
        if self.view.state is AllocationState.RUNNING:
            try:
                await self._executor.status(self.execution_id)
            except DMSError:
                await self.resume()  # it was not started yet, or its backend is in trouble
                return
            for phase in ("stop", "poststart"):  # the tasks of hooks ended with the actor's
                await self._hooks(phase)
            self._awaited = self.execution_id
            self._begun.set()
        elif self.view.state.is_final and not self.over.is_set():
            await self._surroundings.report(self, AllocationState.RUNNING)
            await self._release()

    async def _await_end(self, execution_id: str) -> None:
        try:
            result = await self._executor.wait(execution_id)
        except ExecutionNotFound:
            return  # removed while we waited: whoever did that tells the rest
        except DMSError as exc:
            result = _lost(exc.message)
        if execution_id != self.execution_id:
            return
        if self._verdict is not None and result.killed:
            result = self._verdict
        self.lost = await self._hooks("postrun")
        await self._hooks("stop")
        await self._apply(Ended(result, self.lost, hold=self.spec.recoverable))

    async def _release(self) -> None:
        await self._remove()
        await self._surroundings.release(self)
        self.over.set()

    async def _remove(self) -> None:
        """End the workload; a backend that fails must not keep resources taken. Strays are removed at the next start."""
        try:
            await self._executor.remove(self.execution_id, grace_s=SHUTDOWN_GRACE_S)
        except DMSError as exc:
            log.error("execution_not_removed", allocation=self.spec.id, execution=self.execution_id, error=exc.message)

    async def _hooks(self, phase: str) -> str:
        """Run one phase of every hook; those after the start may fail without harm. What they say of it."""
        problems = []
        for hook in self._surroundings.hooks:
            try:
                await getattr(hook, phase)(self)
            except DMSError as exc:
                problems.append(exc.message)
                log.error(
                    "hook_failed",
                    allocation=self.spec.id,
                    hook=type(hook).__name__,
                    phase=phase,
                    code=exc.code,
                    reason=exc.message,
                )
            except Exception:
                log.exception("hook_failed", allocation=self.spec.id, hook=type(hook).__name__, phase=phase)
        return "; ".join(problems)

    def _request(self) -> ExecutionRequest:
        request = ExecutionRequest(
            job_id=self.spec.id,
            execution_id=self.execution_id,
            engine=self.spec.execution,
            resources=self.spec.resources,
            results_dir=self._surroundings.results_dir,
            provision_scripts=self.spec.provision,
            ports=tuple(
                PortBinding("0.0.0.0", public, private, protocol)
                for protocol, public, private in self.spec.port_pairs()
            ),
            allow_privileged=self._surroundings.allow_privileged,
            tenant=f"{self.spec.orchestrator.id}/{self.spec.ensemble_id}",
        )
        return self._membership.offered(request)

    def _unjoined(self, reason: str) -> None:
        self.actor.start_soon(self._end_unjoined, reason)

    async def _end_unjoined(self, reason: str) -> None:
        try:
            await self.end(EndReason.INFRASTRUCTURE, f"no private address: {reason}")
        except DMSError as exc:
            log.error("unjoined_not_ended", allocation=self.spec.id, reason=exc.message)

    def _with_mounts(self, request: ExecutionRequest) -> ExecutionRequest:
        mounts = [mount for hook in self._surroundings.hooks for mount in hook.mounts()]
        return replace(
            request,
            inputs=tuple(mount for mount in mounts if mount.read_only),
            outputs=tuple(mount for mount in mounts if not mount.read_only),
        )

    # behaviours ----------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        self.actor.on(messages.START, self._on_start, payload=messages.StartRequest)
        self.actor.on(messages.RESTART, self._on_restart, payload=messages.RestartRequest | None)
        self.actor.on(messages.STATS, self._on_stats, payload=dict[str, object] | None)
        ExecSessions(self.actor, self.spec.orchestrator.id, self.open_exec).register()
        self.actor.health.check_with(self.find_problem)
        self.actor.health.accept(self._take_check)

    async def _take_check(self, wanted: dict[str, Any]) -> Check:
        """A health check is registered; it outlasts this process, as the orchestrator need not hear of a restart."""
        check = read_check(wanted, self.spec.executor)
        if self.view.state.is_final:
            raise AlreadyEnded(f"the allocation is {self.view.state.value}")
        self.health_check = check
        await self._surroundings.save(self)
        return self.find_problem

    async def _on_start(self, message: Message[messages.StartRequest]) -> messages.StartReply:
        failure = await try_start(self.start, self.actor.start_soon, lambda: bool(self.progress) and self.number == 1)
        if failure is not None:
            return messages.StartReply(ok=False, error=failure.message, code=failure.code)
        return messages.StartReply(ok=True, execution=self.number)

    async def _on_restart(self, message: Message[messages.RestartRequest | None]) -> messages.StartReply:
        try:
            await self.restart(message.payload.number if message.payload is not None else 0)
        except DMSError as exc:
            return messages.StartReply(ok=False, error=exc.message, code=exc.code, execution=self.number)
        return messages.StartReply(ok=True, execution=self.number)

    async def _on_stats(self, message: Message[object]) -> messages.StatsReply:
        try:
            sample = await self.stats()
            return messages.StatsReply(ok=True, stats=messages.Stats.of(sample, self.actor.security.now_ns()))
        except DMSError as exc:
            return messages.StatsReply(ok=False, error=exc.message)


def _lost(message: str) -> ExecutionResult:
    return ExecutionResult(exit_code=-1, reason=EndReason.INFRASTRUCTURE, error_msg=f"lost: {message}")
