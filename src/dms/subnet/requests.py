"""What orchestrators ask of the private networks of a node (``spec/orchestration.md`` 3.7), and what becomes of it.

The names are the ends of behaviours; who may call which, and for which ensemble, is checked before it comes here. Every
reply is ``{"OK","Error"}``; that of a mapped port also tells the public port where it was left open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from dms.subnet.errors import SubnetError
from dms.subnet.ports import PortMapping
from dms.subnet.subnets import Subnets
from dms.types import gojson
from dms.types.errors import BadInput, DMSError
from dms.types.gojson import Wire
from dms.types.ids import PeerID


class SubnetRequest(Wire):
    """Names the network; the request to destroy it has nothing else."""

    subnet_id: str = msgspec.field(name="SubnetID")


class CreateRequest(Wire, kw_only=True):
    """A network with all its members. ``IP`` is the orchestrator's in the original's first version; nobody reads it."""

    subnet_id: str = msgspec.field(name="SubnetID")
    ip: str = msgspec.field(name="IP", default="")
    cidr: str = msgspec.field(name="CIDR", default="")
    routing_table: dict[str, PeerID] | None = msgspec.field(name="RoutingTable")


class JoinRequest(Wire):
    """The node itself becomes a member, under a name as a rule."""

    subnet_id: str = msgspec.field(name="SubnetID")
    peer_id: PeerID = msgspec.field(name="PeerID")
    ip: str = msgspec.field(name="IP")
    records: dict[str, str] | None = msgspec.field(name="Records")


class PeerRequest(Wire):
    """One address of one peer."""

    subnet_id: str = msgspec.field(name="SubnetID")
    peer_id: PeerID = msgspec.field(name="PeerID")
    ip: str = msgspec.field(name="IP")


class PeersRequest(Wire):
    """Addresses of several peers."""

    subnet_id: str = msgspec.field(name="SubnetID")
    table: dict[str, PeerID] | None = msgspec.field(name="PartialRoutingTable")


class PortRequest(Wire):
    """A public port and where it leads; ports are text."""

    subnet_id: str = msgspec.field(name="SubnetID")
    protocol: str = msgspec.field(name="Protocol")
    source_ip: str = msgspec.field(name="SourceIP")
    source_port: str = msgspec.field(name="SourcePort")
    dest_ip: str = msgspec.field(name="DestIP")
    dest_port: str = msgspec.field(name="DestPort")

    def mapping(self) -> PortMapping:
        """What it means.

        :raises BadInput: a part is wrong.
        """
        return PortMapping.parse(self.protocol, self.source_ip, self.source_port, self.dest_ip, self.dest_port)


class RecordsRequest(Wire):
    """Names to add."""

    subnet_id: str = msgspec.field(name="SubnetID")
    records: dict[str, str] | None = msgspec.field(name="Records")


class RecordRequest(Wire):
    """A name to add, as version 0.5 asks for it."""

    subnet_id: str = msgspec.field(name="SubnetID")
    domain_name: str = msgspec.field(name="DomainName")
    ip: str = msgspec.field(name="IP")


class RemoveRecordsRequest(Wire):
    """Names to remove."""

    subnet_id: str = msgspec.field(name="SubnetID")
    domain_names: tuple[str, ...] | None = msgspec.field(name="DomainNames")


class RemoveRecordRequest(Wire):
    """A name to remove, as earlier versions ask for it."""

    subnet_id: str = msgspec.field(name="SubnetID")
    domain_name: str = msgspec.field(name="DomainName")


class SubnetReply(Wire):
    """Whether it was done; ours: the public port of a mapping, and the code of the error."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error")
    port: int = msgspec.field(name="Port", default=0)
    code: str = msgspec.field(name="Code", default="")


