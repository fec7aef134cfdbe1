"""What a deployment is told and what it asks for: the events that its machine takes, the instructions that it gives.

Events are written to the journal; instructions are not, since what is to be done follows from the state
(:func:`dms.orchestrator.lifecycle.machine.resume`).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from dms.actor.handle import Handle
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.bidding.measured import MeasuredPair
from dms.orchestrator.updating.state import Moves, UpdateTerms
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, PeerID

# events --------------------------------------------------------------------------------------------------------------


class Begun(Wire, tag="begun", tag_field="event"):
    """The deployment was accepted."""

    at_ns: int


class BidsCollected(Wire, tag="bids_collected", tag_field="event"):
    """A round is over; ``gives_way``: others who wait for capacity longer shall ask before these bids are taken."""

    at_ns: int
    round: int
    bids: tuple[Bid, ...]
    gives_way: bool = False


class EdgesMeasured(Wire, tag="edges_measured", tag_field="event"):
    """Connections between peers were measured, or could not be."""

    at_ns: int
    round: int
    pairs: tuple[MeasuredPair, ...]


class Committed(Wire):
    """One allocation's reservation, or why there is none."""

    ok: bool
    error: str = ""
    ports: dict[str, int] = msgspec.field(default_factory=dict)


class CommitsDone(Wire, tag="commits_done", tag_field="event"):
    """All providers answered, or did not in time; by ``<node>.<allocation>``."""

    at_ns: int
    results: dict[str, Committed]


class Allocated(Wire):
    """One node's allocations, or why there are none; handles by allocation id."""

    ok: bool
    error: str = ""
    handles: dict[str, Handle] = msgspec.field(default_factory=dict)


class AllocatesDone(Wire, tag="allocates_done", tag_field="event"):
    """The second phase is over; by node. ``network``: the CIDR that the ensemble shall have, if there is one."""

    at_ns: int
    results: dict[str, Allocated]
    network: str = ""


class Started(Wire):
    """Whether one allocation runs; ``is_hopeless``: it would fail on every machine."""

    ok: bool
    error: str = ""
    is_hopeless: bool = False


class StartsDone(Wire, tag="starts_done", tag_field="event"):
    """All allocations were told to start, or the first failed; by ``<node>.<allocation>``."""

    at_ns: int
    results: dict[str, Started]


class AllocationEnded(Wire, tag="allocation_ended", tag_field="event"):
    """A provider reports the end of an allocation, or nothing was heard of it for too long; ``execution``: which one, where
    the provider says so."""

    at_ns: int
    key: str
    status: str
    error: str = ""
    reason: str = ""
    exit_code: int | None = None
    execution: int = 0
    id: AllocationID = AllocationID("")
    """Which one it is about, since another may have its name by now; empty: whichever has."""


class HealthChanged(Wire, tag="health_changed", tag_field="event"):
    """A check found an allocation well or not, other than before; ``is_failure``: so often in a row that it has failed."""

    at_ns: int
    key: str
    problem: str = ""
    is_failure: bool = False
    id: AllocationID = AllocationID("")
    """As above."""


class Restarted(Wire):
    """What became of one restart. ``execution``: the one that was asked for, or a later one, if there is one;
    ``is_unreached``: nobody knows; ``is_gone``: the provider has nothing to restart."""

    ok: bool
    error: str = ""
    execution: int = 0
    is_unreached: bool = False
    is_gone: bool = False


class RestartsDone(Wire, tag="restarts_done", tag_field="event"):
    """Allocations were restarted, or could not be."""

    at_ns: int
    results: dict[str, Restarted]


class PeerLost(Wire, tag="peer_lost", tag_field="event"):
    """A provider is dead, as far as anybody can tell."""

    at_ns: int
    peer: PeerID
    why: str = ""


class NodeBids(Wire, tag="node_bids", tag_field="event"):
    """Bids for a node that is being placed."""

    at_ns: int
    node: str
    round: int
    bids: tuple[Bid, ...]


class NodeMeasured(Wire, tag="node_measured", tag_field="event"):
    """Connections between the machines that bid for such a node and those that stay."""

    at_ns: int
    node: str
    round: int
    pairs: tuple[MeasuredPair, ...]


class NodeCommitted(Wire, tag="node_committed", tag_field="event"):
    """The chosen provider reserved for a node that is being placed, or did not."""

    at_ns: int
    node: str
    round: int
    results: dict[str, Committed]


class NodeAllocated(Wire, tag="node_allocated", tag_field="event"):
    """The second phase of such a node."""

    at_ns: int
    node: str
    round: int
    result: Allocated


class NodeStarted(Wire, tag="node_started", tag_field="event"):
    """And its start."""

    at_ns: int
    node: str
    round: int
    results: dict[str, Started]


class LeftEnded(Wire, tag="left_ended", tag_field="event"):
    """A peer has nothing any more of these allocations."""

    at_ns: int
    peer: PeerID
    ids: tuple[AllocationID, ...]


class RestartRequested(Wire, tag="restart_requested", tag_field="event"):
    """The user wants these to be ended and run again."""

    at_ns: int
    keys: tuple[str, ...]


class UpdateRequested(Wire, tag="update_requested", tag_field="event"):
    """A user wants another version; its ensemble is written to disk along with this. ``copy_of``: it is an earlier one."""

    at_ns: int
    deadline_ns: int
    moves: Moves
    terms: UpdateTerms
    by: str = ""
    request: str = ""
    what: str = ""
    copy_of: int = 0
    base: int = 0
    """The version for which the moves were worked out."""


class UpdateCancelled(Wire, tag="update_cancelled", tag_field="event"):
    """A user does not want the update any more."""

    at_ns: int
    by: str = ""


