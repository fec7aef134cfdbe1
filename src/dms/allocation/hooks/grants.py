"""What the orchestrator may do with an allocation, granted when it is made and renewed at half life.

Granted to the orchestrator's DID (``spec/security.md`` 5.9): ``/dms/ensemble/<id>`` at the node, ``/dms/allocation`` at
the allocation. A grant that lived exactly as long as its renewal interval would lapse while messages are under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dms.actor.security import SecurityContext
from dms.allocation.hooks.hook import Hook
from dms.allocation.messages import NAMESPACE
from dms.identity.ids import DID, ActorID, did_of
from dms.types.ids import Capability, EnsembleID

if TYPE_CHECKING:
    from dms.allocation.allocation import Allocation

LIFETIME_S = 3600.0
NS_PER_S = 10**9


class GrantsHook(Hook):
    """Grants at once, and again every half hour for as long as the allocation exists."""

    def __init__(self, node: SecurityContext, own: ActorID, orchestrator: DID, ensemble: EnsembleID) -> None:
        self._node = node
        self._own = own
        self._orchestrator = orchestrator
        self._ensemble = ensemble

    def grant(self) -> None:
        """Let the orchestrator act, for an hour from now."""
        lifetime_ns = int(LIFETIME_S * NS_PER_S)
        node_caps = [Capability(f"/dms/ensemble/{self._ensemble}")]
        self._node.grant(self._orchestrator, did_of(self._node.id.public_key()), node_caps, lifetime_ns)
        self._node.grant(self._orchestrator, did_of(self._own.public_key()), [Capability(NAMESPACE)], lifetime_ns)

    async def keep(self, allocation: Allocation) -> None:
        """Renew until cancelled."""
        while True:
            self.grant()
            await trio.sleep(LIFETIME_S / 2)
