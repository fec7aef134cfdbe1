"""What is known of an update that is under way, and of the versions that there were: stored with the deployment.

Times are UNIX nanoseconds. The ensembles themselves are stored beside, by their numbers.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from dms.orchestrator.bidding.bid import Bid
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, EnsembleID, PeerID

FIRST_VERSION = 1
HEALTHY_FOR_NS = 5 * 10**9
"""So long what is new must be well before what it replaces is ended."""
MAX_VERSIONS = 20
"""That are kept of one deployment."""


class UpdateTerms(Wire):
    """How a user wants an update to go.

    ``batch``: how many nodes are replaced or added at a time, 0: all. ``healthy_for_ns``: how long they must be well.
    ``queue_until_ns``: until then it waits for capacity, 0: it does not. ``may_stop``: what cannot run beside what it
    replaces may be started after that was ended.
    """

    batch: int = 0
    healthy_for_ns: int = HEALTHY_FOR_NS
    queue_until_ns: int = 0
    may_stop: bool = True


class Stage(Enum):
    """How far the nodes are that are being added now."""

    STOPPING = "stopping"
    """What they replace is being ended, as both cannot be at once."""
    BIDDING = "bidding"
    MEASURING = "measuring"
    COMMITTING = "committing"
    ALLOCATING = "allocating"
    STARTING = "starting"
    VERIFYING = "verifying"
    """They run; it is watched whether they go on to."""


class Moves(Wire):
    """The nodes that come, are replaced, and go. ``stops``: which of those replaced cannot run beside their successor,
    and why; ``settings``: what else of the ensemble changes."""

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    stops: dict[str, str] = msgspec.field(default_factory=dict)
    settings: tuple[str, ...] = ()


class Update(Wire):
    """An update that is under way; or, with ``is_back``, what is undone of one."""

    version: int
    serial: int
    """Names what is started by it; no two of a deployment have the same, and the way back has one of its own."""
    ensemble: EnsembleID
    begun_ns: int
    deadline_ns: int
    moves: Moves
    terms: UpdateTerms = msgspec.field(default_factory=UpdateTerms)
    request: str = ""
    is_back: bool = False
    why: str = ""
    """Why it is undone; or the last thing that went wrong."""
    is_cancelled: bool = False
    switched: tuple[str, ...] = ()
    """The nodes that are of the new version already."""
    batch: tuple[str, ...] = ()
    """The nodes that are being added or replaced now."""
    stopped: dict[str, PeerID] = msgspec.field(default_factory=dict)
    """Of these: which were ended first, and where they ran."""
    ending: tuple[AllocationID, ...] = ()
    """What of them has not said yet that it has ended."""
    size: int = 0
    """Above 0: more nodes at once found no place beside what runs."""
    stage: Stage = Stage.BIDDING
    round: int = 1
    """Counts the attempts; answers to earlier ones are stale."""
    due_ns: int = 0
    failures: int = 0
    """Attempts for this batch that failed."""
    blamed: tuple[PeerID, ...] = ()
    heard: tuple[Bid, ...] = ()
    """While edges are measured: the bids that it is about."""
    measurings: int = 0
    well_ns: dict[str, int] = msgspec.field(default_factory=dict)
    """Since when what has a health check is well."""

    @property
    def is_asking(self) -> bool:
        """Whether it may wait for its turn to ask for capacity, or has it."""
        return bool(self.terms.queue_until_ns) and self.stage in (Stage.BIDDING, Stage.MEASURING, Stage.COMMITTING)


class Outcome(Enum):
    """What became of a version."""

    PENDING = "pending"
    CURRENT = "current"
    SUPERSEDED = "superseded"
    """It ran, until another took its place."""
    REVERTED = "reverted"
    """It did not come to run, or was undone before it ran everywhere."""
    CANCELLED = "cancelled"
    """The same, as somebody wanted it so."""


class Version(Wire):
    """One version of a deployment's ensemble: a line of its history."""

    number: int
    made_ns: int
    by: str = ""
    """DID of who asked for it."""
    request: str = ""
    what: str = ""
    """What it changes, for people."""
    copy_of: int = 0
    """Above 0: it is that earlier version again."""
    outcome: str = Outcome.PENDING.value
    error: str = ""
    ended_ns: int = 0
    """When it was decided: it became current, or not; or, later, when another took its place."""
