"""Ensembles deployed at times, by order of users: ``/dms/node/deployment/schedule/*``. Ours; the original has none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.ensemble.arrival import decode_ensemble
from dms.node.listing import rfc3339
from dms.node.schedule_payloads import (
    NewSchedule,
    NewScheduleReply,
    ScheduleInfo,
    ScheduleRequest,
    ScheduleRun,
    SchedulesReply,
)
from dms.orchestrator.messages import Reply
from dms.orchestrator.scheduling.schedule import Overlap, Schedule
from dms.orchestrator.scheduling.schedules import Schedules
from dms.tasks import Missed
from dms.types.errors import BadInput, DMSError

NAMESPACE = "/dms/node/deployment/schedule"


class ScheduleBehaviours:
    """What a node answers about its schedules."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        actor.on(f"{NAMESPACE}/new", self._new, payload=NewSchedule, error_reply=_not_made)
        actor.on(
            f"{NAMESPACE}/list", self._list, payload=None, error_reply=lambda e: SchedulesReply(schedules=(), error=e)
        )
        changes: tuple[tuple[str, Callable[[str], Awaitable[None]]], ...] = (
            ("delete", self._schedules.delete),
            ("pause", self._schedules.pause),
            ("resume", self._schedules.resume),
        )
        for name, change in changes:
            actor.on(f"{NAMESPACE}/{name}", _changing(change), payload=ScheduleRequest, error_reply=_refused)

    async def _new(self, message: Message[NewSchedule]) -> NewScheduleReply:
        request = message.payload
        try:
            schedule = await self._schedules.add(
                Schedule(
                    id="",
                    owner=message.sender.did.uri,
                    tokens=message.envelope.cap,
                    cron=request.cron,
                    zone=request.zone or "UTC",
                    ensemble=decode_ensemble(request.ensemble),
                    timeout_s=request.timeout_ms / 1000,
                    queue_for_s=request.queue_timeout_ms / 1000,
                    run_for_s=request.run_for_ms / 1000,
                    overlap=Overlap(_one_of(request.overlap, [o.value for o in Overlap], "overlap")),
                    missed=_one_of(request.missed, [m.value for m in Missed], "missed"),
                )
            )
        except DMSError as exc:
            return NewScheduleReply(id="", error=exc.message, hint=exc.hint)
        return NewScheduleReply(id=schedule.id, next_at=rfc3339(self._schedules.next_ns(schedule)))

    async def _list(self, _message: Message[None]) -> SchedulesReply:
        return SchedulesReply(schedules=tuple(self._info(schedule) for schedule in self._schedules.all()))

    def _info(self, schedule: Schedule) -> ScheduleInfo:
        return ScheduleInfo(
            id=schedule.id,
            cron=schedule.cron,
            zone=schedule.zone,
            owner=schedule.owner,
            overlap=schedule.overlap.value,
            missed=schedule.missed,
            is_paused=schedule.is_paused,
            created_at=rfc3339(schedule.created_ns),
            next_at=rfc3339(self._schedules.next_ns(schedule)),
            count=schedule.count,
            metadata=schedule.ensemble.v1.metadata,
            runs=tuple(
                ScheduleRun(number=run.number, at=rfc3339(run.at_ns), deployment=run.ensemble_id, error=run.error)
                for run in schedule.runs
            ),
        )


def _changing(change: Callable[[str], Awaitable[None]]) -> Callable[[Message[ScheduleRequest]], Awaitable[Reply]]:
    async def handle(message: Message[ScheduleRequest]) -> Reply:
        await change(message.payload.id)
        return Reply(ok=True)

    return handle


def _one_of(value: str, known: list[str], what: str) -> str:
    if value not in known:
        raise BadInput(f"unknown {what} {value[:40]!r}", hint=f"it is one of {', '.join(known)}")
    return value


def _not_made(error: str) -> NewScheduleReply:
    return NewScheduleReply(id="", error=error)


def _refused(error: str) -> Reply:
    return Reply(ok=False, error=error)
