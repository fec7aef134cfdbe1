"""Host ports for allocations: static ones as asked, dynamic ones picked; all of an allocation or none."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dms.resources.errors import InvalidResources, NoDynamicPorts, PortOutOfRange, PortsTaken
from dms.types.ids import AllocationID

MAX_PORTS = 1000
"""Ports of one allocation."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What one allocation has."""

    static: tuple[int, ...] = ()
    dynamic: tuple[int, ...] = ()


class PortAllocator:
    """The ports from ``range_from`` up to, not including, ``range_to``; no I/O.

    ``in_use`` tells whether another program listens on a port of the host. ``rng`` decides where the search for dynamic
    ports begins, so that a port just given back is seldom the next one given away.
    """

    def __init__(
        self,
        range_from: int,
        range_to: int,
        *,
        rng: random.Random | None = None,
        in_use: Callable[[int], bool] = lambda _port: False,
    ) -> None:
        if not 0 < range_from < range_to <= 65536:
            raise ValueError(f"no ports from {range_from} to {range_to}")
        self._range = range(range_from, range_to)
        self._rng = rng or random.Random()  # noqa: S311 (which free port it is, is no secret)
        self._in_use = in_use
        self._held: dict[AllocationID, Ports] = {}
        self._taken: set[int] = set()

    @property
    def held(self) -> Mapping[AllocationID, Ports]:
        """What each allocation has."""
        return dict(self._held)

    def check(self, static: Sequence[int], dynamic: int) -> None:
        """See whether :meth:`reserve` would succeed; its errors are the same."""
        self._choose(static, dynamic)

    def reserve(self, allocation: AllocationID, static: Sequence[int] = (), dynamic: int = 0) -> Ports:
        """Take ``static`` and ``dynamic`` other ports; asking for the same again answers the same.

        :raises PortsTaken: a static port is not free, or ``allocation`` has other ports already.
        :raises PortOutOfRange: a static port is not offered.
        :raises NoDynamicPorts: too few are left.
        """
        held = self._held.get(allocation)
        if held is not None:
            if set(held.static) == set(static) and len(held.dynamic) == dynamic:
                return held
            raise PortsTaken(f"ports are already allocated: {allocation} has others")
        ports = self._choose(static, dynamic)
        self._hold(allocation, ports)
        return ports

    def restore(self, allocation: AllocationID, ports: Ports) -> None:
        """Take the very ports that ``allocation`` had before a restart.

        :raises PortsTaken: another allocation has one of them.
        """
        wanted = {*ports.static, *ports.dynamic}
        mine = self._held.get(allocation, Ports())
        if clash := wanted & (self._taken - {*mine.static, *mine.dynamic}):
            raise PortsTaken(f"ports are already allocated: {_listed(clash)}")
        self.release(allocation)
        self._hold(allocation, ports)

    def release(self, allocation: AllocationID) -> None:
        """Give back what ``allocation`` has, and nothing of anybody else's; may come twice."""
        ports = self._held.pop(allocation, Ports())
        self._taken -= {*ports.static, *ports.dynamic}

    def _hold(self, allocation: AllocationID, ports: Ports) -> None:
        self._held[allocation] = ports
        self._taken |= {*ports.static, *ports.dynamic}

    def _choose(self, static: Sequence[int], dynamic: int) -> Ports:
        if dynamic < 0 or len(static) + dynamic > MAX_PORTS:
            raise InvalidResources(f"an allocation may have up to {MAX_PORTS} ports")
        if len(set(static)) < len(static):
            raise PortsTaken(f"ports are already allocated: {_listed(p for p in static if static.count(p) > 1)} twice")
        if outside := [port for port in static if port not in self._range]:
            raise PortOutOfRange(
                f"port {_listed(outside)} is not offered here, only {self._range.start} to {self._range.stop - 1}"
            )
        if busy := [port for port in static if port in self._taken or self._in_use(port)]:
            raise PortsTaken(f"ports are already allocated: {_listed(busy)}")
        return Ports(tuple(static), self._pick(dynamic, self._taken | set(static)))

    def _pick(self, count: int, taken: set[int]) -> tuple[int, ...]:
        picked: list[int] = []
        size = len(self._range)
        start = self._rng.randrange(size)
        for step in range(size):
            if len(picked) == count:
                break
            port = self._range[(start + step) % size]
            if port not in taken and not self._in_use(port):
                picked.append(port)
        if len(picked) < count:
            raise NoDynamicPorts(f"dynamic ports not available: {count} wanted, {len(picked)} free")
        return tuple(picked)


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in sorted(set(ports)))
