"""What happens in one simulated run: plain data, so that it can be printed, kept and made smaller."""

from __future__ import annotations

import re
from typing import Final

import msgspec

HORIZON_S: Final = 240.0
"""Jobs and faults begin within so many seconds; what follows is calm."""
MOVES: Final = ("refuse_commit", "refuse_allocate", "silent_commit", "silent_allocate", "lie", "replay")
FAULTS: Final = (
    "crash",
    "crash_at_step",
    "reboot",
    "partition",
    "cut",
    "loss",
    "slow_disk",
    "clock_jump",
    "oom",
    "vanish",
)
ASKS: Final = ("restart", "exec", "logs", "update", "scale", "revert")
FAR_S: Final = 1.0
"""How much longer than others a message is under way over a far connection."""
GRACE_S: Final = 900.0
"""How long work goes on without its orchestrator, where one vanishes: longer than all else keeps them apart."""
PRICE: Final = 1.0
"""The most that whoever looks at prices pays for an hour."""


CITIES: Final = {
    "Berlin": ("EU", "DE", 52.52, 13.41),
    "Paris": ("EU", "FR", 48.85, 2.35),
    "New York City": ("NA", "US", 40.71, -74.01),
    "Tokyo": ("AS", "JP", 35.69, 139.69),
}
"""Continent, country, degrees north and east."""
FIBRE_KM_PER_S: Final = 200_000.0


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. ``cores`` are what it offers, 0 for one that only orchestrates; ``byzantine`` is one of :data:`MOVES`."""

    name: str
    cores: float = 0.0
    ahead_s: float = 0.0
    disk_pause_s: float = 0.0
    byzantine: str = ""
    start_fails: bool = False
    """Its executor never manages to start anything."""
    price: float = PRICE / 2
    """What it asks for an hour."""
    city: str = ""
    """Where it is, of :data:`CITIES`."""
    says: str = ""
    """Where it says that it is, if that is not true."""


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """The part that starts before, and how far it must be: ``started``, ``healthy`` or ``completed_successfully``."""

    part: str
    condition: str = "started"


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One allocation and what its workload does."""

    name: str
    type: str
    cores: float = 1.0
    duration_s: float | None = None
    exit_code: int = 0
    start_takes_s: float = 0.0
    cancel_takes_s: float = 0.0
    ports: int = 0
    public: int = 0
    """The port of the machine that the first of them is to be; 0: any."""
    recovery: str = ""
    """Its ``failure_recovery``."""
    crashes: int = 0
    """So many executions in a row fail after a while; the next ones do what the rest says."""
    health: str = ""
    """Whether it has a check, and what that says: ``good``, or ``bad`` on its first execution."""
    after: tuple[Dependency, ...] = ()
    update_fails: bool = False
    """What later versions of it run fails soon."""


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """Two nodes of an ensemble between which a round trip must not take longer."""

    s: str
    t: str
    rtt_ms: int


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the user does with a deployment, one of :data:`ASKS`: to a part, or what has to do with one.

    ``amount``: how many cores it is to have from now on, or how many members its group.
    """

    at_s: float
    kind: str
    part: str = ""
    amount: float = 0.0


_NUMBERS: Final = re.compile(r"(-\d{4}|-[gs]\d+)*$")


def plain(name: str) -> str:
    """The name of a node or a part, without its number in a group and that of its version."""
    return _NUMBERS.sub("", name)


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment: ``nodes`` are the parts of each ensemble node, ``pins`` the machine that a node must be on."""

    name: str
    at_s: float
    owner: str
    patience_s: float
    nodes: dict[str, tuple[PartPlan, ...]]
    pins: dict[str, str] = {}
    counts: dict[str, int] = {}
    """The nodes that are groups, and how many members they have at first."""
    shutdown_at_s: float | None = None
    node_recovery: str = ""
    """``failure_recovery`` of its nodes."""
    redundancy: int = 0
    """Standbys of its first node."""
    supervisor: str = ""
    """The strategy of a supervisor over all its services."""
    escalation: str = ""
    edges: tuple[Edge, ...] = ()
    price: float = 0.0
    """The most that an hour may cost; 0: anything."""
    queue_s: float = 0.0
    """How long it may wait for capacity."""
    run_for_s: float = 0.0
    asks: tuple[Ask, ...] = ()
    cron: str = ""
    """It is deployed at these times."""
    overlap: str = "skip"
    missed: str = "once"

    @property
    def parts(self) -> tuple[PartPlan, ...]:
        """Of all its nodes."""
        return tuple(part for parts in self.nodes.values() for part in parts)

    def node_of(self, name: str) -> str:
        """Where a part is."""
        return next(node for node, parts in self.nodes.items() if any(part.name == name for part in parts))

    def key_of(self, name: str) -> str:
        """What a deployment calls a part; of a group the first."""
        node = self.node_of(name)
        return f"{node}-0001.{name}-0001" if node in self.counts else f"{node}.{name}"

    @property
    def may_wander(self) -> bool:
        """Whether what fails may be placed elsewhere, or deployed anew."""
        return bool(self.redundancy or self.escalation or self.node_recovery == "redeploy")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that goes wrong at ``at_s`` for ``for_s``; ``amount`` is what the kind makes of it."""

    at_s: float
    kind: str
    nodes: tuple[str, ...] = ()
    for_s: float = 0.0
    amount: float = 0.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. The seed still decides what is drawn while it runs: delays, losses, the order of tasks."""

    seed: int
    nodes: tuple[NodePlan, ...]
    jobs: tuple[JobPlan, ...]
    faults: tuple[Fault, ...] = ()
    far: tuple[tuple[str, str], ...] = ()
    """Machines between which messages take :data:`FAR_S` longer."""
    delay_s: float = 0.01
    jitter_s: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    has_meshes: bool = False
    """Whether broadcasts go through meshes, by the router of real nodes."""

    @property
    def vanishing(self) -> frozenset[str]:
        """Machines that never come back."""
        return frozenset(name for fault in self.faults if fault.kind == "vanish" for name in fault.nodes)
