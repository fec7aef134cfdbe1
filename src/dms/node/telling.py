"""Telling whoever asked for bids why this machine does not bid: to few, seldom, and briefly.

Reasons show what the machine has and what it is busy with. So only those hear of them who may deploy here in general,
not merely ask for bids, and only if they ask; the owner can switch it off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dms.actor.behaviour import Message
from dms.actor.envelope import Envelope
from dms.actor.rates import Buckets, Rate
from dms.actor.security import SecurityContext
from dms.capability.paths import any_implies
from dms.identity.ids import NO_DID
from dms.node.reasons import Reason, Rule
from dms.orchestrator import messages
from dms.orchestrator.bidding.refusals import MAX_GROUPS, MAX_NODES, RefusalMessage, Refusals, RefusedNodes
from dms.types.ids import Capability, PeerID

DEPLOYMENT: Final = "/dms/deployment"
REASONS_RATE: Final = Rate(1.0, 10.0)
"""Answers with reasons, per peer."""
UNTOLD: Final = frozenset({Rule.NOT_OFFERED, Rule.STARTING, Rule.EXCLUDED, Rule.TAKEN})
"""What nobody is told: most of a network offers nothing, and answers must not grow with it."""


class Teller:
    """Decides who is told, and how often."""

    def __init__(self, security: SecurityContext, *, is_willing: bool = True, rate: Rate = REASONS_RATE) -> None:
        self._security = security
        self.is_willing = is_willing
        """Whether anybody is told anything."""
        self._buckets: Buckets[PeerID] = Buckets(rate)

    def answer(
        self, message: Message[messages.BidRequest], refused: Mapping[Reason, Sequence[str]], now_s: float
    ) -> RefusalMessage | None:
        """What the sender is told; ``None``: nothing. ``refused``: reasons, and the nodes that each kept away."""
        told = {reason: nodes for reason, nodes in refused.items() if reason.rule not in UNTOLD}
        request = message.payload
        if not told or not request.wants_reasons or not self.is_willing:
            return None
        if not self._buckets.take(message.peer, now_s) or not may_deploy(self._security, message.envelope):
            return None
        return refusal_message(request, told)


def refusal_message(request: messages.BidRequest, refused: Mapping[Reason, Sequence[str]]) -> RefusalMessage:
    """The answer, cut to its bounds."""
    groups, left = [], MAX_NODES
    for reason, nodes in list(refused.items())[:MAX_GROUPS]:
        names = tuple(nodes[:left])
        left -= len(names)
        if names:
            groups.append(RefusedNodes(rule=reason.rule.value, text=reason.text, hint=reason.hint, nodes=names))
    return RefusalMessage(refusals=Refusals(ensemble_id=request.id, nonce=request.nonce, refused=tuple(groups)))


def may_deploy(security: SecurityContext, envelope: Envelope) -> bool:
    """Whether the sender of a bid request that was admitted holds :data:`DEPLOYMENT` here.

    What it shows is made for the request alone; what counts is what its identity was given by others.
    """
    sender, topic = envelope.from_, envelope.opt.topic
    audience = NO_DID if topic else security.id
    decision = security.capabilities.decide(
        security.did, sender.id, audience, [Capability(messages.BID_REQUEST)], origin=sender.did, topic=topic
    )
    if not decision.allowed or decision.token is None:
        return False
    for level in decision.token.levels:
        if level.iss != sender.did:
            return any_implies(level.caps, DEPLOYMENT)
    return True
