"""Waiting for capacity: the network has none now, and may have some later.

A deployment that may wait (:class:`~dms.orchestrator.scheduling.terms.Terms`) goes back to the queue of its node when a
round of bids finds no place for it, and asks again when it is its turn. One asks at a time and keeps its turn until its
resources are reserved, so that two never run after the same capacity. :class:`Line` says whose turn it is: users take turns,
each user's oldest first, and nobody asks more often than every :data:`PAUSE_S`. Who finds something in the middle of a pass
lets those before it ask again first, and takes it if they have no use for it: so the first in line is served first, and a
large deployment does not hold up the small ones behind it. What became free in between it does not take either: when it
finds more than they could have seen it lets them ask once more, a few times at most.

Some wishes no network can ever fulfil (:func:`hopeless`): these fail at once. Only what is impossible whatever anybody
may offer counts; that no peer has enough today proves nothing about tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec
import trio

from dms.ensemble.config import EnsembleConfig, LocationConstraints
from dms.ensemble.requirements import location_matches
from dms.orchestrator.errors import QueueFull
from dms.orchestrator.lifecycle.events import AwaitTurn
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.resources.arithmetic import covers
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import Location, Resources

PAUSE_S = 10.0
"""From one question of a deployment to its next."""
HOLD_S = 30.0
"""A turn lasts no longer, whatever its deployment does."""
MAX_GIVES_WAY = 4
"""In a row: where capacity comes and goes all the time somebody must take it."""
MAX_QUEUED = 256
MAX_QUEUED_BY_OWNER = 16
NS_PER_S = 10**9


# the machine's part ---------------------------------------------------------------------------------------------------


def may_wait(state: DeploymentState, at_ns: int) -> bool:
    """Whether it may go (back) to the queue."""
    return at_ns < state.terms.queue_until_ns


def turn(state: DeploymentState, at_ns: int) -> tuple[AwaitTurn, ...]:
    """What precedes a round: who may wait asks only when it is its turn."""
    return (AwaitTurn(),) if may_wait(state, at_ns) else ()


def waiting(before: DeploymentState, after: DeploymentState, at_ns: int) -> DeploymentState:
    """The state of one that goes on to the next round, with its being queued, if it may wait.

    When nobody was left who could host it, peers that broke a bid are asked again: they may have room by then.
    """
    if not may_wait(after, at_ns):
        return after
    failures = after.failures if before.phase is Phase.COMMITTING else {}
    return msgspec.structs.replace(after, queued_ns=after.queued_ns or at_ns, failures=failures)


def is_over(state: DeploymentState, at_ns: int) -> bool:
    """Whether it waited as long as it may."""
    return bool(state.queued_ns) and not may_wait(state, at_ns)


def waited(state: DeploymentState, at_ns: int) -> str:
    """For how long it waited, for people."""
    return f"it waited {max(0, at_ns - state.queued_ns) // NS_PER_S} s in the queue"


def stamped(state: DeploymentState, at_ns: int) -> DeploymentState:
    """With what follows from its terms once it runs: it waits no more, and it is known when it ends."""
    if state.phase is not Phase.RUNNING:
        return state
    ends_ns = state.ends_ns or (at_ns + state.terms.run_for_ns if state.terms.run_for_ns else 0)
    if (ends_ns, 0) == (state.ends_ns, state.queued_ns):
        return state
    return msgspec.structs.replace(state, ends_ns=ends_ns, queued_ns=0)


def is_queued(state: DeploymentState) -> bool:
    """Whether it waits for capacity now."""
    return bool(state.queued_ns) and state.phase in (Phase.PREPARING, Phase.GENERATING)


# before anything else -------------------------------------------------------------------------------------------------


def hopeless(config: EnsembleConfig) -> str:
    """Why no network could ever host this ensemble, or nothing."""
    excluded = set(config.v1.exclude_peers)
    for node_id, node in sorted(config.v1.nodes.items()):
        if node.peer:
            if node.peer in excluded:
                return f"{node_id} is pinned to {node.peer}, which exclude_peers leaves out"
        elif not _has_place(node.location):
            return f"whatever place {node_id} accepts, it rejects as well"
    return ""


def _has_place(wanted: LocationConstraints | None) -> bool:
    """Whether some place on earth satisfies both lists. A reject entry that matches an accepted place as vaguely as it is
    given matches it however much more is known of it.
    """
    if wanted is None:
        return True
    rejecting = LocationConstraints(reject=wanted.reject)
    return any(location_matches(rejecting, place) for place in wanted.accept or (Location(),))


def check_room(states: Iterable[DeploymentState], owner: str) -> None:
    """Refuse another deployment that may wait where enough do.

    :raises QueueFull: too many wait, of this owner or of all.
    """
    waiting = [state for state in states if state.terms.queue_until_ns and state.phase.is_creating]
    if sum(state.owner == owner for state in waiting) >= MAX_QUEUED_BY_OWNER:
        raise QueueFull(f"{MAX_QUEUED_BY_OWNER} deployments of yours wait for capacity already")
    if len(waiting) >= MAX_QUEUED:
        raise QueueFull(f"{MAX_QUEUED} deployments wait for capacity at this node already")


# whose turn it is -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """One deployment in line. ``asked``: how often it had its turn, ``ready_s``: when it may have the next one."""

    owner: str
    since_ns: int
    asked: int = 0
    ready_s: float = 0.0


class Line:
    """The order, pure. Whoever had fewer turns comes first; then each user's oldest, their second oldest, and so on; then
    who came first. Who joins late starts with as many turns as those that wait had at least.
    """

    def __init__(self) -> None:
        self._places: dict[EnsembleID, Place] = {}

    def join(self, ensemble: EnsembleID, owner: str, since_ns: int, now_s: float) -> None:
        """Wait for a turn, for the first time or again."""
        if ensemble not in self._places:
            asked = min((place.asked for place in self._places.values()), default=0)
            self._places[ensemble] = Place(owner, since_ns, asked, now_s)

    def leave(self, ensemble: EnsembleID) -> None:
        """Wait no more."""
        self._places.pop(ensemble, None)

    def took(self, ensemble: EnsembleID, now_s: float) -> None:
        """It has its turn."""
        place = self._places[ensemble]
        self._places[ensemble] = replace(place, asked=place.asked + 1, ready_s=now_s + PAUSE_S)

    def ahead(self, ensemble: EnsembleID) -> tuple[EnsembleID, ...]:
        """Who is before it whatever the turns so far."""
        ranks = self._ranks()
        if ensemble not in ranks:
            return ()
        mine = (ranks[ensemble], self._places[ensemble].since_ns, ensemble)
        return tuple(e for e, place in self._places.items() if (ranks[e], place.since_ns, e) < mine)

    def give_way(self, ensemble: EnsembleID, now_s: float) -> None:
        """Those before it have the next turns, then it has one again."""
        place = self._places[ensemble]
        self._places[ensemble] = replace(place, ready_s=now_s)
        for other in self.ahead(ensemble):
            before = self._places[other]
            self._places[other] = replace(before, asked=min(before.asked, place.asked - 1), ready_s=now_s)

    def next(self, waiting: Mapping[EnsembleID, object], now_s: float) -> tuple[EnsembleID | None, float]:
        """Whose turn it is among those that wait for it; or nobody's, and when to ask again."""
        ranks = self._ranks()
        ready = [
            (place.asked, ranks[ensemble], place.since_ns, ensemble)
            for ensemble, place in self._places.items()
            if ensemble in waiting and place.ready_s <= now_s
        ]
        if ready:
            return min(ready)[-1], now_s
        return None, min((self._places[e].ready_s for e in waiting if e in self._places), default=float("inf"))

    def _ranks(self) -> dict[EnsembleID, int]:
        """0 for each user's oldest, 1 for their second."""
        ranks: dict[EnsembleID, int] = {}
        seen: dict[str, int] = {}
        for ensemble, place in sorted(self._places.items(), key=lambda item: (item[1].since_ns, item[0])):
            ranks[ensemble] = seen.get(place.owner, 0)
            seen[place.owner] = ranks[ensemble] + 1
        return ranks


