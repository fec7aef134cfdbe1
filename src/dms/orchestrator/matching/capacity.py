"""What peers have left while nodes are placed on them (``spec/execution.md`` 8.1, 8.3).

Amounts are whole numbers, as :mod:`dms.resources.arithmetic` counts them: hundredths of cores, bytes of memory, bytes
of disk. Graphics processors are packed exactly: those of one allocation are different devices, different allocations
share one as long as its memory lasts. Whether a set of nodes fits does not depend on their order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from dms.orchestrator.matching.problem import Wanted
from dms.resources.arithmetic import hundredths
from dms.resources.gpus import is_alike
from dms.types.resources import GPU, Resources

ENDLESS = 1 << 80
MAX_PACKING_STEPS = 2_000
"""Ways to lay GPUs tried before a set of nodes counts as not fitting; real machines need a few dozen."""

Amounts = tuple[int, int, int]
_NAMES = ("cores", "RAM", "disk")


@dataclass(frozen=True, slots=True)
class Demand:
    """What a node takes from its peer. ``gpus`` in groups: those of one group are different devices."""

    amounts: Amounts
    gpus: tuple[tuple[GPU, ...], ...] = ()


def demand_of(resources: Resources, groups: tuple[tuple[GPU, ...], ...] = ()) -> Demand:
    """The countable part of a requirement; its GPUs are one group unless ``groups`` says otherwise."""
    amounts = (hundredths(resources.cpu.cores), resources.ram.size, resources.disk.size)
    return Demand(amounts, groups or ((resources.gpus,) if resources.gpus else ()))


def demand_for(wanted: Wanted) -> Demand:
    """What this node takes."""
    return demand_of(wanted.resources, wanted.gpu_groups)


def shortage(free: Resources | None, demand: Demand) -> str:
    """Which resource of a peer does not suffice for one node, with figures; empty if all do."""
    if free is None:
        return ""
    for name, have, want in zip(_NAMES, demand_of(free).amounts, demand.amounts, strict=True):
        if want > have:
            if name == "cores":
                return f"cores: {want / 100:g} wanted, {have / 100:g} free"
            return f"{name}: {want} bytes wanted, {have} free"
    if not pack(free.gpus, demand.gpus):
        return f"GPUs: {sum(map(len, demand.gpus))} wanted, none fit of the {len(free.gpus)} free"
    return ""


class Room:
    """The running account of all peers, by their index. ``load`` counts the nodes that each hosts."""

    __slots__ = ("_gpus", "_hosted", "left", "load", "slots")

    def __init__(self, frees: Sequence[Resources | None]) -> None:
        self.left: list[Amounts] = []
        self.slots: list[int] = []
        self.load = [0] * len(frees)
        self._gpus: list[tuple[GPU, ...] | None] = []
        self._hosted: dict[int, tuple[tuple[GPU, ...], ...]] = {}
        for free in frees:
            self.left.append((ENDLESS, ENDLESS, ENDLESS) if free is None else demand_of(free).amounts)
            self.slots.append(1 if free is None else ENDLESS)
            self._gpus.append(None if free is None else free.gpus)

    def copy(self) -> Room:
        """The same account, kept separately."""
        room = Room(())
        room.left, room.slots, room.load = self.left[:], self.slots[:], self.load[:]
        room._gpus, room._hosted = self._gpus, dict(self._hosted)
        return room

    @classmethod
    def endless(cls, peers: int) -> Room:
        """Of peers that hold whatever they are given."""
        room = cls([None] * peers)
        room.slots = [ENDLESS] * peers
        return room

    def fits(self, peer: int, demand: Demand) -> bool:
        """Whether the peer could host one more such node."""
        have, want = self.left[peer], demand.amounts
        if have[0] < want[0] or have[1] < want[1] or have[2] < want[2] or self.slots[peer] < 1:
            return False
        return not demand.gpus or self._fits_gpus(peer, demand)

    def take(self, peer: int, demand: Demand) -> None:
        """Host one more such node, which fits."""
        have, want = self.left[peer], demand.amounts
        self.left[peer] = (have[0] - want[0], have[1] - want[1], have[2] - want[2])
        self.slots[peer] -= 1
        self.load[peer] += 1
        if demand.gpus:
            self._hosted[peer] = (*self._hosted.get(peer, ()), *demand.gpus)

    def give(self, peer: int, demand: Demand) -> None:
        """Undo :meth:`take`."""
        have, want = self.left[peer], demand.amounts
        self.left[peer] = (have[0] + want[0], have[1] + want[1], have[2] + want[2])
        self.slots[peer] += 1
        self.load[peer] -= 1
        if demand.gpus:
            hosted = list(self._hosted[peer])
            for group in demand.gpus:
                hosted.remove(group)
            self._hosted[peer] = tuple(hosted)

    def most(self, peer: int, demand: Demand, wanted: int) -> int:
        """How many more such nodes the peer could host, at most ``wanted``."""
        most = min(wanted, self.slots[peer])
        for have, want in zip(self.left[peer], demand.amounts, strict=True):
            if want:
                most = min(most, have // want)
        if demand.gpus:
            hosted = self._hosted.get(peer, ())
            gpus = self._gpus[peer]
            count = 0
            while gpus is not None and count < most and pack(gpus, (*hosted, *(demand.gpus * (count + 1)))):
                count += 1
            most = most if gpus is None else count
        return max(0, most)

    def state(self, peer: int) -> tuple[object, ...]:
        """All that tells what the peer can still host."""
        hosted = self._hosted.get(peer, ())
        return (self.left[peer], self.slots[peer], self._gpus[peer] or (), tuple(sorted(hosted, key=repr)))

    def _fits_gpus(self, peer: int, demand: Demand) -> bool:
        gpus = self._gpus[peer]
        return gpus is None or pack(gpus, (*self._hosted.get(peer, ()), *demand.gpus))


@functools.lru_cache(maxsize=4096)
def pack(free: tuple[GPU, ...], nodes: tuple[tuple[GPU, ...], ...]) -> bool:
    """Whether the devices serve all requirements of all groups. One that names no memory wants a device for itself."""
    wants = [(gpu, node) for node, gpus in enumerate(nodes) for gpu in gpus]
    if not wants:
        return True
    wants.sort(key=lambda item: (item[0].vram != 0, -item[0].vram))
    memory = [gpu.vram for gpu in free]
    used: list[set[int]] = [set() for _ in free]
    is_named = any(gpu.uuid or gpu.pci_address for gpu, _ in wants)
    steps = 0

    def place(index: int) -> bool:
        nonlocal steps
        if index == len(wants):
            return True
        gpu, node = wants[index]
        seen: list[tuple[str, str, int, set[int]]] = []
        for device, have in enumerate(memory):
            if have <= 0 or have < gpu.vram or node in used[device] or not is_alike(free[device], gpu):
                continue
            alike = (free[device].vendor, free[device].model, have, used[device])
            if not is_named and alike in seen:
                continue
            seen.append((*alike[:3], set(used[device])))
            steps += 1
            if steps > MAX_PACKING_STEPS:
                return False
            memory[device] = have - gpu.vram if gpu.vram else 0
            used[device].add(node)
            if place(index + 1):
                return True
            memory[device] = have
            used[device].remove(node)
        return False

    return place(0)
