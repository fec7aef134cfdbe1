"""Payloads between orchestrators and providers (``spec/orchestration.md`` 3).

Names are the original's, capitalised where it has none of its own; keys of ours that it does not know are marked. The
newest form is written; what is read ignores case and unknown keys.
"""

from __future__ import annotations

import msgspec

from dms.actor.handle import Handle
from dms.ensemble.config import LocationConstraints, VolumeConfig
from dms.resources.capability import HardwareCapability
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import GPU, Resources, SpecConfig

BID_REQUEST_TOPIC = "/nunet/deployment"
BID_REQUEST = "/dms/deployment/request"
BID = "/dms/deployment/bid"
COMMIT = "/dms/deployment/commit"
ALLOCATE = "/dms/deployment/allocate"
REVERT = "/dms/deployment/revert"
REACH = "/dms/deployment/reach"
"""Ours: whether the asked node reaches another one."""
UNREACHED = "unreachable"
"""The error of a :data:`REACH` that tried and could not."""


def ensemble_logs(ensemble: EnsembleID) -> str:
    """Behaviour of the provider's root actor: read an allocation's logs."""
    return f"/dms/ensemble/{ensemble}/allocation/logs"


def ensemble_shutdown(ensemble: EnsembleID) -> str:
    """Behaviour of the provider's root actor: end one allocation."""
    return f"/dms/ensemble/{ensemble}/allocation/shutdown"


def task_termination(ensemble: EnsembleID) -> str:
    """Behaviour of the orchestrator: an allocation ended."""
    return f"/dms/orchestrator/{ensemble}/task-termination"


def allocation_liveness(ensemble: EnsembleID) -> str:
    """Behaviour of the orchestrator: an allocation lives."""
    return f"/dms/orchestrator/{ensemble}/allocation/liveness"


def allocation_status(ensemble: EnsembleID) -> str:
    """Behaviour of the orchestrator: an allocation changed its state."""
    return f"/dms/orchestrator/{ensemble}/allocation/status"


# bids ----------------------------------------------------------------------------------------------------------------


class PublicPorts(Wire):
    """Ports that a node needs: given numbers, and how many more of the provider's choice."""

    static: tuple[int, ...] | None = msgspec.field(name="Static", default=())
    dynamic: int = msgspec.field(name="Dynamic", default=0)


class GeneralRequirements(Wire):
    """What a provider must permit."""

    privileged_docker: bool = msgspec.field(name="PrivilegedDocker", default=False)


class NodeRequest(Wire):
    """What one ensemble node needs; resources are the sum over its allocations."""

    node_id: str = msgspec.field(name="NodeID")
    executors: tuple[str, ...] | None = msgspec.field(name="Executors", default=())
    resources: Resources = msgspec.field(name="Resources", default_factory=Resources)
    location: LocationConstraints = msgspec.field(name="Location", default_factory=LocationConstraints)
    public_ports: PublicPorts = msgspec.field(name="PublicPorts", default_factory=PublicPorts)
    general: GeneralRequirements = msgspec.field(name="GeneralRequirements", default_factory=GeneralRequirements)
    contracts: dict[str, object] = msgspec.field(name="Contracts", default_factory=dict)
    allocations: dict[str, Resources] | None = msgspec.field(name="Allocations", default_factory=dict)
    """Ours, where graphics processors are wanted: what each allocation wants, since several may share one."""
    capability: HardwareCapability | None = msgspec.field(name="Capability", default=None)
    """Ours: what else the machine must have or be; what is empty asks for nothing."""
    nodes: tuple[str, ...] | None = msgspec.field(name="Nodes", default=())
    """Ours: further nodes that want just the same, as :func:`dms.orchestrator.bidding.node_names.compact` writes them."""
    needs_network: bool = msgspec.field(name="NeedsNetwork", default=False)
    """Ours: only where allocations get addresses of their own in the private network."""


class VersionedNodeRequest(Wire):
    """The version envelope of a node request."""

    v1: NodeRequest = msgspec.field(name="V1")


