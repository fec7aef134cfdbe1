"""Packets that are sealed together and sent as slices, each in a datagram of its own; without I/O.

One seal for 64 KiB costs a fraction of what some forty seals cost, and what arrives needs no joining. But where one slice
is lost, all of the bundle is: so it is done only where the other side has missed nothing for long (:class:`Losses`), and
otherwise every datagram is sealed on its own. A bundle holds frames as they stand on a stream. A slice is, little-endian::

    id of the session 8 | counter 8, its highest bit set | number of the slice 2 | slices of the bundle 2 | its bytes

Each slice takes a counter, and the bundle is sealed with that of its first. What stands in front of the bytes is not
authentic, nor need it be: a bundle opens only where all of its bytes are in their places.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from itertools import chain, count, repeat
from typing import NamedTuple

MARK = 1 << 63
"""Of the counter: what follows is a slice."""
MAX_BUNDLE_BYTES = 72 * 1024
"""Sealed; more than the largest packet with its frame."""
MAX_SLICES = 256
MAX_OPEN = 8
"""Bundles of one session that have begun to arrive."""
MAX_LOOKS = 2
"""So often somebody looks whether a bundle is whole, before it is given up."""
PROVEN, MOST_PROVEN = 20_000, 1_280_000
"""So many datagrams must have come without a gap; some 28 MB."""
FORGIVEN = 50
"""So many times what had to be proven, and it is as at the beginning."""

_HEAD = struct.Struct("<QQHH")
HEAD_BYTES = _HEAD.size


class Run(NamedTuple):
    """Slices of one bundle that follow each other."""

    session_id: int
    first: int
    """The counter with which the bundle is sealed."""
    number: int
    """Which slice the run begins with."""
    slices: int
    total: int
    """So many the bundle has."""
    end: int
    """Where it ends."""


def sliced(sealed: bytes, session_id: int, first: int, size: int) -> bytes:
    """The datagrams, one behind the other, all of ``size`` bytes but the last."""
    chunk = size - HEAD_BYTES
    total = slices_of(len(sealed), size)
    view = memoryview(sealed)
    heads = map(_HEAD.pack, repeat(session_id), count(MARK | first), range(total), repeat(total))
    chunks = [view[at : at + chunk] for at in range(0, len(view), chunk)]
    return b"".join(chain.from_iterable(zip(heads, chunks, strict=False)))


def slices_of(sealed_bytes: int, size: int) -> int:
    """How many datagrams of ``size`` bytes it takes."""
    return -(-sealed_bytes // (size - HEAD_BYTES))


def is_slice(data: bytes | memoryview, at: int = 0) -> bool:
    """Whether a slice begins there."""
    return len(data) - at > HEAD_BYTES and data[at + 15] >= 0x80


def run_of(data: memoryview, at: int, size: int) -> Run | None:
    """The slices that begin there, each of ``size`` bytes, but the last may be shorter; nothing if that cannot be."""
    session_id, counter, number, total = _HEAD.unpack_from(data, at)
    if not number < total <= MAX_SLICES or total * (size - HEAD_BYTES) > MAX_BUNDLE_BYTES + size:
        return None
    slices, end = 1, min(at + size, len(data))
    while number + slices < total and len(data) - end > HEAD_BYTES:
        if _HEAD.unpack_from(data, end) != (session_id, counter + slices, number + slices, total):
            break
        slices, end = slices + 1, min(end + size, len(data))
    first = (counter & ~MARK) - number
    return Run(session_id, first, number, slices, total, end) if first >= 0 else None


def bytes_of(data: memoryview, at: int, size: int, run: Run) -> bytes:
    """What a run carries."""
    return b"".join([data[one + HEAD_BYTES : min(one + size, run.end)] for one in range(at, run.end, size)])


class Gathering:
    """What came so far of bundles of which something is missing."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, int], _Parts] = OrderedDict()
        self._given_up = 0

    def add(self, run: Run, data: bytes) -> bytes | None:
        """What was sealed, once all of it is there."""
        if run.slices == run.total:
            return data
        key = run.first, run.total
        parts = self._open.setdefault(key, _Parts())
        whole = parts.add(run, data)
        if whole is not None:
            del self._open[key]
        elif parts.size_bytes > 2 * MAX_BUNDLE_BYTES:
            self._give_up(key)
        while len(self._open) > MAX_OPEN:
            self._give_up(next(iter(self._open)))
        return whole

    def look(self) -> int:
        """Give up what has been waiting for long, if this is asked every other second; how many bundles were given up since it
        was asked last."""
        for key, parts in tuple(self._open.items()):
            parts.looks += 1
            if parts.looks >= MAX_LOOKS:
                self._give_up(key)
        given_up, self._given_up = self._given_up, 0
        return given_up

    def _give_up(self, key: tuple[int, int]) -> None:
        del self._open[key]
        self._given_up += 1


class _Parts:
    """Of one bundle, by the slice with which each begins."""

    def __init__(self) -> None:
        self.size_bytes = self.looks = self._slices = 0
        self._runs: dict[int, tuple[int, bytes]] = {}

    def add(self, run: Run, data: bytes) -> bytes | None:
        if run.number in self._runs and self._runs[run.number][0] >= run.slices:
            return None
        self._runs[run.number] = run.slices, data
        self.size_bytes += len(data)
        self._slices += run.slices
        return self._whole(run.total) if self._slices >= run.total else None

    def _whole(self, total: int) -> bytes | None:
        found, index = [], 0
        while index < total:
            slices, data = self._runs.get(index, (0, b""))
            if not slices:
                return None
            found.append(data)
            index += slices
        return b"".join(found) if index == total else None


class Losses:
    """Whether the other side misses what is sent, as it says now and then. That nothing is missed has to be proven, again for
    longer each time that it was wrong: where a new connection fills some queue on the way, a lost bundle would stall it."""

    def __init__(self) -> None:
        self._expected = self._received = self._probes = 0
        self._since = 0
        """Datagrams that came since one did not."""
        self._wanted = PROVEN

    def told(self, expected: int, received: int, *, probes: int) -> None:
        """Of ``expected`` datagrams so many came. Probes, of which there were ``probes``, may be lost."""
        if expected < self._expected:
            return  # an older answer
        came = received - self._received
        missing = (expected - self._expected) - came - (probes - self._probes)
        self._expected, self._received, self._probes = expected, received, probes
        if missing <= 0:
            self._since += came
            if self._since >= FORGIVEN * self._wanted:
                self._wanted = PROVEN
            return
        if self.are_rare:
            self._wanted = min(2 * self._wanted, MOST_PROVEN)
        self._since = 0

    @property
    def are_rare(self) -> bool:
        """Whether enough came since something was missed."""
        return self._since >= self._wanted
