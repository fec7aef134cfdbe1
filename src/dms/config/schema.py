"""The settings: every key, its type, its default and its meaning (``spec/platform.md`` 1.2).

A key is the dotted path of a field: ``rest.port`` is ``Settings.rest.port``. Types are those of :mod:`dms.config.values`.
A key that is declared ``live`` may change while the node runs; the part that it is for must take it up
(:class:`dms.node.live.LiveSettings`), and a test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from dms.config.origin import DEFAULT, Origin
from dms.config.setting import setting
from dms.config.values import (
    MAX_PORT,
    Count,
    CountOrNone,
    DatabaseAddress,
    Directories,
    Directory,
    Duration,
    File,
    Flag,
    HttpAddress,
    Level,
    Multiaddresses,
    NameServers,
    NetworkID,
    Networks,
    Number,
    PeerIDs,
    Port,
    Position,
    Secret,
    Text,
    Texts,
    When,
)

HIDDEN = "[hidden]"
"""What is shown of a secret."""

LISTEN_ADDRESSES = ("/ip4/0.0.0.0/tcp/9000", "/ip4/0.0.0.0/udp/9000/quic-v1")

BOOTSTRAP_PEERS = tuple(
    f"/dnsaddr/bootstrap.p2p.nunet.io/p2p/{peer}"
    for peer in (
        "12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3",
        "12D3KooWJMtMN1mTNRfgMqUygT7eSXamVzc9ihpSjeairm9PebmB",
        "12D3KooWKjSodxxi7UfRHzuk7eGgUF49MoPUCJvtva9K12TqDDsi",
    )
)
"""The public network's bootstrap peers."""

RETIRED_BOOTSTRAP_IDS = (
    "QmQ2irHa8aFTLRhkbkQCRrounE4MbttNp8ki7Nmys4F9NP",
    "Qmf16N2ecJVWufa29XKLNyiBxKWqVPNZXjbL3JisPcGqTw",
    "QmTkWP72uECwCsiiYDpCFeTrVeUM9huGTPsg3m6bHxYQFZ",
)
"""Bootstrap peers of earlier releases; found in a file, they give way to :data:`BOOTSTRAP_PEERS`."""


def _without_retired_peers(value: tuple[str, ...]) -> tuple[str, ...]:
    kept = tuple(peer for peer in value if peer.rpartition("/")[2] not in RETIRED_BOOTSTRAP_IDS)
    return kept if len(kept) == len(value) else tuple(dict.fromkeys(kept + BOOTSTRAP_PEERS))


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def as_dict(self) -> dict[str, Any]:  # JSON
        """The settings as nested JSON values; secrets are hidden."""
        return {name: _shown(getattr(self, name)) for name in type(self).model_fields}


def _shown(value: Any) -> Any:  # JSON
    if isinstance(value, Section):
        return value.as_dict()
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return [_shown(each) for each in value]
    return str(value) if isinstance(value, Path) else value


class General(Section):
    """Who and where this node is."""

    env: Text = setting("production", "name of the environment, such as production")
    user_dir: Directory = setting(Path("~/.nunet"), "keys and capability contexts")
    work_dir: Directory = setting(Path("~/nunet"), "jobs, volumes, deployments, database")
    data_dir: Directory = setting(
        lambda known: Path(known.get("work_dir", "~/nunet")) / "data", "data; lies in work_dir unless set"
    )
    debug: Flag = setting(False, "log everything", live=True)
    host_city: Text = setting("", "where this node says it is: city", live=True)
    host_country: Text = setting("", "where this node says it is: ISO country code", live=True)
    host_continent: Text = setting("", "where this node says it is: continent code", live=True)
    host_position: Position = setting(
        "",
        "where this node says it is: degrees north and east, such as 52.52, 13.40; more exact than its city",
        live=True,
    )
    port_available_range_from: Number = setting(16384, "first host port for jobs", ge=1, le=MAX_PORT)
    port_available_range_to: Number = setting(
        MAX_PORT + 1, "end of the host ports for jobs, itself not offered", ge=2, le=MAX_PORT + 1
    )

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.port_available_range_from >= self.port_available_range_to:
            raise ValueError("port_available_range_from must be below port_available_range_to")
        return self


