"""What time it is elsewhere: ``/public/time``, the clocks of the connected peers, and jumps of our own. Ours.

Messages carry their expiry, so a wrong clock cuts a machine off. Of two clocks nobody knows which is wrong; of many, the one
that is far from the middle of all the others.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.handle import handle_of_peer
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.ids import PeerID

PUBLIC_TIME = "/public/time"
ASK_TIMEOUT_S = 3.0
LIFETIME_S = 1800.0
"""Of the question: clocks that are further apart are told by nobody's answering."""
NS_PER_S = 10**9
WRONG_S = 5.0
"""Away from the peers' clocks by more than this, a clock is wrong. Replies live for seconds."""
ENOUGH = 2
"""Peers that must agree before our clock is blamed."""
JUMP_S = 2.0
"""A clock that is kept right is moved by less at once."""
REMEMBERED_S = 600.0


class PeerTime(Wire):
    """The wall clock, UNIX nanoseconds."""

    time_ns: int


@dataclass(frozen=True, slots=True)
class ClockSample:
    """How far a peer's clock is ahead of ours, give or take half of the round trip that asking took; seconds."""

    peer: PeerID
    ahead_s: float
    rtt_s: float


def behind_s(samples: Sequence[ClockSample]) -> float | None:
    """How far our clock is behind those of most peers, as far as is certain; negative: ahead. ``None``: nobody can tell."""
    if len(samples) < ENOUGH:
        return None
    middle = statistics.median(sample.ahead_s for sample in samples)
    doubt_s = statistics.median(sample.rtt_s for sample in samples) / 2
    agreeing = sum(abs(sample.ahead_s - middle) <= WRONG_S + sample.rtt_s / 2 for sample in samples)
    if agreeing <= len(samples) / 2:
        return None
    return 0.0 if abs(middle) <= doubt_s else middle


async def ask_peers(root: Actor, peers: Iterable[PeerID], timeout_s: float = ASK_TIMEOUT_S) -> tuple[ClockSample, ...]:
    """Ask all at once what time it is; who does not answer in time is left out."""
    samples: list[ClockSample] = []

    async def ask(peer: PeerID) -> None:
        begun_s, begun_ns = trio.current_time(), root.security.now_ns()
        reply: PeerTime | None = None
        with contextlib.suppress(DMSError), trio.move_on_after(timeout_s):
            # it lives for longer than anybody waits: to a clock that is ahead it must not be over already
            reply = await root.invoke(handle_of_peer(peer), PUBLIC_TIME, None, PeerTime, timeout_s=LIFETIME_S)
        if reply is None:
            return
        rtt_s = trio.current_time() - begun_s
        samples.append(ClockSample(peer, (reply.time_ns - begun_ns) / NS_PER_S - rtt_s / 2, rtt_s))

    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(ask, peer)
    return tuple(sorted(samples, key=lambda sample: sample.peer))


class JumpWatch:
    """Notices when the wall clock was set, by a clock that is never set. Pure."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._jumped: tuple[float, float] | None = None

    def look(self, wall_s: float, steady_s: float) -> bool:
        """Compare both clocks with the last look; whether the wall clock has jumped since."""
        last, self._last = self._last, (wall_s, steady_s)
        if last is None:
            return False
        by_s = (wall_s - last[0]) - (steady_s - last[1])
        if abs(by_s) <= JUMP_S:
            return False
        self._jumped = by_s, steady_s
        return True

    def detail(self, steady_s: float) -> str | None:
        """The last jump, for ten minutes."""
        if self._jumped is None or steady_s - self._jumped[1] > REMEMBERED_S:
            return None
        return f"by {self._jumped[0]:+.1f} s"


class TimeBehaviour:
    """Tells everybody who is admitted what time it is here."""

    def __init__(self, root: Actor) -> None:
        self._root = root

    def register(self) -> None:
        """Answer on the root actor."""
        self._root.on(PUBLIC_TIME, self._time, payload=Any)

    async def _time(self, _message: Message[Any]) -> PeerTime:
        return PeerTime(time_ns=self._root.security.now_ns())
