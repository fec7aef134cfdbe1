"""What is known of one deployment: a value that is stored whole with every step (``spec/orchestration.md`` 5.2, 7.1)."""

from __future__ import annotations

from enum import Enum

import msgspec

from dms.actor.handle import Handle
from dms.allocation.machine import AllocationState
from dms.ensemble.ids import allocation_key
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.measured import MeasuredPair
from dms.orchestrator.scheduling.terms import Terms
from dms.orchestrator.updating.state import FIRST_VERSION, Update, Version
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, PeerID


class Phase(Enum):
    """Where a deployment is; texts as on the wire."""

    PREPARING = "Preparing"
    """Collecting bids."""
    GENERATING = "Generating"
    """Searching an assignment."""
    COMMITTING = "Committing"
    """Reserving at the chosen peers."""
    PROVISIONING = "Provisioning"
    """Starting the allocations."""
    RUNNING = "Running"
    FAILED = "Failed"
    SHUTTING_DOWN = "ShuttingDown"
    COMPLETED = "Completed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (Phase.FAILED, Phase.COMPLETED)

    @property
    def is_creating(self) -> bool:
        """Whether it is on its way to running."""
        return self in (Phase.PREPARING, Phase.GENERATING, Phase.COMMITTING, Phase.PROVISIONING)


PHASE_NUMBERS = {phase: number for number, phase in enumerate(Phase)}
"""The original's integers: 0 Preparing … 7 Completed."""


UPDATING = "Updating"
"""What a running deployment says of itself while it becomes another version."""

LOST = "lost"
"""Reason of an end that nobody reported: no sign of life came for too long."""


class AllocationRecord(Wire):
    """One allocation as the orchestrator knows it; ``ports`` are public → private.

    ``id`` is that of its ``key`` unless it was promoted: then it is still that of the standby, as its provider knows it. The
    standby that is placed then has one with a number.
    """

    id: AllocationID
    node_id: str
    name: str
    type: str
    peer: PeerID = PeerID("")
    handle: Handle | None = None
    status: str = AllocationState.PENDING.value
    error: str = ""
    reason: str = ""
    exit_code: int | None = None
    ports: dict[str, int] = msgspec.field(default_factory=dict)
    started_ns: int = 0
    ended_ns: int = 0
    execution: int = 1
    """Which one runs or shall run, from 1; what is told of earlier ones is stale."""
    due_ns: int = 0
    """Above 0: it failed and is being restarted, not before that moment."""
    restarts: int = 0
    health: str = ""
    """``healthy``, ``unhealthy``, or nothing where nobody asked yet."""
    health_problem: str = ""
    standby_for: str = ""
    """Its primary's node, where it only waits to be needed."""

    @property
    def key(self) -> str:
        """Its name in the manifest."""
        return allocation_key(self.node_id, self.name)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return AllocationState(self.status).is_final

    @property
    def is_standby(self) -> bool:
        """Whether it belongs to a standby node."""
        return bool(self.standby_for)


class Stage(Enum):
    """How far a node is that is being placed while the others run."""

    BIDDING = "bidding"
    """From its due moment on bids are collected."""
    CHECKING = "checking"
    """It has a place, where it waited: bids of its machine and of those next to it are collected, to measure between them."""
    MEASURING = "measuring"
    """Its edges to those that stay are being measured."""
    COMMITTING = "committing"
    ALLOCATING = "allocating"
    STARTING = "starting"


class Placement(Wire):
    """A node that is being placed while the others run: because its machine died, or as a standby."""

    stage: Stage = Stage.BIDDING
    round: int = 1
    """Counts the attempts; answers to earlier ones are stale."""
    due_ns: int = 0
    failures: int = 0
    """Attempts that failed in a row."""
    excluded: tuple[PeerID, ...] = ()
    blamed: tuple[PeerID, ...] = ()
    """Who bid and did not keep it; they are asked again once nobody else is left."""
    why: str = ""
    is_standby: bool = False
    heard: tuple[Bid, ...] = ()
    """While edges are measured: the bids that it is about."""
    measured: tuple[MeasuredPair, ...] = ()
    """In this attempt; what was measured once may be different now."""
    measurings: int = 0
    only: PeerID = PeerID("")
    """The one machine where it may be, since its data is there."""


