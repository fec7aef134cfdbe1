"""Events on their way to a deployment, one after another."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import trio

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.lifecycle.events import Event


@dataclass(frozen=True, slots=True, eq=False)
class Posted:
    """An event, and the version of the ensemble that it is about; ``taken`` is set once what follows from it is on disk."""

    event: Event
    written: EnsembleConfig | None = None
    taken: trio.Event = field(default_factory=trio.Event)


class Inbox:
    """Unbounded: what is in it was caused by this node, by users that are authorised, or by the chosen providers."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Posted](math.inf)
        self._is_closed = False

    def post(self, event: Event, written: EnsembleConfig | None = None) -> trio.Event:
        """Queue an event; what is returned is set once what follows is on disk, or the deployment is over."""
        posted = Posted(event, written)
        if self._is_closed:
            posted.taken.set()
        else:
            self._send.send_nowait(posted)
        return posted.taken

    async def receive(self) -> Posted:
        """The next."""
        return await self._receive.receive()

    def close(self) -> None:
        """Nobody takes any more: whoever waits for an event to be taken goes on."""
        self._is_closed = True
        while self._receive.statistics().current_buffer_used:
            self._receive.receive_nowait().taken.set()
