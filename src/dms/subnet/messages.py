"""What an orchestrator tells the machines about the private network of an ensemble (``spec/orchestration.md`` 3.7).

The original's requests come one after another: create, then a peer, its names, its ports. Between nodes of ours one of them,
``create``, carries the whole of what a machine must know, with a revision; it may be sent again whenever anything changes,
and what is older than what is known is ignored. A reply without a revision tells that the others are needed, too.
"""

from __future__ import annotations

import msgspec

from dms.executor.protocol import PROTOCOLS
from dms.subnet.ports import MAX_PORT
from dms.types.errors import BadInput
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, EnsembleID, PeerID

ADD_PEER = "/dms/allocation/subnet/add-peer"
ACCEPT_PEER = "/dms/allocation/subnet/accept-peer"
REMOVE_PEER = "/dms/allocation/subnet/remove-peer"
ADD_RECORD = "/dms/allocation/subnet/dns/add-record"
REMOVE_RECORD = "/dms/allocation/subnet/dns/remove-record"
ACCEPT_PEERS = "/dms/allocation/subnet/accept-peers"
REMOVE_PEERS = "/dms/allocation/subnet/remove-peers"
ADD_RECORDS = "/dms/allocation/subnet/dns/add-records"
REMOVE_RECORDS = "/dms/allocation/subnet/dns/remove-records"
MAP_PORT = "/dms/allocation/subnet/map-port"
UNMAP_PORT = "/dms/allocation/subnet/unmap-port"


def of_ensemble(ensemble: EnsembleID, what: str) -> str:
    """A behaviour of the machine for one ensemble: ``create``, ``destroy``, ``join``."""
    return f"/dms/ensemble/{ensemble}/node/subnet/{what}"


class CreateRequest(Wire):
    """The private network, and who is where in it: peers by address."""

    subnet_id: str = msgspec.field(name="SubnetID")
    ip: str = msgspec.field(name="IP", default="")
    cidr: str = msgspec.field(name="CIDR", default="")
    routing_table: dict[str, PeerID] = msgspec.field(name="RoutingTable", default_factory=dict)
    records: dict[str, str] = msgspec.field(name="Records", default_factory=dict)
    """Ours: addresses by name."""
    members: dict[AllocationID, str] = msgspec.field(name="Members", default_factory=dict)
    """Ours: the addresses of those that are on this machine."""
    services: dict[str, tuple[str, ...]] = msgspec.field(name="Services", default_factory=dict)
    """Ours: where names serve, such as ``tcp/80``."""
    revision: int = msgspec.field(name="Revision", default=0)
    """Ours: what is told later has a greater one."""
    by_stream: tuple[str, ...] = msgspec.field(name="ByStream", default=())
    """Ours: the addresses to which no packets go, only streams (:mod:`dms.subnet.connecting`)."""


def parse_service(text: str) -> tuple[str, int]:
    """Protocol and port of a service.

    :raises BadInput: it is none.
    """
    protocol, _, number = text.partition("/")
    if protocol in PROTOCOLS and number.isascii() and number.isdigit() and 0 < int(number[:6]) <= MAX_PORT:
        return protocol, int(number)
    raise BadInput(f"not a service: {text[:40]!r}", hint="write tcp/80")


class CreateReply(Wire):
    """Whether it is so; ours: which revision is known there, and whether packets reach its members (``kernel``) or only
    streams that programs forward (``user``); then ``reason`` tells why, as it does where the machine itself was to take part
    and cannot."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")
    revision: int = msgspec.field(name="Revision", default=0)
    mode: str = msgspec.field(name="Mode", default="")
    reason: str = msgspec.field(name="Reason", default="")
    by_stream: tuple[str, ...] = msgspec.field(name="ByStream", default=())
    """Ours: the addresses here to which only streams lead."""


class MemberReport(Wire):
    """Ours: a machine of the network as another one sees it; ``is_own``: that one itself. Round trips in microseconds, 0: not
    known."""

    peer: PeerID
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    is_own: bool = False
    state: str = ""
    path: str = ""
    rtt_us: int = 0
    error: str = ""
    relay: str = ""
    """Who carries what passes, where the path is ``relayed``."""
    mtu: int = 0
    """The largest packet that the way takes whole; 0: not known."""
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    drops: dict[str, int] = msgspec.field(default_factory=dict)


class NetworkReport(Wire):
    """Ours: what one machine knows of the network, and what passed. ``attached``: the addresses whose devices are there;
    ``lacking``: why those that should be there are not, by address; ``queries`` by outcome, ``drops`` by reason."""

    mode: str = ""
    cidr: str = ""
    ipv6: str = ""
    members: tuple[MemberReport, ...] = ()
    attached: tuple[str, ...] = ()
    lacking: dict[str, str] = msgspec.field(default_factory=dict)
    queries: dict[str, int] = msgspec.field(default_factory=dict)
    drops: dict[str, int] = msgspec.field(default_factory=dict)
    error: str = ""


class SubnetRequest(Wire):
    """Which private network; enough to destroy it."""

    subnet_id: str = msgspec.field(name="SubnetID")


class PeerRequest(Wire):
    """One member: gives an allocation its address on its own machine."""

    subnet_id: str = msgspec.field(name="SubnetID")
    peer: PeerID = msgspec.field(name="PeerID")
    ip: str = msgspec.field(name="IP")


class PeersRequest(Wire):
    """Members elsewhere, that come or go."""

    subnet_id: str = msgspec.field(name="SubnetID")
    table: dict[str, PeerID] = msgspec.field(name="PartialRoutingTable", default_factory=dict)


class RecordsRequest(Wire):
    """Names that come: addresses by name."""

    subnet_id: str = msgspec.field(name="SubnetID")
    records: dict[str, str] = msgspec.field(name="Records", default_factory=dict)


class RecordRequest(Wire):
    """One name that comes, or goes: then without an address."""

    subnet_id: str = msgspec.field(name="SubnetID")
    name: str = msgspec.field(name="DomainName")
    ip: str = msgspec.field(name="IP", default="")


class NamesRequest(Wire):
    """Names that go."""

    subnet_id: str = msgspec.field(name="SubnetID")
    names: tuple[str, ...] = msgspec.field(name="DomainNames", default=())


class PortRequest(Wire):
    """A public port and where it leads; the numbers are text."""

    subnet_id: str = msgspec.field(name="SubnetID")
    protocol: str = msgspec.field(name="Protocol", default="TCP")
    source_ip: str = msgspec.field(name="SourceIP", default="0.0.0.0")
    source_port: str = msgspec.field(name="SourcePort", default="")
    dest_ip: str = msgspec.field(name="DestIP", default="")
    dest_port: str = msgspec.field(name="DestPort", default="")
