"""Logs fetched in the background: ``/dms/node/deployment/logs/async``, and below it ``status`` and ``stop``
(``spec/orchestration.md`` 6.6).
"""

from __future__ import annotations

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.node.finding import find_allocation, find_deployment
from dms.node.payloads import LogJobReply, LogJobRequest
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.logs.jobs import LogJob, LogJobs
from dms.types.ids import EnsembleID

NAMESPACE = "/dms/node/deployment/logs/async"
NS_PER_S = 10**9


class LogJobBehaviours:
    """What a node answers about logs that it fetches for somebody."""

    def __init__(self, deployments: Deployments, jobs: LogJobs) -> None:
        self._deployments, self._jobs = deployments, jobs

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        for name, handler in ((NAMESPACE, self._start), (f"{NAMESPACE}/status", self._status)):
            actor.on(name, handler, payload=LogJobRequest, error_reply=_error)
        actor.on(f"{NAMESPACE}/stop", self._stop, payload=LogJobRequest, error_reply=_error)

    async def _start(self, message: Message[LogJobRequest]) -> LogJobReply:
        request = message.payload
        interval_s = request.interval_ns / NS_PER_S
        ensemble, key = self._find(request)
        job = self._jobs.start(
            message.sender.did.uri, ensemble, key, follow=request.follow, interval_s=max(0.0, interval_s)
        )
        return _told(job)

    async def _status(self, message: Message[LogJobRequest]) -> LogJobReply:
        return _told(self._jobs.find(message.sender.did.uri, *self._find(message.payload)))

    async def _stop(self, message: Message[LogJobRequest]) -> LogJobReply:
        return _told(self._jobs.stop(message.sender.did.uri, *self._find(message.payload)))

    def _find(self, request: LogJobRequest) -> tuple[EnsembleID, str]:
        record = find_deployment(self._deployments, request.ensemble_id)
        return record.id, find_allocation(record, request.allocation).key


def _told(job: LogJob) -> LogJobReply:
    return LogJobReply(
        ok=True,
        error=job.error,
        requester=job.requester,
        allocation=job.key,
        directory=str(job.directory),
        status=job.status,
        bytes_written=job.bytes_written,
        follow=job.follow,
        interval=int(job.interval_s * NS_PER_S),
    )


def _error(error: str) -> LogJobReply:
    return LogJobReply(ok=False, error=error)
