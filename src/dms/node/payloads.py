"""Payloads of what anybody may ask a node, and of the behaviours about deployments (``spec/orchestration.md`` 2).

Keys are the original's; ours are marked.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dms.allocation.messages import Stats
from dms.node.nearness_payloads import PeerChoice
from dms.orchestrator.messages import Health, ResourceUsage
from dms.subnet.messages import NetworkReport
from dms.types.gojson import Wire
from dms.types.ids import PeerID
from dms.types.resources import Resources

Nil = dict[str, Any] | None
"""A request without content; whatever is sent instead is ignored."""


class Hello(Wire):
    """Who answers."""

    did: str = msgspec.field(name="DID")


class PublicStatus(Wire):
    """Whether the node offers resources, and what it has."""

    status: str = msgspec.field(name="Status")
    resources: Resources = msgspec.field(name="Resources")


class NewDeployment(Wire):
    """An ensemble to deploy; of any era, so it is decoded apart (:func:`dms.ensemble.arrival.decode_ensemble`)."""

    ensemble: Any = msgspec.field(name="Ensemble")
    queue_timeout_ms: int = msgspec.field(name="QueueTimeoutMS", default=0)
    """Ours: how long it may wait for capacity."""
    run_for_ms: int = msgspec.field(name="RunForMS", default=0)
    """Ours: it ends so long after it first ran."""
    peers: tuple[str, ...] | None = msgspec.field(name="Peers", default=())
    """Ours: who is asked for bids; everybody, if nobody is named."""
    choice: PeerChoice | None = msgspec.field(name="Choice", default=None)
    """Ours: which of the connected peers are asked, or of those named."""


class NewDeploymentReply(Wire):
    """``OK`` and the id, or ``ERROR`` and why."""

    status: str = msgspec.field(name="Status")
    ensemble_id: str = msgspec.field(name="EnsembleID")
    error: str = msgspec.field(name="Error", default="")
    hint: str = msgspec.field(name="Hint", default="")


class ListRequest(Wire):
    """Which deployments; times RFC 3339 or ages, states by name or number, ``sort_by`` a field, ``-`` in front for
    descending."""

    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    limit: int = 0
    offset: int = 0
    status: tuple[str, ...] | None = ()
    created_after: str = ""
    created_before: str = ""
    updated_after: str = ""
    updated_before: str = ""
    sort_by: str = ""


class ListedDeployment(Wire):
    """One deployment; times RFC 3339, empty while there is none."""

    orchestrator_id: str
    status: str
    created_at: str
    updated_at: str
    completed_at: str
    metadata: dict[str, str]
    error: str = ""
    allocations: int = 0
    """Ours: how many there are, and how many run; the version of the ensemble that is in force."""
    running: int = 0
    version: int = 0


class ListReply(Wire):
    """A page of deployments."""

    deployments: tuple[ListedDeployment, ...]
    total: int
    has_more: bool
    next_offset: int
    error: str = ""


class DeploymentRequest(Wire):
    """One deployment. ``EnsembleID`` is what some behaviours of the original call it."""

    id: str = ""
    ensemble_id: str = msgspec.field(name="EnsembleID", default="")
    orchestrator_id: str = ""
    include_usage: bool = False
    include_logs: bool = False
    allocation_names: tuple[str, ...] | None = ()

    @property
    def any_id(self) -> str:
        """The id, whatever it was called."""
        return self.id or self.ensemble_id or self.orchestrator_id


class LogPlace(Wire):
    """Where the logs of an allocation lie on the orchestrator's node, or why they do not."""

    stdout_path: str = ""
    stderr_path: str = ""
    logs_written_to: str = ""
    error: str = ""


class AllocationInfo(Wire):
    """One allocation as the orchestrator knows it; times RFC 3339, but ``timestamp``, that of the last sign of life, in
    UNIX nanoseconds. What stands from ``heartbeat_seq`` on is there where it is known and was asked for."""

    allocation_id: str
    status: str
    node_id: str
    peer: str
    type: str
    error: str = ""
    reason: str = ""
    exit_code: int | None = None
    ports: dict[str, int] = msgspec.field(default_factory=dict)
    started_at: str = ""
    ended_at: str = ""
    dns_name: str = ""
    private_address: str = ""
    """In the private network of its ensemble, where it has one."""
    network_problem: str = ""
    """Why it has none, where it should."""
    restarts: int = 0
    heartbeat_seq: int = 0
    timestamp: int = 0
    has_health_check: bool = False
    health: Health | None = None
    resource_limit: Resources | None = None
    resource_usage: ResourceUsage | None = None
    executor_stats: Stats | None = None
    usage_error: str = ""
    logs: LogPlace | None = None
    udp_ports: tuple[str, ...] = ()
    """Those of ``ports`` that are for UDP, by their public number."""
    progress: str = ""
    """What is done that it waits for, or that waits for it, and how far that is; as it was told last."""


