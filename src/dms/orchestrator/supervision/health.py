"""Health checks, asked by the orchestrator: each at its own interval, all side by side (``spec/orchestration.md`` 9).

The check itself is the allocation actor's, on the provider: it is registered there once and then called by name. A provider
that does not answer is no failed check, its signs of life tell of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from dms.actor.handle import Handle
from dms.actor.health import HEALTH_CHECK, REGISTER, HealthReply, Registration
from dms.allocation.machine import AllocationState
from dms.ensemble.config import HealthCheckManifest
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.lifecycle.events import Event, HealthChanged
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState
from dms.types import gojson
from dms.types.errors import DMSError

INTERVAL_S = 30.0
MIN_INTERVAL_S = 1.0
TIMEOUT_S = 5.0
MAX_FAILURES = 3
"""In a row, unless the check says otherwise: then the allocation has failed."""
SLACK_S = 5.0
"""For the way there and back, beside the time that the check may take."""
NS_PER_S = 10**9


def interval_of(check: HealthCheckManifest) -> float:
    """Seconds from one question to the next."""
    return max(MIN_INTERVAL_S, check.interval / NS_PER_S) if check.interval else INTERVAL_S


async def register(ctx: Context, handle: Handle, check: HealthCheckManifest) -> HealthReply | None:
    """Have an allocation take a check; ``None`` when it does not answer."""
    registration = Registration(ensemble_id=ctx.ensemble, health_check=gojson.to_builtins(check))
    return await _invoke(ctx, handle, REGISTER, registration, TIMEOUT_S)


async def ask(ctx: Context, handle: Handle, check: HealthCheckManifest) -> HealthReply | None:
    """Whether an allocation is well; ``None`` when it does not answer."""
    timeout_s = (check.timeout / NS_PER_S if check.timeout else TIMEOUT_S) + SLACK_S
    return await _invoke(ctx, handle, HEALTH_CHECK, {}, timeout_s)


async def _invoke(
    ctx: Context, handle: Handle, behaviour: str, payload: object, timeout_s: float
) -> HealthReply | None:
    try:
        return await ctx.actor.invoke(handle, behaviour, payload, HealthReply, timeout_s=timeout_s)
    except DMSError:
        return None


@dataclass(frozen=True, slots=True)
class Finding:
    """What one result means: whether to tell of it, and whether it is one failure too many."""

    is_new: bool
    is_failure: bool


class Tally:
    """Counts the failures of one check."""

    def __init__(self, check: HealthCheckManifest, started_s: float) -> None:
        self._patient_until_s = started_s + check.start_delay / NS_PER_S
        self._limit = check.failures or MAX_FAILURES
        self._failures = 0
        self._last: bool | None = None

    def take(self, problem: str, now_s: float) -> Finding:
        """One result; empty: nothing is wrong. In the time after the start problems mean nothing, until it is well once."""
        is_well = not problem
        if not is_well and self._last is None and now_s < self._patient_until_s:
            return Finding(is_new=False, is_failure=False)
        is_new = self._last is not is_well
        self._last = is_well
        self._failures = 0 if is_well else self._failures + 1
        if self._failures < self._limit:
            return Finding(is_new, is_failure=False)
        self._failures = 0
        return Finding(is_new, is_failure=True)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is checked: another execution, or another place, is another subject."""

    handle: Handle
    execution: int
    started_ns: int


class HealthChecks:
    """The checks of one deployment; follows which of its allocations run."""

    def __init__(self, context: Context, state: Callable[[], DeploymentState], post: Callable[[Event], object]) -> None:
        self._state, self._post = state, post
        self.use(context)
        self._running: dict[str, tuple[_Subject, trio.CancelScope]] = {}

    def use(self, context: Context) -> None:
        """Another version of the ensemble is in force."""
        self._context = context
        self._checks = {
            name: allocation.healthcheck
            for name, allocation in context.config.v1.allocations.items()
            if allocation.healthcheck is not None and allocation.healthcheck.type
        }

    def restart(self, nursery: trio.Nursery) -> None:
        """Begin anew in this nursery; the one before has ended."""
        self._running = {}
        self.follow(nursery)

    def follow(self, nursery: trio.Nursery) -> None:
        """Check what runs now, and nothing else."""
        if not self._checks and not self._running:
            return
        wanted = {key: s for key, r in self._state().allocations.items() if (s := self._subject(r)) is not None}
        for key, (subject, scope) in list(self._running.items()):
            if wanted.get(key) != subject:
                scope.cancel()
                del self._running[key]
        for key, subject in wanted.items():
            if key not in self._running:
                scope = trio.CancelScope()
                self._running[key] = subject, scope
                nursery.start_soon(self._watch, key, subject, scope)

    def _subject(self, record: AllocationRecord) -> _Subject | None:
        if record.name not in self._checks or record.handle is None or record.due_ns:
            return None
        if record.status != AllocationState.RUNNING.value:
            return None
        return _Subject(record.handle, record.execution, record.started_ns)

    async def _watch(self, key: str, subject: _Subject, scope: trio.CancelScope) -> None:
        record = self._state().allocations[key]
        check = self._checks[record.name]
        interval_s = interval_of(check)
        tally = Tally(check, trio.current_time())
        began = False
        with scope:
            if not await self._register(key, subject, check, interval_s):
                return
            while True:
                asked_s = trio.current_time()
                reply = await ask(self._context, subject.handle, check)
                if reply is not None and reply.waits and not began:
                    tally = Tally(check, trio.current_time())  # the patience after the start counts from when it begins
                elif reply is not None and not reply.waits:
                    began = True
                    self._take(record, tally, "" if reply.ok else reply.error or "it is not well")
                await trio.sleep_until(max(asked_s + interval_s, trio.current_time()))

    async def _register(self, key: str, subject: _Subject, check: HealthCheckManifest, interval_s: float) -> bool:
        while True:
            reply = await register(self._context, subject.handle, check)
            if reply is not None and reply.ok:
                return True
            if reply is not None:
                await self._context.note("check_refused", {"allocation": key, "reason": reply.error})
                return False
            await trio.sleep(interval_s)

    def _take(self, record: AllocationRecord, tally: Tally, problem: str) -> None:
        finding = tally.take(problem, trio.current_time())
        if finding.is_new or finding.is_failure:
            now_ns = self._context.actor.security.now_ns()
            self._post(
                HealthChanged(
                    at_ns=now_ns, key=record.key, id=record.id, problem=problem, is_failure=finding.is_failure
                )
            )
