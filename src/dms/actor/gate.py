"""What all inboxes of a process share: the queue in which messages take turns, and what bounds them.

A message waits in the line of the peer that brought it. One task has the lead: it takes the next message and handles it, and
the one after that, until a message waits for something, a DID to be fetched or whatever its handler does. Then another
task has the lead, and the message keeps the one that it is in; so none ever keeps another waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from dms.actor.fairness import FairQueue
from dms.actor.familiar import Familiar
from dms.actor.handover import run_telling
from dms.actor.limiter import Limiter, Limits, Slots
from dms.actor.rates import Buckets, Rate, RateLimiter, Rates, Traffic
from dms.actor.refusal import REFUSAL_RATE
from dms.actor.replay import ReplayWindow
from dms.types.ids import PeerID

PER_TURN: Final = 16
"""Messages that a task handles, one after the other; then everything else in the process gets its turn."""
FETCHES: Final = 64
FETCHES_PER_PEER: Final = 8
"""Messages that wait at once for a DID to be fetched."""


class Door(Protocol):
    """Where messages of one kind enter an inbox."""

    @property
    def nursery(self) -> trio.Nursery | None:
        """In which they are handled; none: the inbox has ended, and what waits for it has come too late."""
        ...

    async def receive(self, peer: PeerID, data: bytes) -> None:
        """Handle one; raises nothing."""
        ...


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
        self.familiar = Familiar()
        self._own_host = own_host
        self._options = options
        self._rates = RateLimiter[PeerID](options.rates, exempt=own_host)
        self._refusals = Buckets[PeerID](options.refusal_rate)
        self._queue = FairQueue[PeerID, tuple[Door, bytes]]()
        self._is_led = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._crowded_out = trio.lowlevel.ParkingLot()

    def follow(self, options: GateOptions) -> None:
        """Have other bounds from now on. Where the rates are others, everybody's buckets are full again."""
        if options.rates != self._options.rates:
            self._rates = RateLimiter[PeerID](options.rates, exempt=self._own_host)
        if options.refusal_rate != self._options.refusal_rate:
            self._refusals = Buckets[PeerID](options.refusal_rate)
        self.limiter.follow(options.limits)
        self._options = options

    def offer(self, peer: PeerID, data: bytes, door: Door) -> bool:
        """Queue a message for ``door``. Whether there was room."""
        if not self._queue.put(peer, (door, data), len(data)):
            return False
        if not self._is_led and self._waiting:
            self._waiting.unpark()
        return True

    async def wait_for_room(self) -> None:
        """After :meth:`offer` said no: return once it may be worth asking again. For our own messages; others are dropped."""
        await self._crowded_out.park()

    def is_slow_enough(self, peer: PeerID, traffic: Traffic, now_s: float) -> bool:
        """Count a message of a peer against its rate.

        :param now_s: trio's clock.
        """
        return self._rates.allow(peer, traffic, now_s)

    def may_refuse(self, peer: PeerID) -> bool:
        """Count an answer to a peer that was refused."""
        return self._options.are_refusals_told and self._refusals.take(peer, trio.current_time())

    async def run(self) -> None:
        """Let messages in, in turns, until cancelled."""
        while True:
            while self._is_led or not self._queue:
                await self._waiting.park()
            peer, door, data = self._take()
            if door.nursery is not None:
                self._is_led = True
                door.nursery.start_soon(self._lead, peer, door, data)

    async def _lead(self, peer: PeerID, door: Door, data: bytes) -> None:
        """Handle a message, and those after it that are for the same inbox, until one waits."""
        lead, nursery, left = _Lead(self), door.nursery, PER_TURN
        try:
            while True:
                await run_telling(door.receive(peer, data), lead.give_up)
                left -= 1
                if not left or lead.is_given_up or nursery is None or not self._is_next_in(nursery):
                    return
                peer, door, data = self._take()
        finally:
            lead.give_up()

    def give_up_lead(self) -> None:
        """Who had it does not take the next message."""
        self._is_led = False
        if self._queue and self._waiting:
            self._waiting.unpark()

    def _is_next_in(self, nursery: trio.Nursery) -> bool:
        return bool(self._queue) and self._queue.first()[0].nursery is nursery

    def _take(self) -> tuple[PeerID, Door, bytes]:
        peer, (door, data) = self._queue.take()
        if self._crowded_out:
            self._crowded_out.unpark()
        return peer, door, data


class _Lead:
    """The right to take the next message, held once."""

    __slots__ = ("_gate", "is_given_up")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.is_given_up = False

    def give_up(self) -> None:
        if not self.is_given_up:
            self.is_given_up = True
            self._gate.give_up_lead()