class NetworkReply(Wire):
    """The private network of a deployment as each of its machines sees it, by peer."""

    cidr: str = ""
    names: dict[str, str] = msgspec.field(default_factory=dict)
    """Addresses by name, as planned now."""
    machines: dict[PeerID, NetworkReport] = msgspec.field(default_factory=dict)
    error: str = ""


class StatusReply(Wire):
    """Where a deployment is; allocations by ``<node>.<allocation>``.

    Ours: since when it waits for capacity (``error`` tells why) and until when it may; when it is ended. RFC 3339.
    """

    status: str
    error: str
    allocation_info: dict[str, AllocationInfo] = msgspec.field(default_factory=dict)
    allocation_usage: dict[str, ResourceUsage] = msgspec.field(default_factory=dict)
    queued_since: str = ""
    queued_until: str = ""
    ends_at: str = ""
    version: int = 0
    """Ours: of its ensemble, that is in force."""


class ManifestReply(Wire):
    """What was made of the ensemble."""

    manifest: Any  # the manifest of dms.ensemble, or null
    error: str


class InfoReply(Wire):
    """All that is known of a deployment; times RFC 3339, ``usage`` of all its allocations together. From ``owner`` on: ours."""

    id: str
    status: str
    error: str
    manifest: Any  # as above
    allocations: dict[str, AllocationInfo]
    usage: ResourceUsage | None = None
    owner: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    created_at: str = ""
    updated_at: str = ""
    completed_at: str = ""
    queued_since: str = ""
    queued_until: str = ""
    ends_at: str = ""
    schedule: str = ""
    """Whose run it is."""
    version: int = 0
    """Of its ensemble, that is in force."""


EVENTS_PAGE = 500
"""Events in one reply; a reply that holds so many may not be the last."""


class EventsRequest(Wire):
    """Ours: what happened to a deployment after entry ``after``; waits up to ``wait_ms`` for something new."""

    id: str
    after: int = 0
    wait_ms: int = 0


class DeploymentEvent(Wire):
    """One entry of a deployment's journal; ``at`` in UNIX nanoseconds."""

    seq: int
    at: int
    kind: str
    detail: dict[str, Any]


class EventsReply(Wire):
    """The entries, and where the deployment is now."""

    events: tuple[DeploymentEvent, ...]
    status: str
    error: str


class LogsRequest(Wire):
    """Logs of one allocation. With ``stream`` (ours) a piece comes back; without, files are written on this node.

    An ``offset`` below 0 counts from the end; ``since_ms`` (UNIX) skips what is older, roughly. ``version`` (ours) above 0:
    of what an update took away, of that version; without an allocation the names of all come back.
    """

    ensemble_id: str = msgspec.field(name="EnsembleID")
    allocation: str = msgspec.field(name="AllocationName")
    stream: str = ""
    offset: int = 0
    max_bytes: int = 0
    since_ms: int = 0
    version: int = 0


class LogsReply(Wire):
    """Where the files lie; ours: the bytes of the stream from ``offset``, ``eof`` when no more will come.

    An ``offset`` beyond what was asked for: what lies between was not kept. ``total_size`` counts it too.
    """

    written_to: str = msgspec.field(name="LogsWrittenTo", default="")
    error: str = msgspec.field(name="Error", default="")
    data: bytes = b""
    next_offset: int = 0
    eof: bool = False
    offset: int = 0
    total_size: int = 0
    allocations: tuple[str, ...] = ()


class LogJobRequest(Wire):
    """Fetch logs in the background: once, or for as long as they grow; the interval in nanoseconds."""

    ensemble_id: str = msgspec.field(name="EnsembleID")
    allocation: str = msgspec.field(name="AllocationName")
    follow: bool = msgspec.field(name="Follow", default=False)
    interval_ns: int = msgspec.field(name="Interval", default=0)


class LogJobReply(Wire):
    """The job: ``running``, ``complete``, ``stopped`` or ``failed``, and what it has written where."""

    ok: bool
    error: str = ""
    requester: str = ""
    allocation: str = ""
    directory: str = ""
    status: str = ""
    bytes_written: int = 0
    follow: bool = False
    interval: int = 0


class RestartRequest(Wire):
    """Ours: end these allocations and run them again, where they are; none named: all that run."""

    id: str = ""
    allocation_names: tuple[str, ...] | None = ()


class RestartReply(Wire):
    """Which are being restarted, by ``<node>.<allocation>``."""

    ok: bool
    error: str = ""
    hint: str = ""
    allocations: tuple[str, ...] = ()


class PruneRequest(Wire):
    """Which ended deployments to forget: those before a time or an age (``6s``, ``1d``, RFC 3339, a date), or all."""

    before: str = ""
    all: bool = False
    dry_run: bool = False


class OKReply(Wire):
    """The lower-case plain answer."""

    ok: bool
    error: str


class PruneReply(Wire):
    """Ours: how many were forgotten, or with ``dry_run`` would be."""

    ok: bool
    error: str
    pruned: tuple[str, ...] = ()