class Left(Wire):
    """An allocation that a peer may still have, though nobody wants it there: it is told until it answers."""

    id: AllocationID
    bid: Bid
    version: int = 0
    """Above 0: an update of the deployment took it away, it was of that version, and its logs are kept."""
    key: str = ""
    """What it was called then."""


class Tries(Wire):
    """How often a rung of recovery was used, and when last."""

    count: int = 0
    last_ns: int = 0


class Network(Wire):
    """The private network: its CIDR, and addresses by the ids of allocations."""

    cidr: str
    addresses: dict[str, str] = msgspec.field(default_factory=dict)


class DeploymentState(Wire):
    """Everything that a restart needs. Times are UNIX nanoseconds; ``deadline_ns`` bounds the creation only."""

    phase: Phase
    deadline_ns: int
    created_ns: int
    owner: str = ""
    """DID of who submitted it; empty: an earlier version did not write it down."""
    terms: Terms = msgspec.field(default_factory=Terms)
    queued_ns: int = 0
    """Above 0: it waits for capacity since then; why is told by ``error``."""
    ends_ns: int = 0
    """Above 0: it is ended then."""
    updated_ns: int = 0
    completed_ns: int = 0
    error: str = ""
    trouble: str = ""
    """The last thing that went wrong at a peer: what a later lack of bids must not hide."""
    round: int = 0
    attempts: int = 0
    """How often provisioning was tried."""
    only_peers: tuple[PeerID, ...] = ()
    """Ask these for bids, and nobody else."""
    heard: tuple[Bid, ...] = ()
    """While edges are measured: the bids that it is about."""
    measurings: int = 0
    """How often edges were measured in this round of bids."""
    measured: tuple[MeasuredPair, ...] = ()
    """What is known of the connections between peers."""
    assignment: dict[str, Bid] = msgspec.field(default_factory=dict)
    owed: tuple[Bid, ...] = ()
    """Of peers that must still be told to give everything back."""
    is_settled: bool = False
    """After the end: whoever had to be told was told, and the logs are here."""
    allocations: dict[str, AllocationRecord] = msgspec.field(default_factory=dict)
    failures: dict[str, int] = msgspec.field(default_factory=dict)
    """Peers that did not do what they bid for, and how often."""
    placements: dict[str, Placement] = msgspec.field(default_factory=dict)
    """By node: what is being placed while the rest runs."""
    left: tuple[Left, ...] = ()
    tries: dict[str, Tries] = msgspec.field(default_factory=dict)
    """By rung of recovery (:mod:`dms.orchestrator.lifecycle.strategies`)."""
    patience_ns: int = 0
    """How long the creation may take when it is deployed anew; 0: as long as the first time."""
    teardown: str = ""
    """Why it ends itself, if it does."""
    network: Network | None = None
    version: int = FIRST_VERSION
    """Of its ensemble: the one that is in force, as a whole or but for an update that is under way."""
    versions: tuple[Version, ...] = ()
    """Its history, oldest first; empty before the first update."""
    update: Update | None = None
    updates: int = 0
    """How many there were, the way back of one counted as another: for names that are used once."""

    @property
    def is_updating(self) -> bool:
        """Whether it becomes another version, or returns to the one before."""
        return self.phase is Phase.RUNNING and self.update is not None

    @property
    def status(self) -> str:
        """Where it is, for people and other programs."""
        return UPDATING if self.is_updating else self.phase.value

    @property
    def excluded(self) -> tuple[PeerID, ...]:
        """Peers not asked again in this deployment."""
        return tuple(PeerID(peer) for peer, times in sorted(self.failures.items()) if times >= MAX_PEER_FAILURES)


MAX_PEER_FAILURES = 2
"""A peer that broke its bid this often is left out; once may be bad luck."""
