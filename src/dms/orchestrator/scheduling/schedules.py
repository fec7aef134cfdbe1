"""Ensembles that are deployed at times: every night, each Monday (``spec/platform.md`` 4.2).

A schedule lies in the database with the ensemble, the DID of its owner and the capability tokens that came with the order.
At each of its times it is asked again whether the owner may deploy here *now*: what was revoked or has expired since stops
it. A time is written down before anything is deployed for it, and the deployment carries its number; so after a crash at
any moment a restart knows whether that time had its deployment, and there is never a second one.

What is kept is bounded: the last :data:`KEPT` runs of a schedule, and their deployments; older ones are deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import msgspec

from dms.actor.security import SecurityContext
from dms.capability.token import decode_token_list
from dms.identity.ids import DID
from dms.observe import get_logger
from dms.orchestrator.deployments import Deployments, check_deployable, check_durations
from dms.orchestrator.errors import (
    DeploymentNotFound,
    DeploymentNotRunning,
    InvalidDeployment,
    NoLongerAuthorized,
    ScheduleNotFound,
    TooManySchedules,
)
from dms.orchestrator.scheduling.schedule import KEPT, Overlap, Schedule, ScheduledRun
from dms.store import Repository, Store
from dms.store.schema import schedules as table
from dms.tasks import After, Cron, Missed, Scheduler, TaskID, Trigger
from dms.tasks.cron import CronExpression
from dms.types.errors import DMSError
from dms.types.ids import Capability, EnsembleID

MAX_SCHEDULES = 256
MAX_SCHEDULES_BY_OWNER = 32
MAX_TIMEOUT_S = 7 * 86_400.0
MIN_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 120.0
DEPLOY = Capability("/dms/node/deployment/new")
NS_PER_S = 10**9

log = get_logger(__name__)


class Schedules:
    """All schedules of this node. :meth:`restore` them once the deployments are restored."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        tasks: Scheduler,
        security: SecurityContext,
        *,
        new_id: Callable[[], str],
    ) -> None:
        self._records = Repository(store, table, Schedule)
        self._deployments = deployments
        self._tasks = tasks
        self._security = security
        self._new_id = new_id
        self._schedules: dict[str, Schedule] = {}
        self._running: dict[str, TaskID] = {}

    async def restore(self) -> None:
        """After a restart: go on with all that are not paused; what was missed is made up for once, where that is wanted."""
        for record in await self._records.find_all():
            schedule = record.value
            self._schedules[schedule.id] = schedule
            if not schedule.is_paused:
                self._begin(schedule, after_ns=schedule.due_ns)

    async def add(self, schedule: Schedule) -> Schedule:
        """Accept a schedule, whose ``id`` and ``created_ns`` are set here; returns once it is on disk.

        :raises BadCron: its times are none.
        :raises InvalidDeployment: its ensemble cannot be deployed.
        :raises TooManySchedules: there are enough.
        """
        expression = CronExpression(schedule.cron, schedule.zone)
        check_deployable(schedule.ensemble)
        check_durations(schedule.queue_for_s, schedule.run_for_s)
        if not MIN_TIMEOUT_S <= schedule.timeout_s <= MAX_TIMEOUT_S:
            raise InvalidDeployment("the time to deploy must be between one minute and 7 days")
        if sum(known.owner == schedule.owner for known in self._schedules.values()) >= MAX_SCHEDULES_BY_OWNER:
            raise TooManySchedules(f"you have {MAX_SCHEDULES_BY_OWNER} schedules at this node already")
        if len(self._schedules) >= MAX_SCHEDULES:
            raise TooManySchedules(f"this node has {MAX_SCHEDULES} schedules already")
        now_ns = self._security.now_ns()
        schedule = msgspec.structs.replace(schedule, id=self._new_id(), created_ns=now_ns, due_ns=now_ns)
        self._schedules[schedule.id] = schedule
        try:
            await self._records.create(schedule, schedule.id)
        except BaseException:
            del self._schedules[schedule.id]
            raise
        self._begin(schedule)
        log.info("schedule_added", schedule=schedule.id, cron=expression.text, zone=expression.zone)
        return schedule

    def all(self) -> tuple[Schedule, ...]:
        """All of them, oldest first."""
        return tuple(self._schedules.values())

    def get(self, identifier: str) -> Schedule:
        """One by its id, or the beginning of it.

        :raises ScheduleNotFound: there is none, or more than one.
        """
        found = [each for each in self._schedules.values() if identifier and each.id.startswith(identifier)]
        if len(found) != 1:
            raise ScheduleNotFound(f"schedule not found: {identifier}" if not found else f"{identifier} is ambiguous")
        return found[0]

    def next_ns(self, schedule: Schedule) -> int:
        """When it is due next, UNIX nanoseconds; 0 when never."""
        if schedule.is_paused:
            return 0
        now_s = self._security.now_ns() / NS_PER_S
        return int((CronExpression(schedule.cron, schedule.zone).next_after(now_s) or 0) * NS_PER_S)

    async def delete(self, identifier: str) -> None:
        """Forget one. What it deployed goes on.

        :raises ScheduleNotFound: there is none.
        """
        schedule = self.get(identifier)
        await self._records.delete(schedule.id)
        self._schedules.pop(schedule.id, None)
        self._end(schedule.id)

    async def pause(self, identifier: str) -> None:
        """Deploy nothing more until :meth:`resume`; times that pass meanwhile are not made up for.

        :raises ScheduleNotFound: there is none.
        """
        schedule = self.get(identifier)
        if not schedule.is_paused:
            await self._put(msgspec.structs.replace(schedule, is_paused=True))
            self._end(schedule.id)

    async def resume(self, identifier: str) -> None:
        """Go on from the next time on.

        :raises ScheduleNotFound: there is none.
        """
        schedule = self.get(identifier)
        if schedule.is_paused:
            await self._put(msgspec.structs.replace(schedule, is_paused=False, due_ns=self._security.now_ns()))
            self._begin(self._schedules[schedule.id])

    # ---------------------------------------------------------------------------------------------------------------

    def _begin(self, schedule: Schedule, *, after_ns: int = 0) -> None:
        expression = CronExpression(schedule.cron, schedule.zone)
        triggers: list[Trigger] = [Cron(expression)]
        missed = Missed(schedule.missed)
        if after_ns and missed is Missed.ONCE:
            due_s = expression.next_after(after_ns / NS_PER_S)
            if due_s is not None and due_s * NS_PER_S <= self._security.now_ns():
                triggers.append(After(0.0))
        if self._unfinished(schedule) is not None:
            triggers.append(After(0.0))
        run = partial(self._run, schedule.id)
        self._running[schedule.id] = self._tasks.add(f"schedule {schedule.id}", run, *triggers, missed=missed)

    def _end(self, identifier: str) -> None:
        task = self._running.pop(identifier, None)
        if task is not None:
            self._tasks.remove(task)

    def _unfinished(self, schedule: Schedule) -> ScheduledRun | None:
        """The last run, if nothing is known of what became of it: the node died then."""
        last = schedule.runs[-1] if schedule.runs else None
        return last if last is not None and not last.ensemble_id and not last.error else None

    async def _run(self, identifier: str) -> None:
        """It is time."""
        schedule = self._schedules.get(identifier)
        if schedule is None or schedule.is_paused:
            return
        run = self._unfinished(schedule)
        if run is None:
            now_ns = self._security.now_ns()
            run = ScheduledRun(number=schedule.count + 1, at_ns=now_ns)
            runs = (*schedule.runs, run)
            await self._put(msgspec.structs.replace(schedule, runs=runs, count=run.number, due_ns=now_ns))
        try:
            ensemble = self._deployed(schedule.id, run.number) or await self._deploy(schedule, run)
            run = msgspec.structs.replace(run, ensemble_id=ensemble)
        except DMSError as exc:
            log.warning("schedule_not_run", schedule=identifier, reason=exc.message)
            run = msgspec.structs.replace(run, error=exc.message[:MAX_ERROR_CHARS] or "unknown")
        await self._finish(identifier, run)

    async def _deploy(self, schedule: Schedule, run: ScheduledRun) -> EnsembleID:
        await self._check_owner(schedule)
        for previous in self._going_on(schedule):
            if schedule.overlap is Overlap.SKIP:
                raise DeploymentNotRunning(f"left out: {previous[:12]} still goes on")
            if schedule.overlap is Overlap.REPLACE:
                with contextlib.suppress(DMSError):
                    await self._deployments.live(previous).orders.shutdown("its schedule begins the next run")
        return await self._deployments.submit(
            schedule.ensemble,
            self._security.now_ns() + int(schedule.timeout_s * NS_PER_S),
            owner=schedule.owner,
            queue_for_s=schedule.queue_for_s,
            run_for_s=schedule.run_for_s,
            schedule=tag(schedule.id, run.number),
        )

    async def _check_owner(self, schedule: Schedule) -> None:
        """Refuse what its owner may not do any more.

        :raises NoLongerAuthorized: that, with the reason.
        """
        capabilities = self._security.capabilities
        await capabilities.resolve(schedule.tokens)
        decision = capabilities.explain(DID(uri=schedule.owner), [DEPLOY], tokens=decode_token_list(schedule.tokens))
        if not decision.allowed:
            raise NoLongerAuthorized(f"its owner may not deploy here any more: {decision.message}")

    def _going_on(self, schedule: Schedule) -> list[EnsembleID]:
        """Deployments of earlier runs that have not ended."""
        found = []
        for run in schedule.runs:
            with contextlib.suppress(DeploymentNotFound):
                if run.ensemble_id and not self._deployments.get(run.ensemble_id).state.phase.is_final:
                    found.append(run.ensemble_id)
        return found

    def _deployed(self, identifier: str, number: int) -> EnsembleID | None:
        """The deployment of a run that was begun before the node died."""
        wanted = tag(identifier, number)
        return next((r.id for r in self._deployments.all() if r.state.terms.schedule == wanted), None)

    async def _finish(self, identifier: str, run: ScheduledRun) -> None:
        schedule = self._schedules.get(identifier)
        if schedule is None:  # deleted meanwhile
            return
        runs = tuple(run if each.number == run.number else each for each in schedule.runs)
        dropped, kept = runs[:-KEPT], runs[-KEPT:]
        await self._put(msgspec.structs.replace(schedule, runs=kept))
        for old in dropped:
            with contextlib.suppress(DMSError):  # one that still goes on stays
                if old.ensemble_id:
                    await self._deployments.delete(old.ensemble_id)

    async def _put(self, schedule: Schedule) -> None:
        if schedule.id in self._schedules:
            await self._records.update(schedule.id, schedule)
            self._schedules[schedule.id] = schedule


MAX_ERROR_CHARS = 500


def tag(identifier: str, number: int) -> str:
    """What a deployment is marked with: whose run it is, and which one."""
    return f"{identifier}#{number}"
