"""Capabilities of a node: ``/dms/cap/*`` (``spec/security.md`` 5.10).

What changes anchors is on the disk before it is answered, and is merged with what the command line writes meanwhile.
Roots cannot be set from afar. The original reads them and ignores them; here the whole request is refused, so that
nobody believes that they were set: whoever becomes a root rules the node, which is for its owner to say, at the machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.capability.context import CapabilityContext
from dms.capability.errors import NotAuthorized
from dms.capability.token import TokenList
from dms.identity.errors import InvalidDID
from dms.identity.ids import DID
from dms.node import capability_payloads as p
from dms.node.capability_file import AnchorKeeper
from dms.node.revocation_spread import MISSED, RevocationSpread
from dms.observe import catalogue, get_logger
from dms.types.errors import BadInput, NotFound
from dms.types.ids import Capability

NAMESPACE = "/dms/cap"
REVOKE_BROADCAST = f"{NAMESPACE}/revoke/broadcast"
REVOCATION_TOPIC = "/nunet/revocation"

log = get_logger(__name__)


class CapabilityBehaviours:
    """Anchors shown and changed, revocations taken up, decisions explained."""

    def __init__(self, anchors: AnchorKeeper, spread: RevocationSpread) -> None:
        self._anchors = anchors
        self._spread = spread

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        table: tuple[tuple[str, Callable[[Message[Any]], Awaitable[object]], Any, Callable[[str], object]], ...] = (
            ("list", self._list, p.ListAnchors, _no_anchors),
            ("anchor", self._anchor, p.AnchorRequest, _failed),
            ("provide/anchor", self._provide, p.TokenRequest, _failed),
            ("require/anchor", self._require, p.TokenRequest, _failed),
            ("revoke/anchor", self._revoke, p.TokenRequest, _failed),
            ("explain", self._explain, p.ExplainRequest, lambda error: p.ExplainReply(ok=False, error=error)),
        )
        self._events = actor.events
        for name, handler, payload, error_reply in table:
            actor.on(f"{NAMESPACE}/{name}", handler, payload=payload, error_reply=error_reply)
        actor.on(REVOKE_BROADCAST, self._published, payload=p.TokenRequest, topic=REVOCATION_TOPIC, error_reply=_failed)
        actor.on(
            MISSED,
            self._missed,
            payload=p.MissedRequest,
            error_reply=lambda error: p.MissedReply(ok=False, error=error),
        )

    async def _list(self, message: Message[p.ListAnchors]) -> p.Anchors:
        context = self._anchors.context
        if message.payload.context not in ("", context.name):
            raise NotFound(
                f"this node runs with the context '{context.name}' and opens no other",
                hint="nunet cap list --context NAME shows a context where its file lies",
            )
        roots, require, provide, revoke = context.list_roots()
        return p.Anchors(ok=True, roots=roots, require=require, provide=provide, revoke=revoke)

    async def _anchor(self, message: Message[p.AnchorRequest]) -> p.CapReply:
        request = message.payload
        if any(request.root or ()):
            raise NotAuthorized(
                "not authorized: roots are not anchored from afar",
                hint="run nunet cap anchor --context dms --root DID on the machine itself",
            )
        if request.revoke and (request.require or request.provide):
            raise BadInput("revocations are anchored apart from other tokens", hint=f"call {NAMESPACE}/revoke/anchor")
        if request.revoke:
            await self._spread.anchor(request.revoke, message.peer, message.sender.did)
        await self._change(message, request.require, request.provide)
        return p.CapReply(ok=True)

    async def _provide(self, message: Message[p.TokenRequest]) -> p.CapReply:
        await self._change(message, TokenList(), _some(message.payload.token))
        return p.CapReply(ok=True)

    async def _require(self, message: Message[p.TokenRequest]) -> p.CapReply:
        await self._change(message, _some(message.payload.token), TokenList())
        return p.CapReply(ok=True)

    async def _revoke(self, message: Message[p.TokenRequest]) -> p.CapReply:
        await self._spread.anchor(_some(message.payload.token), message.peer, message.sender.did)
        return p.CapReply(ok=True)

    async def _published(self, message: Message[p.TokenRequest]) -> p.CapReply:
        await self._spread.publish_received(_some(message.payload.token), message.peer)
        return p.CapReply(ok=True)

    async def _missed(self, message: Message[p.MissedRequest]) -> p.MissedReply:
        return self._spread.missed(message.payload, message.peer)

    async def _explain(self, message: Message[p.ExplainRequest]) -> p.ExplainReply:
        request, context = message.payload, self._anchors.context
        decision = context.explain(
            _did(request.from_, "from"),
            [Capability(request.behavior)],
            audience=_did(request.audience, "audience") if request.audience else context.did,
            topic=request.topic,
            tokens=request.token,
        )
        return p.ExplainReply(ok=True, decision=decision.as_data())

    async def _change(self, message: Message[Any], require: TokenList, provide: TokenList) -> None:
        def add(context: CapabilityContext) -> None:
            context.add_roots(require=require, provide=provide)

        if not (require or provide):
            return
        await self._anchors.change(add)
        log.info("anchored", by=str(message.sender.did), require=len(require), provide=len(provide))
        for anchor, tokens in (("require", require), ("provide", provide)):
            if tokens:
                self._events.emit(catalogue.ANCHORS_CHANGED, anchor=anchor, by=str(message.sender.did))


def _some(tokens: TokenList) -> TokenList:
    if not tokens:
        raise BadInput("the request holds no token", hint='{"Token":{"tok":[…]}}')
    return tokens


def _did(text: str, what: str) -> DID:
    did = DID.parse(text)
    if not did:
        raise InvalidDID(f"invalid {what} DID: empty")
    return did


def _failed(error: str) -> p.CapReply:
    return p.CapReply(ok=False, error=error)


def _no_anchors(error: str) -> p.Anchors:
    return p.Anchors(ok=False, error=error, require=TokenList(), provide=TokenList(), revoke=TokenList())
