"""What the chosen providers may do at the orchestrator."""

from __future__ import annotations

from collections.abc import Callable

from dms.actor.actor import Actor
from dms.actor.grants import Grant
from dms.identity.ids import DID, did_of
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.types.ids import Capability, EnsembleID


class ProviderGrants:
    """Lets the chosen providers, and no others, push to the deployment until its end (``spec/orchestration.md`` 2.8)."""

    def __init__(self, ensemble: EnsembleID, actor: Actor, state: Callable[[], DeploymentState]) -> None:
        self._actor = actor
        self._state = state
        self._capabilities = [Capability(f"/dms/orchestrator/{ensemble}")]
        self._granted: dict[DID, Grant] = {}

    def renew(self) -> None:
        """Grant to those who are chosen now, withdraw from those who are not any more."""
        own, state = did_of(self._actor.security.id.public_key()), self._state()
        # those who shall have nothing any more, too: they are told so when they push
        bids = (*state.assignment.values(), *(one.bid for one in state.left), *state.owed)
        chosen = {bid.handle.did for bid in bids}
        for did in [did for did in self._granted if did not in chosen]:
            self._actor.withdraw(self._granted.pop(did))
        for did in chosen - self._granted.keys():
            self._granted[did] = self._actor.grant(did, own, self._capabilities)
