"""The settings: every key, its type, its default and its bounds (``spec/platform.md`` 1.2).

A key is the dotted path of a field: ``rest.port`` is ``Settings.rest.port``. Paths may begin with ``~`` or ``$HOME``.
Types are strict, as the file is JSON: a port is a number, never a text.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dms.types.errors import BadInput
from dms.types.units import parse_duration_ns

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

LOG_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")

MAX_PORT = 65535


def _expand(path: Path, info: ValidationInfo) -> Path:
    text, home = str(path), (info.context or {}).get("home") or Path.home()
    for mark in ("~", "$HOME", "${HOME}"):
        if text == mark or text.startswith(mark + "/"):
            return Path(home, text[len(mark) :].lstrip("/"))
    return path.absolute()


Directory = Annotated[Path, Field(strict=False, validate_default=True), AfterValidator(_expand)]
Directories = Annotated[
    tuple[Annotated[Path, Field(strict=False), AfterValidator(_expand)], ...], Field(strict=False)
]  # a list in the file
Texts = Annotated[tuple[str, ...], Field(strict=False)]  # a list in the file
Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class General(_Section):
    """Who and where this node is."""

    env: str = Field(default="production", description="name of the environment, such as production")
    user_dir: Directory = Field(default=Path("~/.nunet"), description="keys and capability contexts")
    work_dir: Directory = Field(default=Path("~/nunet"), description="jobs, volumes, deployments, database")
    data_dir: Directory = Field(
        default_factory=lambda known: Path(known.get("work_dir", "~/nunet")) / "data",
        description="data; lies in work_dir unless set",
    )
    debug: bool = Field(default=False, description="log everything")
    host_city: str = Field(default="", description="where this node says it is: city")
    host_country: str = Field(default="", description="where this node says it is: ISO country code")
    host_continent: str = Field(default="", description="where this node says it is: continent code")
    port_available_range_from: int = Field(default=16384, ge=1, le=MAX_PORT, description="first host port for jobs")
    port_available_range_to: int = Field(
        default=MAX_PORT + 1,
        ge=2,
        le=MAX_PORT + 1,
        description="end of the host ports for jobs, itself not offered",
    )

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.port_available_range_from >= self.port_available_range_to:
            raise ValueError("port_available_range_from must be below port_available_range_to")
        return self


class Rest(_Section):
    """The local API."""

    addr: str = Field(default="127.0.0.1", min_length=1, description="address that the API binds")
    port: Port = Field(default=9999, description="port that the API binds; 0 takes any free one")


class P2P(_Section):
    """The peer-to-peer network."""

    listen_address: Texts = Field(
        default=("/ip4/0.0.0.0/tcp/9000", "/ip4/0.0.0.0/udp/9000/quic-v1"), description="multiaddresses to listen on"
    )
    bootstrap_peers: Texts = Field(default=BOOTSTRAP_PEERS, description="multiaddresses of peers to join by")
    memory: Count = Field(default=1024, description="memory for connections, MB")
    fd: Count = Field(default=512, description="file descriptors for connections")

    @field_validator("listen_address", "bootstrap_peers")
    @classmethod
    def _are_multiaddresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            if not address.startswith("/"):
                raise ValueError(f'"{address}" is not a multiaddress; write it like /ip4/127.0.0.1/tcp/9000')
        return value

    @field_validator("bootstrap_peers")
    @classmethod
    def _without_retired_peers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        kept = tuple(peer for peer in value if peer.rpartition("/")[2] not in RETIRED_BOOTSTRAP_IDS)
        return kept if len(kept) == len(value) else tuple(dict.fromkeys(kept + BOOTSTRAP_PEERS))


class Identity(_Section):
    """Whose key is whose."""

    prism_resolver_url: str = Field(
        default="", description="HTTP service that resolves did:prism identities; empty: they are not accepted"
    )

    @field_validator("prism_resolver_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError(
                f'"{value[:80]}" is not the address of a service; write it like https://resolver.example.org'
            )
        return value.rstrip("/")


class Messages(_Section):
    """What one peer may send; more is refused. Messages of this machine's own users are not counted."""

    tell_refused: bool = Field(default=True, description="tell callers that are not strangers why they are refused")
    handlers_per_peer: Count = Field(default=256, description="messages of one peer that are handled at once")
    public_per_s: Count = Field(default=100, description="messages of one peer to /public behaviours, per second")
    public_burst: Count = Field(default=1000, description="and at once, after a silence")
    private_per_s: Count = Field(default=500, description="messages of one peer to all other behaviours, per second")
    private_burst: Count = Field(default=5000, description="and at once, after a silence")
    broadcast_per_s: Count = Field(default=50, description="broadcasts published by one peer, per second")
    broadcast_burst: Count = Field(default=500, description="and at once, after a silence")


def _checked_duration(value: str) -> str:
    try:
        parse_duration_ns(value, what="duration")
    except BadInput as exc:
        raise ValueError(f"{exc.message}; write it like 30d") from None
    return value


class Job(_Section):
    """What jobs may do here."""

    allow_privileged_docker: bool = Field(default=False, description="bid for jobs that want privileged containers")
    allow_exec: bool = Field(default=True, description="run commands inside jobs for those who deployed them")
    orphan_grace: str = Field(
        default="3h",
        description="how long work goes on while its orchestrator cannot be reached, before it is ended, such as 30m",
    )

    @field_validator("orphan_grace")
    @classmethod
    def _is_a_duration(cls, value: str) -> str:
        return _checked_duration(value)


