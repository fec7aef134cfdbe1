"""Commands inside allocations, for the owners of deployments: ``/dms/node/deployment/exec/*``.

The orchestrator only carries what its user and the allocation say to each other (:mod:`dms.allocation.exec`); it keeps
nothing of a session but that it was there, so that one outlives a restart of this node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.allocation import exec_messages as wire
from dms.identity.ids import DID
from dms.node.exec_payloads import ExecStartRequest, ExecStopRequest, ExecTurnRequest
from dms.node.finding import find_allocation, find_deployment
from dms.orchestrator.deployment import Deployment
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.errors import NotTheOwner
from dms.types.errors import DMSError
from dms.types.gojson import Wire

NAMESPACE = "/dms/node/deployment/exec"
START_TIMEOUT_S, TURN_TIMEOUT_S = 60.0, 20.0
MAX_REMEMBERED = 1000

W = TypeVar("W", bound=Wire)


class ExecBehaviours:
    """What a node answers to those who want to run commands in what they deployed."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._open: dict[str, str] = {}
        """Sessions whose end is still to be written into the events; by session the allocation."""

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        actor.on(
            f"{NAMESPACE}/start",
            self._start,
            payload=ExecStartRequest,
            error_reply=lambda error: wire.ExecStarted(ok=False, error=error),
        )
        failed: Callable[[str], object] = lambda error: wire.ExecAnswer(ok=False, error=error)  # noqa: E731
        actor.on(f"{NAMESPACE}/io", self._turn, payload=ExecTurnRequest, error_reply=failed)
        actor.on(f"{NAMESPACE}/stop", self._stop, payload=ExecStopRequest, error_reply=failed)

    async def _start(self, message: Message[ExecStartRequest]) -> wire.ExecStarted:
        request = message.payload
        try:
            deployment, key = self._owned(request.id, request.allocation, message.sender.did)
            asked = _part_of(request, wire.ExecStart)
            reply = await deployment.ask(key, wire.EXEC_START, asked, wire.ExecStarted, timeout_s=START_TIMEOUT_S)
        except DMSError as exc:
            return wire.ExecStarted(ok=False, error=exc.message, hint=exc.hint)
        if reply.ok:
            program = (request.command or ("",))[0]  # its arguments may hold secrets
            await deployment.note(
                "exec_started", {"allocation": key, "program": program[:200], "by": message.sender.did.uri}
            )
            if len(self._open) < MAX_REMEMBERED:
                self._open[reply.session] = key
        return reply

    async def _turn(self, message: Message[ExecTurnRequest]) -> wire.ExecAnswer:
        request = message.payload
        deployment, key = self._owned(request.id, request.allocation, message.sender.did)
        turn = _part_of(request, wire.ExecTurn)
        timeout_s = TURN_TIMEOUT_S + max(0, request.wait_ms) / 1000
        answer = await deployment.ask(key, wire.EXEC_TURN, turn, wire.ExecAnswer, timeout_s=timeout_s)
        if answer.ended and self._open.pop(request.session, ""):
            detail: dict[str, object] = {"allocation": key, "exit_code": answer.exit_code}
            await deployment.note("exec_ended", detail | ({"why": answer.error} if answer.error else {}))
        return answer

    async def _stop(self, message: Message[ExecStopRequest]) -> wire.ExecAnswer:
        request = message.payload
        deployment, key = self._owned(request.id, request.allocation, message.sender.did)
        stop = _part_of(request, wire.ExecStop)
        with trio.move_on_after(TURN_TIMEOUT_S):
            answer = await deployment.ask(key, wire.EXEC_STOP, stop, wire.ExecAnswer, timeout_s=TURN_TIMEOUT_S)
            if self._open.pop(request.session, ""):
                await deployment.note("exec_ended", {"allocation": key, "why": "ended by its user"})
            return answer
        return wire.ExecAnswer(ok=False, error="the allocation does not answer")

    def _owned(self, identifier: str, allocation: str, caller: DID) -> tuple[Deployment, str]:
        record = find_deployment(self._deployments, identifier)
        if record.state.owner != caller.uri:
            hint = (
                "" if record.state.owner else "it was submitted by an earlier version, which did not write down by whom"
            )
            raise NotTheOwner(hint=hint)
        key = find_allocation(record, allocation).key
        return self._deployments.live(record.id), key


def _part_of(request: W, kind: type[W]) -> W:
    """What of a user's request its provider is told: all but where."""
    return kind(**{name: getattr(request, name) for name in kind.__struct_fields__})
