"""Coordinates in the space of latencies: the round trip between any two peers, guessed without measuring it. Pure.

Vivaldi with heights (Dabek et al. 2004): every node keeps a vector and a height, all in milliseconds, and after each
measured round trip moves a little so that the distance to that neighbour comes nearer to what was measured. The height is
what every path of a node has in common, its own access line. ``error`` says how wrong the node's guesses have been lately,
relative to what was measured; a node that is often wrong moves more and is believed less.

Neighbours may lie about their coordinates and be slow to answer on purpose. What that can do is bounded:

- values that make no sense are not looked at, nor round trips that no network has;
- a step is at most a part of the round trip, which we measured ourselves, whatever place the neighbour claims;
- nobody is believed as certain beyond :data:`LEAST_ERROR`;
- once enough neighbours are known, one whose claims have long been much further from what is measured than is usual among
  all is left out, until it fits again (:class:`Vivaldi`).

A weak pull towards the origin keeps the whole network from drifting away.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

DIMENSIONS = 4
MIN_HEIGHT_MS = 0.01
MAX_HEIGHT_MS = 5_000.0
MAX_DISTANCE_MS = 20_000.0
"""From the origin, along each axis; nobody on earth is further."""
MAX_RTT_MS = 10_000.0
"""A round trip that takes longer tells nothing about distance."""
MIN_RTT_MS = 0.001
MAX_ERROR = 1.5
LEAST_ERROR = 0.02
LEARNS = 0.25
"""How much of what is wrong one measurement may mend, and how fast the error follows."""
GRAVITY_MS = 5_000.0
"""How far from the origin the pull towards it becomes strong."""
FILTER = 3
"""Round trips of one neighbour of which the middle one counts."""
MAX_NEIGHBOURS = 256
ENOUGH_NEIGHBOURS = 5
"""Before anybody is left out."""
OUTLIER = 6.0
"""How many times further from what is measured than is usual is too far."""
TOLERATED_MS = 4.0
"""A deviation that is never held against a neighbour."""
_RESIDUAL_GAIN = 0.2


@dataclass(frozen=True, slots=True)
class Coordinate:
    """Where a peer lies in the space of latencies: distances are milliseconds, ``height_ms`` is its own access line.

    An estimate of the round trip between two peers is the distance of their vectors and both heights. ``error`` is how
    wrong its estimates have been, relative to what was measured: 0 never, 1 about as large as the values themselves.
    """

    vector: tuple[float, ...]
    height_ms: float = 0.0
    error: float = 0.0

    def estimate_ms(self, other: Coordinate) -> float:
        """The round trip that the two coordinates suggest; an endless one if they make no sense."""
        guess_ms = math.dist(self.vector, other.vector) + self.height_ms + other.height_ms
        return guess_ms if guess_ms >= 0 else math.inf

    def least_ms(self, other: Coordinate) -> float:
        """The same with what may be wrong taken off: a shorter round trip would surprise."""
        trust = 1 - max(0.0, self.error) - max(0.0, other.error)
        return self.estimate_ms(other) * trust if trust > 0 else 0.0

    @property
    def is_sane(self) -> bool:
        """Whether it could be one: of the right length, finite, and within bounds."""
        return (
            len(self.vector) == DIMENSIONS
            and all(-MAX_DISTANCE_MS <= x <= MAX_DISTANCE_MS for x in self.vector)
            and 0 <= self.height_ms <= MAX_HEIGHT_MS
            and 0 <= self.error <= MAX_ERROR
        )


ORIGIN = Coordinate((0.0,) * DIMENSIONS, MIN_HEIGHT_MS, MAX_ERROR)
"""Where everybody begins, certain of nothing."""


class Vivaldi:
    """Our own coordinate, as it follows from the round trips to neighbours. ``rng`` only parts nodes that begin together."""

    def __init__(self, rng: random.Random) -> None:
        self.coordinate = ORIGIN
        self.left_out = 0
        """Observations that moved nothing, as they made no sense or were too far from what is usual."""
        self._rng = rng
        self._neighbours: OrderedDict[Hashable, _Neighbour] = OrderedDict()

    def observe(self, neighbour: Hashable, where: Coordinate, rtt_ms: float) -> bool:
        """Move according to one measured round trip to a neighbour at this coordinate; whether it counted."""
        if not where.is_sane or not MIN_RTT_MS <= rtt_ms <= MAX_RTT_MS:
            self.left_out += 1
            return False
        known = self._neighbour(neighbour)
        known.rtts_ms.append(rtt_ms)
        rtt_ms = statistics.median_low(known.rtts_ms)
        wrong_ms = abs(self.coordinate.estimate_ms(where) - rtt_ms)
        known.residual_ms += (_RESIDUAL_GAIN if known.is_judged else 1.0) * (wrong_ms - known.residual_ms)
        known.is_judged = True
        if self._is_outlier(known):
            self.left_out += 1
            return False
        self.coordinate = self._moved(where, rtt_ms)
        return True

    def forget(self, neighbour: Hashable) -> None:
        """The neighbour is gone."""
        self._neighbours.pop(neighbour, None)

    def _neighbour(self, name: Hashable) -> _Neighbour:
        known = self._neighbours.setdefault(name, _Neighbour())
        self._neighbours.move_to_end(name)
        if len(self._neighbours) > MAX_NEIGHBOURS:
            self._neighbours.popitem(last=False)
        return known

    def _is_outlier(self, known: _Neighbour) -> bool:
        if len(self._neighbours) < ENOUGH_NEIGHBOURS or known.residual_ms <= TOLERATED_MS:
            return False
        usual_ms = statistics.median(each.residual_ms for each in self._neighbours.values())
        return known.residual_ms > OUTLIER * max(usual_ms, TOLERATED_MS / OUTLIER)

    def _moved(self, where: Coordinate, rtt_ms: float) -> Coordinate:
        own = self.coordinate
        theirs = max(LEAST_ERROR, where.error)
        weight = own.error / (own.error + theirs) if own.error > 0 else 0.0
        distance_ms = own.estimate_ms(where)
        relative = min(MAX_ERROR, abs(distance_ms - rtt_ms) / rtt_ms)
        error = min(MAX_ERROR, max(LEAST_ERROR, own.error + LEARNS * weight * (relative - own.error)))
        # a neighbour that claims to be far away pulls no harder than one that is as far as it was measured to be
        wrong_ms = max(-rtt_ms, min(rtt_ms, rtt_ms - distance_ms))
        force_ms = LEARNS * weight * wrong_ms
        vector, height_ms = self._apply(own, where, force_ms)
        return Coordinate(self._drawn_back(vector), height_ms, error)

    def _apply(self, own: Coordinate, where: Coordinate, force_ms: float) -> tuple[tuple[float, ...], float]:
        """Away from the other end, or towards it if the force is negative; the height takes its part."""
        apart_ms = math.dist(own.vector, where.vector)
        if apart_ms > 1e-6:
            unit = [(a - b) / apart_ms for a, b in zip(own.vector, where.vector, strict=True)]
        else:
            drawn = [self._rng.gauss(0, 1) for _ in own.vector]
            length = math.hypot(*drawn) or 1.0
            unit = [x / length for x in drawn]
        whole_ms = apart_ms + own.height_ms + where.height_ms
        vector = tuple(a + u * force_ms for a, u in zip(own.vector, unit, strict=True))
        height_ms = own.height_ms
        if apart_ms > 1e-6:
            height_ms += (own.height_ms + where.height_ms) * force_ms / whole_ms
        return vector, min(MAX_HEIGHT_MS, max(MIN_HEIGHT_MS, height_ms))

    @staticmethod
    def _drawn_back(vector: tuple[float, ...]) -> tuple[float, ...]:
        length_ms = math.hypot(*vector)
        if not length_ms:
            return vector
        keep = 1 - min(length_ms, (length_ms / GRAVITY_MS) ** 2) / length_ms
        return tuple(max(-MAX_DISTANCE_MS, min(MAX_DISTANCE_MS, x * keep)) for x in vector)


class _Neighbour:
    """What is remembered of one: its last round trips, and how far its claims are from them."""

    __slots__ = ("is_judged", "residual_ms", "rtts_ms")

    def __init__(self) -> None:
        self.rtts_ms: deque[float] = deque(maxlen=FILTER)
        self.residual_ms = 0.0
        self.is_judged = False