class Sampling(Wire):
    """Who answers and when (:mod:`dms.orchestrator.bidding.sampling`): so many bidders are wanted of so many peers, 0 for all of
    them; how often it was asked before; over which time answers are spread."""

    target: int = msgspec.field(name="Target", default=0)
    size: int = msgspec.field(name="Size", default=0)
    stage: int = msgspec.field(name="Stage", default=0)
    jitter_ms: int = msgspec.field(name="JitterMs", default=0)


class BidRequest(Wire, kw_only=True):
    """Asks for bids for the unassigned nodes of one ensemble; each round has its own nonce."""

    id: EnsembleID = msgspec.field(name="ID")
    nonce: str = msgspec.field(name="Nonce", default="")
    request: tuple[VersionedNodeRequest, ...] | None = msgspec.field(name="Request")
    peer_exclusion: tuple[PeerID, ...] | None = msgspec.field(name="PeerExclusion", default=())
    wants_reasons: bool = msgspec.field(name="WantsReasons", default=False)
    """Ours: whoever does not bid may say why (:mod:`dms.orchestrator.bidding.refusals`)."""
    is_dry_run: bool = msgspec.field(name="DryRun", default=False)
    """Ours: only asked to see who would bid; nothing will be committed."""
    sampling: Sampling | None = msgspec.field(name="Sampling", default=None)
    """Ours. Whoever sends it understands one bid for several nodes."""


# commit, allocate, revert --------------------------------------------------------------------------------------------


class CommitResources(Resources):
    """Resources reserved for one allocation."""

    allocation_id: str = msgspec.field(name="allocationID", default="")


class CommitRequest(Wire):
    """Reserve for one allocation. ``AllocationName`` holds the full allocation id; a public port below 1 is dynamic."""

    ensemble_id: EnsembleID = msgspec.field(name="EnsembleID")
    allocation_id: str = msgspec.field(name="AllocationName")
    node_id: str = msgspec.field(name="NodeID")
    resources: CommitResources = msgspec.field(name="Resources")
    port_mapping: dict[str, int] = msgspec.field(name="PortMapping", default_factory=dict)
    dynamic_ports: tuple[int, ...] = msgspec.field(name="DynamicPorts", default=())
    """Ours: private ports whose public port the provider chooses."""
    beside: dict[str, tuple[GPU, ...]] = msgspec.field(name="Beside", default_factory=dict)
    """Ours: the GPUs that other allocations of the ensemble, by their ids, are to get on this machine, so that room is left
    for them."""


class CommitReply(Wire):
    """Whether it is reserved; ours: until when, and the public → private ports that were chosen."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")
    port_mapping: dict[str, int] = msgspec.field(name="PortMapping", default_factory=dict)
    expiry_ns: int = msgspec.field(name="Expiry", default=0)


class AllocationOrder(Wire):
    """One allocation as the provider must make it. ``ProvisionOrder`` is ours: maps have no order."""

    type: str = msgspec.field(name="Type", default="")
    executor: str = msgspec.field(name="Executor", default="")
    resources: Resources = msgspec.field(name="Resources", default_factory=Resources)
    execution: SpecConfig = msgspec.field(name="Execution", default_factory=SpecConfig)
    provision_scripts: dict[str, bytes] = msgspec.field(name="ProvisionScripts", default_factory=dict)
    provision_order: tuple[str, ...] = msgspec.field(name="ProvisionOrder", default=())
    volumes: tuple[VolumeConfig, ...] = msgspec.field(name="Volume", default=())
    recoverable: bool = msgspec.field(name="Recoverable", default=False)
    """Ours: when it fails, keep its place for a while, as it may be restarted."""
    udp_ports: tuple[str, ...] = msgspec.field(name="UDPPorts", default=())
    """Ours: which of its public ports are for UDP, the others being for TCP."""
    standby: bool = msgspec.field(name="Standby", default=False)
    """Ours: it waits, however long, until its primary fails."""
    needs_network: bool = msgspec.field(name="NeedsNetwork", default=False)
    """Ours: it must not run without an address of its own in the private network."""


class AllocateRequest(Wire):
    """Turn the reservations of one node into allocations."""

    ensemble_id: EnsembleID = msgspec.field(name="EnsembleID")
    node_id: str = msgspec.field(name="NodeID")
    allocations: dict[str, AllocationOrder] = msgspec.field(name="Allocations", default_factory=dict)


class AllocateReply(Wire):
    """The handles of the new allocation actors, by allocation id."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")
    allocations: dict[str, Handle] = msgspec.field(name="Allocations", default_factory=dict)