class Rest(Section):
    """The local API."""

    addr: Text = setting("127.0.0.1", "address that the API binds", min_length=1)
    port: Port = setting(9999, "port that the API binds; 0 takes any free one")


class P2P(Section):
    """The peer-to-peer network."""

    listen_address: Multiaddresses = setting(LISTEN_ADDRESSES, "multiaddresses to listen on")
    bootstrap_peers: Annotated[Multiaddresses, AfterValidator(_without_retired_peers)] = setting(
        BOOTSTRAP_PEERS, "multiaddresses of peers to join by"
    )
    swarm_key_file: File = setting(
        "",
        "file with the key of a private network, mode 0600; who lacks the key cannot connect. nunet network key new"
        " makes one; empty: no private network",
    )
    announce_addresses: Multiaddresses = setting(
        (),
        "multiaddresses at which others reach this node, beside those it finds out itself, such as"
        " /ip4/203.0.113.7/tcp/9000 behind a router that forwards the port",
    )
    relay_client: When = setting("auto", "be reached through relays: on, off, or auto, when nobody can dial this node")
    relay_delay: Duration = setting(
        "1m", "how long after the start relays are looked for; what is found in that time is chosen from"
    )
    relay_service: When = setting(
        "auto", "forward connections of others: on, off, or auto, when everybody can dial this node"
    )
    port_mapping: Flag = setting(
        True, "ask the router at home to forward the port (NAT-PMP, UPnP); never in server mode, never on loopback"
    )
    hole_punching: Flag = setting(
        True, "turn connections through relays into direct ones where the routers on both sides allow it"
    )
    relay_limit_bytes: CountOrNone = setting(
        1 << 21, "what a connection that this node forwards may carry in each direction; 0: no limit", unit="bytes"
    )
    relay_limit_s: CountOrNone = setting(
        300, "how long a connection that this node forwards may last; 0: no limit", unit="seconds"
    )
    network_id: NetworkID = setting(
        "", "name of a network of one's own, whose nodes do not look for those of others; empty: the public network"
    )
    dht_server: When = setting(
        "auto",
        "serve the hash table in which nodes find each other: on, off (only ask), or auto, unless nobody can reach this"
        " node",
    )
    mdns: Flag = setting(
        True, "meet nodes on the local network; never in server mode, nor while this node listens on loopback only"
    )
    memory: Count = setting(
        1024,
        "what peers sent and nobody has read yet, all connections together; beyond it the greediest is closed",
        unit="MB",
    )
    fd: Count = setting(
        512, "connections, each of which takes a file descriptor; a quarter is for those that this node opens"
    )
    deny_peers: PeerIDs = setting(
        (), "ids of peers that are never let in; a connection to one is closed at once", live=True
    )
    allow_peers: PeerIDs = setting(
        (), "ids of the only peers that are let in, bootstrap peers included; empty: everybody", live=True
    )
    server_mode: Flag = setting(
        False,
        "for public machines in data centres: private addresses are not dialled, not let in and not announced, as such"
        " dials look like a scan of the local network",
    )

    @model_validator(mode="after")
    def _key_covers_all(self) -> Self:
        asked = self.listen_address if self.listen_address != LISTEN_ADDRESSES else ()
        if self.swarm_key_file and any("/quic" in address for address in asked):
            raise ValueError("swarm_key_file does not protect QUIC: take the /quic addresses out of listen_address")
        return self


class Identity(Section):
    """Whose key is whose."""

    prism_resolver_url: HttpAddress = setting(
        "", "HTTP service that resolves did:prism identities; empty: they are not accepted"
    )


class Messages(Section):
    """What one peer may send; more is refused. Messages of this machine's own users are not counted."""

    tell_refused: Flag = setting(True, "tell callers that are not strangers why they are refused", live=True)
    handlers_per_peer: Count = setting(256, "messages of one peer that are handled at once", live=True)
    public_per_s: Count = setting(100, "messages of one peer to /public behaviours", unit="per second", live=True)
    public_burst: Count = setting(1000, "and at once, after a silence", live=True)
    private_per_s: Count = setting(500, "messages of one peer to all other behaviours", unit="per second", live=True)
    private_burst: Count = setting(5000, "and at once, after a silence", live=True)
    broadcast_per_s: Count = setting(50, "broadcasts published by one peer", unit="per second", live=True)
    broadcast_burst: Count = setting(500, "and at once, after a silence", live=True)


