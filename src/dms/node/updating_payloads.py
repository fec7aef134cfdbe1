"""Payloads of ``/dms/node/deployment/update``, ``scale``, ``revert`` and ``versions``."""

from __future__ import annotations

from typing import Any

import msgspec

from dms.ensemble.config import EnsembleConfig
from dms.node.explaining_payloads import PlanReply
from dms.types.gojson import Wire

DEFAULT_HEALTHY_MS = 5_000


class UpdateOptions(Wire):
    """How an update shall go; all of it is ours. ``Batch``: nodes at a time, 0 for all; ``HealthyForMS``: how long they must
    be well before what they replace ends; ``NoGap``: refuse what cannot run beside what it replaces; ``Expect``: the version
    that must be in force, 0 for any; ``Request``: a name, under which the same request again is no second one.
    """

    batch: int = msgspec.field(name="Batch", default=0)
    healthy_for_ms: int = msgspec.field(name="HealthyForMS", default=DEFAULT_HEALTHY_MS)
    queue_timeout_ms: int = msgspec.field(name="QueueTimeoutMS", default=0)
    no_gap: bool = msgspec.field(name="NoGap", default=False)
    expect: int = msgspec.field(name="Expect", default=0)
    request: str = msgspec.field(name="Request", default="")
    dry_run: bool = msgspec.field(name="DryRun", default=False)
    """Only tell what would become of it."""


class UpdateRequest(UpdateOptions):
    """The deployment and its new ensemble, which may be of any era."""

    ensemble_id: str = msgspec.field(name="EnsembleID", default="")
    ensemble: Any = msgspec.field(name="Ensemble", default=None)  # decoded apart


class ScaleRequest(UpdateOptions):
    """How many members groups shall have."""

    id: str = msgspec.field(name="ID", default="")
    counts: dict[str, int] = msgspec.field(name="Counts", default_factory=dict)


class RevertRequest(UpdateOptions):
    """The version to return to; 0: the one that was in force before the present one."""

    id: str = msgspec.field(name="ID", default="")
    to: int = msgspec.field(name="To", default=0)


class UpdateReply(Wire):
    """Whether it is under way. Ours: as which version, what that changes, and of a dry run the plan; ``Changed`` is false
    where nothing would be different, and nothing was done."""

    ok: bool = msgspec.field(name="OK", default=False)
    error: str = msgspec.field(name="Error", default="")
    hint: str = msgspec.field(name="Hint", default="")
    version: int = msgspec.field(name="Version", default=0)
    what: str = msgspec.field(name="What", default="")
    changed: bool = msgspec.field(name="Changed", default=False)
    stops: dict[str, str] = msgspec.field(name="Stops", default_factory=dict)
    """Nodes that end before their successors start, and why."""
    plan: PlanReply | None = msgspec.field(name="Plan", default=None)


class VersionsRequest(Wire):
    """Which deployment; of ``version``: which one."""

    id: str = ""
    number: int = 0


class VersionInfo(Wire):
    """A line of the history; times RFC 3339, empty while there is none."""

    number: int
    made_at: str
    by: str
    what: str
    outcome: str
    error: str = ""
    ended_at: str = ""
    copy_of: int = 0


class VersionsReply(Wire):
    """The versions that are kept, oldest first; and how far an update is that is under way."""

    id: str = ""
    error: str = ""
    version: int = 0
    """The one in force."""
    versions: tuple[VersionInfo, ...] = ()
    stage: str = ""
    reverts: bool = False
    why: str = ""


class VersionReply(Wire):
    """The ensemble of one version, as its user wrote it."""

    ensemble: EnsembleConfig | None = None
    error: str = ""
