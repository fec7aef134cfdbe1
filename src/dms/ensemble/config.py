"""The canonical description of a job, as it travels (``spec/ensemble.md`` 2).

These structures hold every field of the format, also those that no part acts on yet, so that nothing is lost between
the user and the nodes. Read one that arrived with :func:`~dms.ensemble.arrival.decode_ensemble`, which knows the old
spellings; these types alone know only the present ones (in any case). Members that are empty are not written.
"""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire
from dms.types.ids import PeerID
from dms.types.resources import Location, Resources, SpecConfig

TASK = "task"
"""Ends by itself."""
SERVICE = "service"
"""Runs until it is shut down."""
TCP = "tcp"
UDP = "udp"
STARTED = "service_started"
HEALTHY = "service_healthy"
COMPLETED = "service_completed_successfully"
CONDITIONS = (STARTED, HEALTHY, COMPLETED)
"""What must be true of an allocation before another one starts, in the words of Compose."""


class KeyConfig(Wire):
    """A key that is delivered into the sandbox; ``type`` is ``ssh`` or ``gpg``, ``file`` the content of the key."""

    type: str = ""
    file: str = ""
    dest: str = ""


class HealthCheckResponse(Wire):
    """The answer that a healthy workload gives."""

    type: str = ""
    value: str = ""


class HealthCheckManifest(Wire):
    """How to ask a workload whether it is well; ``type`` is ``command``, ``http`` or ``tcp``. Times in nanoseconds; 0 stands
    for the default, of ``failures`` (how many in a row mean that it is not) too."""

    type: str = ""
    exec: tuple[str, ...] = ()
    endpoint: str = ""
    response: HealthCheckResponse | None = None
    interval: int = 0
    timeout: int = 0
    start_delay: int = 0
    failures: int = 0


class VolumeConfig(Wire):
    """Storage that a workload sees at ``mount_destination``: ``local``, ``glusterfs``, ``s3``, ``http`` or ``ipfs``."""

    type: str = ""
    mount_destination: str = ""
    read_only: bool = False
    name: str = ""
    src: str = ""
    servers: tuple[str, ...] = ()
    client_private_key: str = ""
    client_pem: str = ""
    client_ca: str = ""
    params: dict[str, object] = msgspec.field(default_factory=dict)
    """Of the storage provider: where a volume of type ``s3``, ``http`` or ``ipfs`` is downloaded from."""
    upload: SpecConfig | None = None
    """Where the content goes when the workload has ended."""


class Dependency(Wire):
    """Another allocation, and what must be true of it before this one starts."""

    allocation: str
    condition: str


class AllocationConfig(Wire):
    """One workload: what runs, with what, and how it is prepared, watched and recovered."""

    type: str
    executor: str
    resources: Resources
    execution: SpecConfig
    dns_name: str = ""
    keys: tuple[KeyConfig, ...] = ()
    provision: tuple[str, ...] = ()
    """Names in the scripts of the ensemble, in the order in which they run."""
    healthcheck: HealthCheckManifest | None = None
    volume: tuple[VolumeConfig, ...] = ()
    failure_recovery: str = ""
    depends_on: tuple[str | Dependency, ...] = ()
    """Allocations, of any node, that start before; a name alone: they run, and are well if they have a health check."""


class PortConfig(Wire):
    """A port of the provider that leads to a port of an allocation; ``public`` 0 means that the provider chooses."""

    public: int = 0
    private: int = 0
    allocation: str = ""
    protocol: str = ""
    """``tcp`` (when empty) or ``udp``."""


class LocationConstraints(Wire):
    """Where a node may be: some ``accept`` entry must match if there is any, no ``reject`` entry may."""

    accept: tuple[Location, ...] = ()
    reject: tuple[Location, ...] = ()


class Requirements(Wire):
    """What a machine must have or accept beside amounts, in the words of :mod:`dms.resources.declared`; hours: how long the
    node runs at most."""

    libraries: tuple[str, ...] = ()
    prices: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()
    max_hours: int = 0


class NodeConfig(Wire):
    """A place on one machine and the allocations that live there."""

    allocations: tuple[str, ...]
    ports: tuple[PortConfig, ...] = ()
    location: LocationConstraints | None = None
    peer: PeerID = PeerID("")
    """Pins the node to one machine; empty for any."""
    redundancy: int = 0
    failure_recovery: str = ""
    count: int = 0
    """More than 0: a group of so many equal nodes (:mod:`~dms.ensemble.groups`); what is expanded has none."""
    requires: Requirements | None = None


class EdgeConfig(Wire):
    """A bound on a connection: round trip at most ``rtt`` milliseconds, bandwidth at least ``bw`` bits per second."""

    s: str
    t: str
    rtt: int = 0
    bw: int = 0
    shape: str = ""
    """Between groups: which members are meant, ``all`` (when empty), ``paired`` or ``ring``."""


class SupervisorConfig(Wire):
    """Who is restarted with whom; ``strategy`` is ``OneForOne``, ``AllForOne`` or ``RestForOne``."""

    strategy: str = ""
    allocations: tuple[str, ...] = ()
    children: tuple[SupervisorConfig, ...] = ()


class SubnetConfig(Wire):
    """The private network; ``join``: the orchestrator's own node becomes a member; ``required``: no allocation runs where it
    gets no address of its own."""

    join: bool = False
    required: bool = False


class ContractConfig(Wire):
    """A contract under which the job runs, by the DIDs of the contract and its host."""

    did: str
    host: str
    provider: str = ""
    requestor: str = ""


class EnsembleConfigV1(Wire):
    """The whole job."""

    allocations: dict[str, AllocationConfig]
    nodes: dict[str, NodeConfig]
    edges: tuple[EdgeConfig, ...] = ()
    supervisor: SupervisorConfig | None = None
    keys: dict[str, str] = msgspec.field(default_factory=dict)
    scripts: dict[str, bytes] = msgspec.field(default_factory=dict)
    escalation_strategy: str = ""
    subnet: SubnetConfig | None = None
    exclude_peers: tuple[PeerID, ...] = ()
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    contracts: dict[str, ContractConfig] = msgspec.field(default_factory=dict)


class EnsembleConfig(Wire):
    """The version envelope; ``v1`` is its only member."""

    v1: EnsembleConfigV1