class SubnetRequests:
    """Carries out requests on the networks of one node."""

    def __init__(self, subnets: Subnets) -> None:
        self._subnets = subnets
        self._by_name: Final[Mapping[str, Callable[[bytes], Awaitable[int | None]]]] = {
            "subnet/create": partial(self._do, CreateRequest, self._create),
            "subnet/destroy": partial(self._do, SubnetRequest, self._destroy),
            "subnet/join": partial(self._do, JoinRequest, self._join),
            "subnet/add-peer": partial(self._do, PeerRequest, self._add_peer),
            "subnet/accept-peer": partial(self._do, PeerRequest, self._add_peer),
            "subnet/remove-peer": partial(self._do, PeerRequest, self._remove_peer),
            "subnet/accept-peers": partial(self._do, PeersRequest, self._accept_peers),
            "subnet/remove-peers": partial(self._do, PeersRequest, self._remove_peers),
            "subnet/map-port": partial(self._do, PortRequest, self._map_port),
            "subnet/unmap-port": partial(self._do, PortRequest, self._unmap_port),
            "subnet/dns/add-records": partial(self._do, RecordsRequest, self._add_records),
            "subnet/dns/add-record": partial(self._do, RecordRequest, self._add_record),
            "subnet/dns/remove-records": partial(self._do, RemoveRecordsRequest, self._remove_records),
            "subnet/dns/remove-record": partial(self._do, RemoveRecordRequest, self._remove_record),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return tuple(self._by_name)

    async def handle(self, name: str, data: bytes) -> SubnetReply:
        """Do what is asked; errors are in the reply.

        :raises KeyError: nothing of this name can be asked for.
        """
        try:
            port = await self._by_name[name](data)
        except (SubnetError, BadInput) as error:
            return SubnetReply(ok=False, error=error.message, code=error.code)
        except DMSError as error:
            return SubnetReply(ok=False, error=str(error), code=error.code)
        return SubnetReply(ok=True, error="", port=port or 0)

    async def _do(self, kind: type[Any], what: Callable[[Any], Awaitable[int | None]], data: bytes) -> int | None:
        return await what(gojson.decode(data, kind))

    async def _create(self, asked: CreateRequest) -> None:
        await self._subnets.create(asked.subnet_id, asked.cidr, asked.routing_table or {})

    async def _destroy(self, asked: SubnetRequest) -> None:
        await self._subnets.destroy(asked.subnet_id)

    async def _join(self, asked: JoinRequest) -> None:
        subnet = self._subnets.get(asked.subnet_id)
        await subnet.add_peer(asked.peer_id, asked.ip)
        await subnet.attach(asked.ip)
        subnet.add_names(asked.records or {})

    async def _add_peer(self, asked: PeerRequest) -> None:
        await self._subnets.get(asked.subnet_id).add_peer(asked.peer_id, asked.ip)

    async def _remove_peer(self, asked: PeerRequest) -> None:
        await self._subnets.get(asked.subnet_id).remove_peer(asked.peer_id, asked.ip)

    async def _accept_peers(self, asked: PeersRequest) -> None:
        await self._subnets.get(asked.subnet_id).accept(asked.table or {})

    async def _remove_peers(self, asked: PeersRequest) -> None:
        subnet = self._subnets.get(asked.subnet_id)
        for address, peer in (asked.table or {}).items():
            await subnet.remove_peer(peer, address)

    async def _map_port(self, asked: PortRequest) -> int:
        return (await self._subnets.get(asked.subnet_id).map_port(asked.mapping())).public

    async def _unmap_port(self, asked: PortRequest) -> None:
        await self._subnets.get(asked.subnet_id).unmap_port(asked.mapping())

    async def _add_records(self, asked: RecordsRequest) -> None:
        self._subnets.get(asked.subnet_id).add_names(asked.records or {})

    async def _add_record(self, asked: RecordRequest) -> None:
        self._subnets.get(asked.subnet_id).add_names({asked.domain_name: asked.ip})

    async def _remove_records(self, asked: RemoveRecordsRequest) -> None:
        self._subnets.get(asked.subnet_id).remove_names(asked.domain_names or ())

    async def _remove_record(self, asked: RemoveRecordRequest) -> None:
        self._subnets.get(asked.subnet_id).remove_names((asked.domain_name,))
