"""What all inboxes of a process share: the queue in which messages take turns, and what bounds them.

A message waits in the line of the peer that brought it. One task takes a few at a time, peer by peer, and starts a task for
each, so that nothing that one of them waits for, a DID to be fetched or its handler, keeps another waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from dms.actor.fairness import FairQueue
from dms.actor.limiter import Limiter, Limits, Slots
from dms.actor.rates import Buckets, Rate, RateLimiter, Rates, Traffic
from dms.actor.refusal import REFUSAL_RATE
from dms.actor.replay import ReplayWindow
from dms.types.ids import PeerID

PER_TURN: Final = 16
"""Messages taken at a time; then everything else in the process gets its turn."""
FETCHES: Final = 64
FETCHES_PER_PEER: Final = 8
"""Messages that wait at once for a DID to be fetched."""

Begin = Callable[[PeerID, bytes], None]


async def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class GateOptions:
    """The bounds, and whether known callers are told why they are refused."""

    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    refusal_rate: Rate = REFUSAL_RATE
    are_refusals_told: bool = True


class Gate:
    """Made by the root actor, which runs it, and shared with its children."""

    def __init__(
        self,
        own_host: PeerID,
        options: GateOptions | None = None,
        *,
        replay: ReplayWindow | None = None,
        sync_replay: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        options = options or GateOptions()
        self.limiter = Limiter(options.limits, own_host=own_host)
        self.replay = ReplayWindow() if replay is None else replay  # an empty one is false
        self.sync_replay = sync_replay
        """Returns once what the window notes will survive a loss of power."""
        self.fetches = Slots(FETCHES, FETCHES_PER_PEER)
        self._rates = RateLimiter[PeerID](options.rates, exempt=own_host)
        self._refusals = Buckets[PeerID](options.refusal_rate) if options.are_refusals_told else None
        self._queue = FairQueue[PeerID, tuple[Begin, bytes]]()
        self._waiting = trio.lowlevel.ParkingLot()
        self._crowded_out = trio.lowlevel.ParkingLot()

    def offer(self, peer: PeerID, data: bytes, begin: Begin) -> bool:
        """Queue a message; ``begin`` is called when its turn has come. Whether there was room."""
        if not self._queue.put(peer, (begin, data), len(data)):
            return False
        if self._waiting:
            self._waiting.unpark()
        return True

    async def wait_for_room(self) -> None:
        """After :meth:`offer` said no: return once it may be worth asking again. For our own messages; others are dropped."""
        await self._crowded_out.park()

    def is_slow_enough(self, peer: PeerID, traffic: Traffic) -> bool:
        """Count a message of a peer against its rate."""
        return self._rates.allow(peer, traffic, trio.current_time())

    def may_refuse(self, peer: PeerID) -> bool:
        """Count an answer to a peer that was refused."""
        return self._refusals is not None and self._refusals.take(peer, trio.current_time())

    async def run(self) -> None:
        """Let messages in, in turns, until cancelled."""
        while True:
            if not self._queue:
                await self._waiting.park()
            count = min(PER_TURN, len(self._queue))
            for _ in range(count):
                peer, (begin, data) = self._queue.take()
                begin(peer, data)
            self._crowded_out.unpark(count=count)
            await trio.lowlevel.checkpoint()
