"""What a node tells anybody whom it admits: ``/public/*`` and ``/broadcast/hello`` (``spec/orchestration.md`` 2.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.node.payloads import Hello, Nil, PublicStatus
from dms.types.resources import Resources

HELLO_TOPIC = "/nunet/hello"


class PublicBehaviours:
    """Hello and status. ``onboarded`` tells what is offered, ``None`` when nothing is."""

    def __init__(self, did: str, onboarded: Callable[[], Awaitable[Resources | None]]) -> None:
        self._did = did
        self._onboarded = onboarded

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        actor.on("/public/hello", self._hello, payload=Nil)
        actor.on("/public/status", self._status, payload=Nil)
        actor.on("/broadcast/hello", self._hello, payload=Nil, topic=HELLO_TOPIC)

    async def _hello(self, _message: Message[Any]) -> Hello:
        return Hello(did=self._did)

    async def _status(self, _message: Message[Any]) -> PublicStatus:
        offered = await self._onboarded()
        if offered is None:
            return PublicStatus(status="not onboarded", resources=Resources())
        return PublicStatus(status="onboarded", resources=offered)
