"""Private networks as the original's orchestrators tell of them: one thing after another, to the allocations.

Each step changes what is known of the network as a whole, so it is kept and put into effect as everything else is
(:mod:`~dms.node.private_networks`). Ports need no step: the engines publish them, and lead them inside, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.allocation.spec import AllocationSpec
from dms.node.memberships import Membership
from dms.node.private_networks import PrivateNetworks
from dms.orchestrator.messages import Reply
from dms.subnet import messages as m
from dms.subnet.errors import InvalidIP, SubnetNotFound

Change = Callable[[Membership, Any], Membership]  # the payload is what the behaviour's table says


class NetworkSteps:
    """Of one allocation."""

    def __init__(self, networks: PrivateNetworks, spec: AllocationSpec, connect: Callable[[], Awaitable[None]]) -> None:
        """``connect`` is called once the allocation has got an address: the first of the original's orchestrators start it
        before they tell of any network."""
        self._networks, self._spec, self._connect = networks, spec, connect

    def register(self, actor: Actor) -> None:
        """Answer on the allocation's actor."""
        table: tuple[tuple[str, type, Change], ...] = (
            (m.ADD_PEER, m.PeerRequest, self._added),
            (m.ACCEPT_PEER, m.PeerRequest, _accepted_one),
            (m.ACCEPT_PEERS, m.PeersRequest, _accepted),
            (m.REMOVE_PEER, m.PeerRequest, _removed_one),
            (m.REMOVE_PEERS, m.PeersRequest, _removed),
            (m.ADD_RECORD, m.RecordRequest, _named_one),
            (m.ADD_RECORDS, m.RecordsRequest, _named),
            (m.REMOVE_RECORD, m.RecordRequest, _unnamed_one),
            (m.REMOVE_RECORDS, m.NamesRequest, _unnamed),
            (m.MAP_PORT, m.PortRequest, _ported),
            (m.UNMAP_PORT, m.PortRequest, _ported),
        )
        for behaviour, payload, change in table:
            actor.on(
                behaviour,
                self._handler(change),
                payload=payload,
                error_reply=lambda error: Reply(ok=False, error=error),
            )

    def _handler(self, change: Change) -> Callable[[Message[Any]], Awaitable[Reply]]:
        async def handle(message: Message[Any]) -> Reply:
            spec, request = self._spec, message.payload
            if message.sender.id != spec.orchestrator.id or request.subnet_id != spec.ensemble_id:
                raise SubnetNotFound(f"subnet with ID {request.subnet_id[:80]} does not exist")
            await self._networks.change(spec.ensemble_id, spec.orchestrator.id, lambda known: change(known, request))
            if isinstance(request, m.PeerRequest) and self._has_address():
                await self._connect()
            return Reply(ok=True)

        return handle

    def _has_address(self) -> bool:
        known = self._networks.find(self._spec.ensemble_id)
        return known is not None and self._spec.id in known.members

    def _added(self, known: Membership, request: m.PeerRequest) -> Membership:
        known = _accepted_one(known, request)
        if request.peer != self._networks.own:
            return known
        return msgspec.structs.replace(known, members=known.members | {self._spec.id: request.ip})


def _accepted_one(known: Membership, request: m.PeerRequest) -> Membership:
    return msgspec.structs.replace(known, table=known.table | {request.ip: request.peer})


def _accepted(known: Membership, request: m.PeersRequest) -> Membership:
    return msgspec.structs.replace(known, table=known.table | request.table)


def _removed_one(known: Membership, request: m.PeerRequest) -> Membership:
    return _without(known, {request.ip} if known.table.get(request.ip) == request.peer else set())


def _removed(known: Membership, request: m.PeersRequest) -> Membership:
    return _without(known, {ip for ip, peer in request.table.items() if known.table.get(ip) == peer})


def _without(known: Membership, gone: set[str]) -> Membership:
    return msgspec.structs.replace(
        known,
        table={ip: peer for ip, peer in known.table.items() if ip not in gone},
        members={id_: ip for id_, ip in known.members.items() if ip not in gone},
    )


def _named_one(known: Membership, request: m.RecordRequest) -> Membership:
    return msgspec.structs.replace(known, records=known.records | {request.name: request.ip})


def _named(known: Membership, request: m.RecordsRequest) -> Membership:
    return msgspec.structs.replace(known, records=known.records | request.records)


def _unnamed_one(known: Membership, request: m.RecordRequest) -> Membership:
    return _without_names(known, {request.name})


def _unnamed(known: Membership, request: m.NamesRequest) -> Membership:
    return _without_names(known, set(request.names))


def _without_names(known: Membership, gone: set[str]) -> Membership:
    return msgspec.structs.replace(
        known, records={name: address for name, address in known.records.items() if name not in gone}
    )


def _ported(known: Membership, request: m.PortRequest) -> Membership:
    if request.dest_ip not in known.members.values():
        raise InvalidIP(f"{request.dest_ip[:40]} is not an address of this machine")
    return known
