"""Whether this node reaches another: asked by orchestrators that suspect one of their providers."""

from __future__ import annotations

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.orchestrator import messages
from dms.types.errors import DMSError

PING_TIMEOUT_S = 1.0


class ReachBehaviour:
    """Answers ``/dms/deployment/reach`` for whoever may deploy here. Only peers that this node knows anyway are pinged."""

    def __init__(self, root: Actor) -> None:
        self._root = root

    def register(self) -> None:
        """Answer on the root actor."""
        self._root.on(messages.REACH, self._on_reach, payload=messages.ReachRequest)

    async def _on_reach(self, message: Message[messages.ReachRequest]) -> messages.Reply:
        network, peer = self._root.network, message.payload.peer
        if peer == network.peer_id:
            return messages.Reply(ok=True)
        if peer not in network.known_peers() and not network.is_connected(peer):
            return messages.Reply(ok=False, error="not known here")
        try:
            await network.ping(peer, timeout_s=PING_TIMEOUT_S)
        except DMSError:
            return messages.Reply(ok=False, error=messages.UNREACHED)
        return messages.Reply(ok=True)
