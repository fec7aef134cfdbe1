"""Deployments as they go on: events by long poll, logs piece by piece, until what was waited for.

The node keeps both; a client that is interrupted loses nothing and takes nothing down with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from dms.cli.client import Client, refused
from dms.node import payloads as p

NAMESPACE = "/dms/node/deployment"
POLL_MS = 10_000
"""How long the node may hold a question for new events."""
LOG_POLL_MS = 400
LOG_PIECE_BYTES = 256 * 1024
CALL_TIMEOUT_S = 30.0
FINAL = frozenset({"Completed", "Failed"})

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Progress:
    """New events, and where the deployment is now."""

    events: tuple[p.DeploymentEvent, ...]
    status: str

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in FINAL


class Deployment:
    """One deployment on our node; ``id`` may be abbreviated."""

    def __init__(self, client: Client, identifier: str) -> None:
        self.client = client
        self.id = identifier

    def info(self, *, usage: bool = False, logs: bool = False, names: Iterable[str] = ()) -> p.InfoReply:
        """All that is known of it; ``usage`` is asked of the machines, ``logs`` are copied to the node.

        :raises Refused: the node does not know it.
        """
        request = p.DeploymentRequest(id=self.id, include_usage=usage, include_logs=logs, allocation_names=tuple(names))
        reply = self._call("info", request, p.InfoReply, timeout_s=2 * CALL_TIMEOUT_S)
        if not reply.id:
            raise refused(reply.error)
        return reply

    def status(self) -> p.StatusReply:
        """Its status and error.

        :raises Refused: the node does not know it.
        """
        reply = self._call("status", p.DeploymentRequest(id=self.id), p.StatusReply)
        if not reply.status:
            raise refused(reply.error)
        return reply

    def network(self) -> p.NetworkReply:
        """Its private network, as each machine sees it.

        :raises Refused: the node does not know it, or it has none.
        """
        reply = self._call("network", p.DeploymentRequest(id=self.id), p.NetworkReply)
        if reply.error:
            raise refused(reply.error)
        return reply

    def manifest(self) -> object:
        """What was made of the ensemble.

        :raises Refused: the node does not know it.
        """
        reply = self._call("manifest", p.DeploymentRequest(id=self.id), p.ManifestReply)
        if reply.error:
            raise refused(reply.error)
        return reply.manifest

    def restart(self, names: Iterable[str]) -> tuple[str, ...]:
        """End allocations and run them again; which.

        :raises Refused: they do not run, or are unknown.
        """
        reply = self._call("restart", p.RestartRequest(id=self.id, allocation_names=tuple(names)), p.RestartReply)
        if not reply.ok:
            raise refused(reply.error, reply.hint)
        return reply.allocations

    def delete(self) -> None:
        """Forget it, with its events and logs.

        :raises Refused: it has not ended, or is unknown.
        """
        reply = self._call("delete", p.DeploymentRequest(id=self.id), p.OKReply)
        if not reply.ok:
            raise refused(reply.error)

    def shutdown(self) -> None:
        """End it.

        :raises Refused: it has ended, or is unknown.
        """
        reply = self._call("shutdown", p.DeploymentRequest(id=self.id), p.OKReply)
        if not reply.ok:
            raise refused(reply.error)

    def progress(self, *, after: int = 0, wait_ms: int = 0) -> Progress:
        """The events after a sequence number, waiting for one up to ``wait_ms``.

        :raises Refused: the node does not know it.
        """
        events: list[p.DeploymentEvent] = []
        while True:
            request = p.EventsRequest(id=self.id, after=after, wait_ms=0 if events else wait_ms)
            reply = self.client.call(
                f"{NAMESPACE}/events", request, p.EventsReply, timeout_s=CALL_TIMEOUT_S + wait_ms / 1000
            )
            if not reply.status:
                raise refused(reply.error)
            events += reply.events
            if len(reply.events) < p.EVENTS_PAGE:
                return Progress(tuple(events), reply.status)
            after = reply.events[-1].seq

    def follow(self, *, after: int = 0) -> Iterator[Progress]:
        """All that happened after a sequence number and will happen, until it has ended."""
        while True:
            progress = self.progress(after=after, wait_ms=POLL_MS)
            yield progress
            after = max((event.seq for event in progress.events), default=after)
            if progress.is_final and not progress.events:
                return

    def allocations_of(self, version: int) -> list[str]:
        """Those that have logs: now, with 0, or of that version.

        :raises Refused: none are kept of it.
        """
        if not version:
            return sorted(self.info().allocations)
        reply = self._call("logs", p.LogsRequest(ensemble_id=self.id, allocation="", version=version), p.LogsReply)
        if reply.error:
            raise refused(reply.error)
        return sorted(reply.allocations)

    def log_piece(
        self, allocation: str, stream: str, offset: int, *, since_ms: int = 0, version: int = 0
    ) -> p.LogsReply:
        """A piece of a log; a negative ``offset`` counts from its end, and what is older than ``since_ms`` is skipped.

        :raises Refused: there is no such allocation, or its log is nowhere to be had.
        """
        request = p.LogsRequest(
            ensemble_id=self.id,
            allocation=allocation,
            stream=stream,
            offset=offset,
            max_bytes=LOG_PIECE_BYTES,
            since_ms=since_ms,
            version=version,
        )
        reply = self._call("logs", request, p.LogsReply)
        if reply.error:
            raise refused(reply.error)
        return reply

    def _call(self, name: str, request: object, reply: type[R], *, timeout_s: float = CALL_TIMEOUT_S) -> R:
        return self.client.call(f"{NAMESPACE}/{name}", request, reply, timeout_s=timeout_s)