class Job(Section):
    """What jobs may do here."""

    allow_privileged_docker: Flag = setting(False, "bid for jobs that want privileged containers")
    allow_exec: Flag = setting(
        True,
        "run commands inside jobs for those who deployed them; a change holds for jobs that begin after it",
        live=True,
    )
    private_network: Flag = setting(
        True,
        "give jobs an address of their own in the private network of their ensemble, where this machine can; off: they are"
        " reached at their public ports only",
    )
    dns_upstream: NameServers = setting(
        ("system",),
        "name servers that answer jobs in private networks for names outside: addresses, system for those that this machine asks"
        " itself; none: only the names of the ensemble are known",
        live=True,
    )
    orphan_grace: Duration = setting(
        "3h",
        "how long work goes on while its orchestrator cannot be reached, before it is ended, such as 30m; a change holds"
        " for jobs that begin after it",
        live=True,
    )


class Deployments(Section):
    """What this node deploys elsewhere."""

    keep: Duration = setting(
        "90d",
        "how long deployments that have ended are remembered, with their logs, such as 30d; 0s: until pruned",
        live=True,
    )


class Database(Section):
    """Where records are kept, and for how long those that are no longer needed."""

    url: DatabaseAddress = setting(
        "", "PostgreSQL database, such as postgresql://user@host/name; empty: the file dms.sqlite in general.work_dir"
    )
    keep_hidden: Duration = setting("30d", "how long records that were hidden stay; 0s: for ever", live=True)
    keep_history: Duration = setting(
        "365d", "how long old versions of what is onboarded and measured stay; 0s: for ever", live=True
    )
    keep_events: Duration = setting(
        "90d",
        "how long events of deployments that go on stay, but for the first and the last 100; 0s: for ever",
        live=True,
    )


class Machines(Section):
    """Machines that jobs may boot here."""

    image_dirs: Directories = setting(
        (), "directories with kernels and images that machines may boot; empty: work_dir/images"
    )
    firecracker_jailer: Flag = setting(False, "run Firecracker in its jailer, which must be installed; needs root")


class Offer(Section):
    """What this machine says of itself to jobs that ask for more than amounts."""

    libraries: Texts = setting((), "software that is there, such as openmpi 4.1.6", live=True)
    prices: Texts = setting((), "what an hour costs, such as NTX 0.5; a second number is a fee per job", live=True)
    proofs: Texts = setting((), "who vouches for the owner, such as iso27001 certificate-77", live=True)
    max_hours: CountOrNone = setting(0, "how long a job may take; 0: as long as it likes", unit="hours", live=True)
    tell_reasons: Flag = setting(
        True, "tell those who may deploy here, and ask, why this machine does not bid", live=True
    )


class Storage(Section):
    """What jobs may do with storage here."""

    local_roots: Directories = setting((), "directories that jobs may mount, with all below them")
    allowed_networks: Networks = setting((), "private networks that downloads for jobs may reach, such as 10.1.0.0/16")
    allow_glusterfs: Flag = setting(False, "mount GlusterFS volumes of servers that jobs name")
    ipfs_gateway: HttpAddress = setting("", "trustless gateway for content that names none; may be private")
    ipfs_api: HttpAddress = setting("", "RPC of a Kubo node, which keeps what jobs upload; may be private")
    max_download_mb: Count = setting(65536, "size of one download", unit="MB")
    max_volumes_mb: CountOrNone = setting(0, "size of all volumes together; 0 leaves it to the disk", unit="MB")


class Rotation(Section):
    """When log files are renewed and dropped."""

    max_size_mb: Count = setting(100, "size of one log file", unit="MB", live=True)
    max_backups: CountOrNone = setting(3, "old log files that are kept", live=True)
    max_age_days: CountOrNone = setting(28, "age at which an old log file is dropped; 0 never", unit="days", live=True)


class Logging(Section):
    """The log."""

    level: Level = setting("INFO", "DEBUG, INFO, WARN, ERROR or FATAL", live=True)
    file: Directory = setting(
        Path("~/nunet/logs/nunet-dms-logs.jsonl"), "JSON lines; lies in work_dir/logs unless set", live=True
    )
    rotation: Rotation = Rotation()