class Deployments(_Section):
    """What this node deploys elsewhere."""

    keep: str = Field(
        default="90d",
        description="how long deployments that have ended are remembered, with their logs, such as 30d; 0s: until pruned",
    )

    @field_validator("keep")
    @classmethod
    def _is_a_duration(cls, value: str) -> str:
        return _checked_duration(value)


class Machines(_Section):
    """Machines that jobs may boot here."""

    image_dirs: Directories = Field(
        default=(), description="directories with kernels and images that machines may boot; empty: work_dir/images"
    )
    firecracker_jailer: bool = Field(
        default=False, description="run Firecracker in its jailer, which must be installed; needs root"
    )


class Offer(_Section):
    """What this machine says of itself to jobs that ask for more than amounts."""

    libraries: Texts = Field(default=(), description="software that is there, such as openmpi 4.1.6")
    prices: Texts = Field(
        default=(), description="what an hour costs, such as NTX 0.5; a second number is a fee per job"
    )
    proofs: Texts = Field(default=(), description="who vouches for the owner, such as iso27001 certificate-77")
    max_hours: int = Field(default=0, ge=0, description="how long a job may take, hours; 0: as long as it likes")
    tell_reasons: bool = Field(
        default=True, description="tell those who may deploy here, and ask, why this machine does not bid"
    )


class Storage(_Section):
    """What jobs may do with storage here."""

    local_roots: Directories = Field(default=(), description="directories that jobs may mount, with all below them")
    allowed_networks: Texts = Field(
        default=(), description="private networks that downloads for jobs may reach, such as 10.1.0.0/16"
    )
    allow_glusterfs: bool = Field(default=False, description="mount GlusterFS volumes of servers that jobs name")
    ipfs_gateway: str = Field(default="", description="trustless gateway for content that names none; may be private")
    ipfs_api: str = Field(default="", description="RPC of a Kubo node, which keeps what jobs upload; may be private")
    max_download_mb: Count = Field(default=65536, description="size of one download, MB")
    max_volumes_mb: int = Field(
        default=0, ge=0, description="size of all volumes together, MB; 0 leaves it to the disk"
    )

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f'"{network}" is not a network; write it like 10.1.0.0/16') from None
        return value

    @field_validator("ipfs_gateway", "ipfs_api")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f'"{value}" is not an address; write it like http://127.0.0.1:8080')
        return value


class Rotation(_Section):
    """When log files are renewed and dropped."""

    max_size_mb: Count = Field(default=100, description="size of one log file, MB")
    max_backups: int = Field(default=3, ge=0, description="old log files that are kept")
    max_age_days: int = Field(default=28, ge=0, description="age at which an old log file is dropped; 0 never")


class Logging(_Section):
    """The log."""

    level: str = Field(default="INFO", description="DEBUG, INFO, WARN, ERROR or FATAL")
    file: Directory = Field(
        default=Path("~/nunet/logs/nunet-dms-logs.jsonl"), description="JSON lines; lies in work_dir/logs unless set"
    )
    rotation: Rotation = Rotation()

    @field_validator("level")
    @classmethod
    def _is_a_level(cls, value: str) -> str:
        level = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(value.upper(), value.upper())
        if level not in LOG_LEVELS:
            raise ValueError(f'"{value}" is not a level; use one of {", ".join(LOG_LEVELS)}')
        return level


class Observability(_Section):
    """What the node tells about itself."""

    logging: Logging = Logging()


class Settings(_Section):
    """All settings; build them with :func:`dms.config.load_settings`."""

    general: General = Field(default_factory=General)
    rest: Rest = Field(default_factory=Rest)
    p2p: P2P = Field(default_factory=P2P)
    identity: Identity = Field(default_factory=Identity)
    messages: Messages = Field(default_factory=Messages)
    job: Job = Field(default_factory=Job)
    deployments: Deployments = Field(default_factory=Deployments)
    machines: Machines = Field(default_factory=Machines)
    offer: Offer = Field(default_factory=Offer)
    storage: Storage = Field(default_factory=Storage)
    observability: Observability = Field(default_factory=Observability)

    _source: Path | None = PrivateAttr(default=None)
    _ignored: tuple[str, ...] = PrivateAttr(default=())

    @property
    def source(self) -> Path | None:
        """The file that was read; ``None``: there is none, all is default, environment and flags."""
        return self._source

    @property
    def ignored(self) -> tuple[str, ...]:
        """Keys of the file that are accepted for compatibility and have no effect."""
        return self._ignored

    def get(self, key: str) -> Any:  # a setting, or the dict of a section
        """The value of a dotted key; a section answers with a dict.

        :raises SettingNotFound: no such key.
        """
        from dms.config.keys import missing  # which walks the classes of this module

        value: Any = self
        for name in key.lower().split("."):
            if not isinstance(value, BaseModel) or name not in type(value).model_fields:
                raise missing(key)
            value = getattr(value, name)
        return value.model_dump(mode="json") if isinstance(value, BaseModel) else value

    def as_dict(self) -> dict[str, Any]:  # JSON
        """The effective settings as nested JSON values."""
        return self.model_dump(mode="json")
