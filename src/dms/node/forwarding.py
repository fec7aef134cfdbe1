"""Connections to the ports of what somebody deployed: ``/dms/node/deployment/forward``, for the owner of the deployment.

The behaviour is asked with a signed message and answers with a ticket; whoever shows that at the REST server of this node
(:mod:`dms.api.tunnel`) gets bytes both ways. A ticket lives for two minutes and is asked for anew, so that who may no longer, may
no longer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.node.connections import Connections
from dms.node.errors import NoTicket
from dms.node.finding import find_allocation, find_deployment
from dms.node.forward_payloads import ForwardReply, ForwardRequest
from dms.orchestrator.deployment import Deployment
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.errors import NotAllocated, NotTheOwner
from dms.orchestrator.lifecycle.state import AllocationRecord
from dms.subnet.connecting import Wanted
from dms.subnet.pipes import Pipe
from dms.types.errors import BadInput, DMSError
from dms.types.ids import EnsembleID

BEHAVIOUR = "/dms/node/deployment/forward"
LIFETIME_S = 120
MAX_TICKETS = 1000
MAX_PORTS = 64


@dataclass(frozen=True, slots=True)
class Ticket:
    """What it opens, until trio's clock says so."""

    ensemble: EnsembleID
    key: str
    ports: frozenset[int]
    ends_s: float
    secret: str = field(repr=False)


class Forwarding:
    """Gives tickets, and connections for them."""

    def __init__(
        self,
        deployments: Deployments,
        connections: Connections,
        new_secret: Callable[[], str] = lambda: secrets.token_hex(32),
    ) -> None:
        self._deployments, self._connections, self._new_secret = deployments, connections, new_secret
        self._tickets: dict[str, Ticket] = {}

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``. A second request gets a second ticket."""
        actor.on(
            BEHAVIOUR,
            self._forward,
            payload=ForwardRequest,
            error_reply=lambda error: ForwardReply(ok=False, error=error),
        )

    async def open(self, secret: str, port: int) -> Pipe:
        """A connection for whoever has a ticket.

        :raises NoTicket: it is none, or no more, or not for this port.
        :raises DMSError: the deployment has ended, or the port is not reached.
        """
        self._forget_old()
        ticket = self._tickets.get(secret)
        if ticket is None or port not in ticket.ports:
            raise NoTicket
        deployment = self._deployments.live(ticket.ensemble)
        record = deployment.state.allocations.get(ticket.key)
        if record is None or record.handle is None or record.is_over:
            raise NotAllocated(f"{ticket.key} is {record.status if record else 'gone'}", hint="it must run for this")
        return await self._connections.open(record.peer, Wanted(ticket.ensemble, record.id, port))

    async def _forward(self, message: Message[ForwardRequest]) -> ForwardReply:
        asked = message.payload
        try:
            ports = _checked(asked)
            deployment, record = self._owned(asked, message.sender.did.uri)
            self._forget_old()
            if len(self._tickets) >= MAX_TICKETS:
                raise BadInput(f"{MAX_TICKETS} forwardings are open already", hint="try again in two minutes")
        except DMSError as exc:
            return ForwardReply(ok=False, error=exc.message, hint=exc.hint)
        key = record.key
        ticket = Ticket(deployment.id, key, ports, trio.current_time() + LIFETIME_S, self._new_secret())
        before = self._tickets.pop(asked.renews, None)
        self._tickets[ticket.secret] = ticket
        if before is None or (before.key, before.ports) != (key, ports):
            detail: dict[str, object] = {
                "allocation": key,
                "ports": sorted(ports),
                "by": message.sender.did.uri,
            }
            await deployment.note("ports_forwarded", detail)
        return ForwardReply(
            ok=True,
            ticket=ticket.secret,
            lifetime_s=LIFETIME_S,
            allocation=key,
            deployment=deployment.id,
            execution=record.execution,
            peer=record.peer,
        )

    def _owned(self, asked: ForwardRequest, caller: str) -> tuple[Deployment, AllocationRecord]:
        record = find_deployment(self._deployments, asked.id)
        if record.state.owner != caller:
            raise NotTheOwner
        allocation = find_allocation(record, asked.allocation)
        if allocation.handle is None or allocation.is_over:
            raise NotAllocated(f"{allocation.key} is {allocation.status}", hint="it must run for this")
        return self._deployments.live(record.id), allocation

    def _forget_old(self) -> None:
        now_s = trio.current_time()
        self._tickets = {secret: ticket for secret, ticket in self._tickets.items() if ticket.ends_s > now_s}


def _checked(asked: ForwardRequest) -> frozenset[int]:
    ports = frozenset(asked.ports or ())
    if not ports or len(ports) > MAX_PORTS or not all(0 < port < 1 << 16 for port in ports):
        raise BadInput(f"between 1 and {MAX_PORTS} ports are forwarded at once, from 1 to 65535")
    return ports