class UpdateBids(Wire, tag="update_bids", tag_field="event"):
    """Bids for the nodes that are being added or replaced."""

    at_ns: int
    round: int
    bids: tuple[Bid, ...]


class UpdateMeasured(Wire, tag="update_measured", tag_field="event"):
    """Connections of their peers, to each other and to those that stay."""

    at_ns: int
    round: int
    pairs: tuple[MeasuredPair, ...]


class UpdateCommitted(Wire, tag="update_committed", tag_field="event"):
    """Whether their peers reserved for them; by ``<node>.<allocation>``."""

    at_ns: int
    round: int
    results: dict[str, Committed]


class UpdateAllocated(Wire, tag="update_allocated", tag_field="event"):
    """The second phase; by node."""

    at_ns: int
    round: int
    results: dict[str, Allocated]


class UpdateStarted(Wire, tag="update_started", tag_field="event"):
    """And their start."""

    at_ns: int
    round: int
    results: dict[str, Started]


class UpdateDue(Wire, tag="update_due", tag_field="event"):
    """It is time to look at the update again: something was to be well, or to have ended, by now."""

    at_ns: int
    round: int


class StandbysWanted(Wire, tag="standbys_wanted", tag_field="event"):
    """The ensemble may want standbys that there are not."""

    at_ns: int


class ShutdownRequested(Wire, tag="shutdown_requested", tag_field="event"):
    """The user wants it to end; or its time is over, which ``reason`` tells then."""

    at_ns: int
    reason: str = ""


class ShutdownDone(Wire, tag="shutdown_done", tag_field="event"):
    """Providers were told; ``unreached`` could not be. ``lost``: whose outputs could not be saved, and why."""

    at_ns: int
    unreached: tuple[str, ...] = ()
    lost: dict[str, str] = msgspec.field(default_factory=dict)


class Reverted(Wire, tag="reverted", tag_field="event"):
    """These peers have given everything back."""

    at_ns: int
    peers: tuple[str, ...]


class GivenUp(Wire, tag="given_up", tag_field="event"):
    """What drives the deployment failed too often, for a reason that nobody foresaw."""

    at_ns: int
    error: str


class Settled(Wire, tag="settled", tag_field="event"):
    """Nothing is left to do for an ended deployment."""

    at_ns: int


UpdateEvent = (
    UpdateRequested
    | UpdateCancelled
    | UpdateBids
    | UpdateMeasured
    | UpdateCommitted
    | UpdateAllocated
    | UpdateStarted
    | UpdateDue
    | StandbysWanted
)

Event = (
    Begun
    | BidsCollected
    | EdgesMeasured
    | CommitsDone
    | AllocatesDone
    | StartsDone
    | AllocationEnded
    | HealthChanged
    | RestartsDone
    | PeerLost
    | NodeBids
    | NodeMeasured
    | NodeCommitted
    | NodeAllocated
    | NodeStarted
    | LeftEnded
    | RestartRequested
    | UpdateEvent
    | ShutdownRequested
    | ShutdownDone
    | Reverted
    | GivenUp
    | Settled
)


# instructions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AwaitTurn:
    """Wait until it is this deployment's turn to ask (:mod:`dms.orchestrator.scheduling.queueing`)."""


@dataclass(frozen=True, slots=True)
class CollectBids:
    """Ask for bids and answer with :class:`BidsCollected`."""

    round: int


@dataclass(frozen=True, slots=True)
class MeasureEdges:
    """Measure between these pairs of peers and answer with :class:`EdgesMeasured`."""

    round: int
    pairs: tuple[tuple[PeerID, PeerID], ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Reserve at all chosen peers and answer with :class:`CommitsDone`."""


@dataclass(frozen=True, slots=True)
class Allocate:
    """Turn reservations into allocations and answer with :class:`AllocatesDone`."""


@dataclass(frozen=True, slots=True)
class StartAll:
    """Start what does not run, layer by layer, and answer with :class:`StartsDone`."""


@dataclass(frozen=True, slots=True)
class Revert:
    """Have the peers of these bids give back everything, and answer with :class:`Reverted`."""

    bids: tuple[Bid, ...]


@dataclass(frozen=True, slots=True)
class Supervise:
    """Watch for signs of life."""


@dataclass(frozen=True, slots=True)
class FetchLogs:
    """Copy an ended allocation's logs to this node."""

    key: str


@dataclass(frozen=True, slots=True)
class EndLost:
    """An allocation counts as lost: should it still run, its provider shall end it."""

    key: str


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart these at the moment that is due, layer by layer, and answer with :class:`RestartsDone`."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Carry out the stage that the placement of this node is in, and answer with its event."""

    node: str


@dataclass(frozen=True, slots=True)
class CarryUpdate:
    """Carry out the stage that the update is in, and answer with its event."""


@dataclass(frozen=True, slots=True)
class PlaceStandbys:
    """Look whether standbys are missing, and answer with :class:`StandbysWanted`."""


@dataclass(frozen=True, slots=True)
class EndLeft:
    """Tell peers what they shall not have any more, and answer with :class:`LeftEnded` for each that answers."""


@dataclass(frozen=True, slots=True)
class ShutdownAll:
    """End everything that has not ended and answer with :class:`ShutdownDone`."""


@dataclass(frozen=True, slots=True)
class Finish:
    """It has ended: fetch the logs, revert what is owed, and answer with :class:`Settled`."""


Instruction = (
    AwaitTurn
    | CollectBids
    | MeasureEdges
    | Commit
    | Allocate
    | StartAll
    | Revert
    | Supervise
    | FetchLogs
    | EndLost
    | Restart
    | Place
    | CarryUpdate
    | PlaceStandbys
    | EndLeft
    | ShutdownAll
    | Finish
)
