"""The user of a node on the virtual network: somebody who invokes its behaviours from beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from dms.actor.actor import Actor
from dms.actor.security import SecurityContext
from dms.capability.context import CapabilityContext
from dms.ensemble.config import EnsembleConfig
from dms.identity.ids import did_of
from dms.identity.keys import PrivateKey
from dms.identity.trust import Provider, TrustContext
from dms.node import payloads as p
from dms.orchestrator.messages import Reply
from dms.testing.actors import key_of
from dms.types.ids import EnsembleID

if TYPE_CHECKING:
    from dms.testing.nodes import SimulatedNode

DEPLOY_TIMEOUT_S = 135.0
"""Two minutes and the reserve that the node keeps back."""

R = TypeVar("R")


class UserClient:
    """Somebody who invokes behaviours of a node from beside it, with a key and the authority that it has."""

    def __init__(self, host: SimulatedNode, key: PrivateKey) -> None:
        self._host = host
        self._key = key
        self._sessions = 0

    async def invoke(
        self,
        behaviour: str,
        payload: object,
        reply: type[R],
        *,
        timeout_s: float = 60.0,
        to: SimulatedNode | None = None,
    ) -> R:
        """One request with a fresh session key, as the command line makes it.

        :raises InvocationTimeout: no answer.
        """
        self._sessions += 1
        inbox = f"user-{self._sessions}"
        context = CapabilityContext(
            "user", did_of(self._key.public), TrustContext(Provider.of_key(self._key)), clock_ns=self._host.clock_ns
        )
        session = key_of(f"{inbox}/{self._host.name}/{trio.current_time()}")
        actor = Actor(SecurityContext(session, context, clock_ns=self._host.clock_ns), self._host.network, inbox=inbox)
        await self._host.cluster.nursery.start(actor.run)
        try:
            handle = (to or self._host).node.root.handle
            return await actor.invoke(handle, behaviour, payload, reply, timeout_s=timeout_s)
        finally:
            actor.stop()

    async def call(self, name: str, payload: object, reply: type[R], *, timeout_s: float = 60.0) -> R:
        """One behaviour of ``/dms/node/deployment``."""
        return await self.invoke(f"/dms/node/deployment/{name}", payload, reply, timeout_s=timeout_s)

    async def deploy(self, config: EnsembleConfig, *, timeout_s: float = DEPLOY_TIMEOUT_S) -> EnsembleID:
        """Submit an ensemble; its id."""
        reply = await self.call("new", p.NewDeployment(ensemble=config), p.NewDeploymentReply, timeout_s=timeout_s)
        assert reply.status == "OK", reply.error
        return EnsembleID(reply.ensemble_id)

    async def status(self, ensemble: EnsembleID) -> p.StatusReply:
        """Where a deployment is."""
        return await self.call("status", p.DeploymentRequest(id=ensemble), p.StatusReply)

    async def shutdown(self, ensemble: EnsembleID) -> Reply:
        """End a deployment."""
        return await self.call("shutdown", p.DeploymentRequest(id=ensemble), Reply)

    async def events(self, ensemble: EnsembleID) -> tuple[p.DeploymentEvent, ...]:
        """All that happened to it."""
        return (await self.call("events", p.EventsRequest(id=ensemble), p.EventsReply)).events

    async def log(self, ensemble: EnsembleID, key: str, stream: str = "stdout") -> bytes:
        """A whole log of an allocation."""
        data = b""
        while True:
            request = p.LogsRequest(ensemble_id=ensemble, allocation=key, stream=stream, offset=len(data))
            piece = await self.call("logs", request, p.LogsReply)
            assert not piece.error, piece.error
            data += piece.data
            if piece.eof or not piece.data:
                return data