class RevertRequest(Wire):
    """Give back whatever was reserved or allocated; idempotent."""

    ensemble_id: EnsembleID = msgspec.field(name="EnsembleID")
    allocation_ids: tuple[str, ...] | None = msgspec.field(name="AllocsByName", default=())


class Reply(Wire):
    """The plain answer of most behaviours."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")


class ReachRequest(Wire):
    """Ours: which peer."""

    peer: PeerID = msgspec.field(name="Peer")


class ShutdownAllocationRequest(Wire):
    """End one allocation and free what it holds."""

    allocation_id: str = msgspec.field(name="AllocationID")


class AllocationLogsRequest(Wire):
    """A piece of a log. Without ``stream`` the end of both logs comes back whole (``spec/orchestration.md`` 6.6).

    Ours: an ``offset`` below 0 counts from the end; ``since_ms`` (UNIX) skips what is older, roughly.
    """

    allocation: str = msgspec.field(name="AllocName")
    stream: str = ""
    ack: int = 0
    offset: int = 0
    max_bytes: int = 0
    since_ms: int = 0


class AllocationLogsReply(Wire):
    """Either ``Stdout`` and ``Stderr``, or the bytes of one stream from ``offset``; ``eof`` when no more will come.

    An ``offset`` beyond what was asked for: the provider did not keep what lies between.
    """

    stdout: bytes = msgspec.field(name="Stdout", default=b"")
    stderr: bytes = msgspec.field(name="Stderr", default=b"")
    error: str = msgspec.field(name="Error", default="")
    offset: int = 0
    next_offset: int = 0
    total_size: int = 0
    eof: bool = False
    data: bytes = b""


# what providers push -------------------------------------------------------------------------------------------------


class EndError(Wire):
    """Why an allocation did not end well; ``reason`` is ours: a code of ``dms.executor.protocol.EndReason``, or
    ``outputs_lost``."""

    err: str = ""
    exit_code: int = 0
    killed: bool = False
    reason: str = ""


class TaskTermination(Wire):
    """An allocation ended. The logs are fetched in pieces; ``stdout`` and ``stderr`` may stay empty. ``execution`` is ours: which
    one it was, from 1."""

    allocation_id: str
    status: str
    error: EndError = msgspec.field(default_factory=EndError)
    stdout: bytes = b""
    stderr: bytes = b""
    execution: int = 0


class ResourceUsage(Wire):
    """What an allocation uses now."""

    cpu_usage_percent: float = 0.0
    memory_used_bytes: int = 0
    memory_limit_bytes: int = 0
    network_rx_bytes: int = 0
    network_tx_bytes: int = 0


class Health(Wire, kw_only=True):
    """The last health check; ``check_type`` is ``none``, ``self`` or ``executor``."""

    healthy: bool
    last_check_time: int = 0
    message: str = ""
    check_type: str


class Liveness(Wire):
    """A sign of life; ``timestamp`` in UNIX nanoseconds."""

    allocation_id: str
    status: str
    timestamp: int
    sequence_number: int
    health_check_enabled: bool = False
    health: Health = msgspec.field(default_factory=lambda: Health(healthy=True, check_type="none"))
    resource_usage: ResourceUsage = msgspec.field(default_factory=ResourceUsage)
    version: str = "0.1"
    network_problem: str = ""
    """Ours: why it has no address of its own in the private network, where it should have one."""
    progress: str = ""
    """Ours: what is done that it waits for, such as an image that is pulled, and how far that is."""


class StatusChange(Wire):
    """An allocation went from one state to another."""

    allocation_id: str
    old_status: str
    new_status: str
    timestamp: int
    reason: str = ""