Found = Mapping[PeerID, Resources]
"""What peers that bid have free."""


def _is_more(found: Found, before: Found) -> bool:
    return any(peer not in before or not covers(before[peer], free) for peer, free in found.items())


class Turnstile:
    """Lets one deployment at a time ask for bids."""

    def __init__(self) -> None:
        self._line = Line()
        self._waiting: dict[EnsembleID, None] = {}
        self._gave_way: dict[EnsembleID, tuple[int, Found]] = {}
        self._holder: EnsembleID | None = None
        self._held_until_s = 0.0
        self._changed = trio.Event()

    async def turn(self, ensemble: EnsembleID, owner: str, since_ns: int) -> None:
        """Wait until it is its turn; it keeps it until :meth:`leave`, its next :meth:`turn`, or for :data:`HOLD_S`."""
        self._release(ensemble)
        self._line.join(ensemble, owner, since_ns, trio.current_time())
        self._waiting[ensemble] = None
        try:
            while True:
                now_s = trio.current_time()
                is_held = self._holder is not None and now_s < self._held_until_s
                chosen, again_s = (None, self._held_until_s) if is_held else self._line.next(self._waiting, now_s)
                if chosen == ensemble:
                    break
                changed = self._changed
                with trio.move_on_at(again_s if chosen is None else trio.current_time() + HOLD_S):
                    await changed.wait()
        finally:
            del self._waiting[ensemble]
            self._wake()
        self._line.took(ensemble, trio.current_time())
        self._holder, self._held_until_s = ensemble, trio.current_time() + HOLD_S

    def gives_way(self, ensemble: EnsembleID, found: Found) -> bool:
        """After its question: whether those before it shall ask again before it takes what it found, by peer. They do so
        once, and again if there is more by then than they could have found.
        """
        times, before = self._gave_way.get(ensemble, (0, {}))
        has_more = not times or (times < MAX_GIVES_WAY and _is_more(found, before))
        if not found or not has_more or not self._line.ahead(ensemble):
            self._gave_way.pop(ensemble, None)
            return False
        self._gave_way[ensemble] = (times + 1, found)
        self._line.give_way(ensemble, trio.current_time())
        return True

    def leave(self, ensemble: EnsembleID) -> None:
        """It waits no more: it found its place, or it ended."""
        self._gave_way.pop(ensemble, None)
        self._line.leave(ensemble)
        self._release(ensemble)

    def _release(self, ensemble: EnsembleID) -> None:
        if self._holder == ensemble:
            self._holder = None
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