class Elastic(Section):
    """Log entries and events to Elasticsearch."""

    enabled: Flag = setting(False, "send log entries and events; url, index and api_key must be set", live=True)
    url: HttpAddress = setting("https://telemetry.nunet.io", "where it answers", live=True)
    index: Text = setting("nunet-dms", "index for entries without a label", live=True)
    flush_interval: Count = setting(5, "time between two deliveries", unit="s", live=True)
    api_key: Secret = setting("", "API key", live=True)
    insecure_skip_verify: Flag = setting(False, "accept any certificate", live=True)


class Otel(Section):
    """Metrics and traces through OTLP; needs the extra otel."""

    enabled: Flag = setting(False, "send metrics and traces", live=True)
    endpoint: Text = setting("", "collector of OTLP over HTTP, such as localhost:4318", live=True)
    insecure: Flag = setting(False, "without TLS", live=True)


class Observability(Section):
    """What the node tells about itself."""

    logging: Logging = Logging()
    elastic: Elastic = Field(default_factory=Elastic)
    otel: Otel = Otel()


class Apm(Section):
    """Traces and metrics to Elastic APM, through its OTLP intake; needs the extra otel."""

    server_url: HttpAddress = setting(
        "https://apm.telemetry.nunet.io", "where it answers; needs a key or a token", live=True
    )
    service_name: Text = setting("nunet-dms", "name of this service there", live=True)
    environment: Text = setting("production", "name of the environment there", live=True)
    api_key: Secret = setting("", "API key", live=True)
    secret_token: Secret = setting("", "token, where there is no API key", live=True)


class Plugins(Section):
    """Parts that other packages bring."""

    disabled: Texts = setting((), "names of plugins, or of packages, that are installed and shall not be used")


class Settings(Section):
    """All settings; build them with :func:`dms.config.load_settings`."""

    general: General = Field(default_factory=General)
    rest: Rest = Field(default_factory=Rest)
    p2p: P2P = Field(default_factory=P2P)
    identity: Identity = Field(default_factory=Identity)
    messages: Messages = Field(default_factory=Messages)
    job: Job = Field(default_factory=Job)
    deployments: Deployments = Field(default_factory=Deployments)
    database: Database = Field(default_factory=Database)
    machines: Machines = Field(default_factory=Machines)
    offer: Offer = Field(default_factory=Offer)
    storage: Storage = Field(default_factory=Storage)
    plugins: Plugins = Field(default_factory=Plugins)
    observability: Observability = Field(default_factory=Observability)
    apm: Apm = Field(default_factory=Apm)

    _source: Path | None = PrivateAttr(default=None)
    _flat_keys: tuple[str, ...] = PrivateAttr(default=())
    _sources: Any = PrivateAttr(default=None)  # of dms.config.load, which knows this module

    @property
    def source(self) -> Path | None:
        """The file that was read; ``None``: there is none, all is default, environment and flags."""
        return self._source

    @property
    def flat_keys(self) -> tuple[str, ...]:
        """Keys of release 0.5 in the file, which belong elsewhere now."""
        return self._flat_keys

    def origin(self, key: str) -> Origin:
        """Where the value of a dotted key comes from."""
        found = self._sources.found.get(key.lower()) if self._sources is not None else None
        return DEFAULT if found is None else found.origin

    def get(self, key: str) -> Any:  # a setting, or the dict of a section
        """The value of a dotted key; a section answers with a dict. Secrets are hidden.

        :raises SettingNotFound: no such key.
        """
        value = self._at(key)
        return _shown(value) if isinstance(value, Section | SecretStr) else value

    def value(self, key: str) -> Any:  # JSON, or a Path
        """As :meth:`get` of a setting, but secrets are as they are: not to be shown.

        :raises SettingNotFound: no such key.
        """
        value = self._at(key)
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    def _at(self, key: str) -> Any:
        from dms.config.keys import missing  # which walks the classes of this module

        value: Any = self
        for name in key.lower().split("."):
            if not isinstance(value, BaseModel) or name not in type(value).model_fields:
                raise missing(key)
            value = getattr(value, name)
        return value
