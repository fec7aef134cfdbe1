"""Why peers do not bid: what they answer to a bid request that asks for reasons, and what was heard of it.

The answer goes where bids go, to ``/dms/deployment/bid``. Only who asked for reasons gets one, so that other versions,
which do not ask, never see it. It is not signed apart: the envelope is, and nobody shows it to others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import msgspec

from dms.orchestrator.errors import InvalidBid
from dms.types import gojson
from dms.types.errors import BadJSON
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID, PeerID

MAX_GROUPS = 20
"""Different reasons in one answer."""
MAX_NODES = 1_000
"""In all the reasons of one answer."""
MAX_RULE_CHARS = 40
MAX_TEXT_CHARS = 300
MAX_PEERS = 1_000
"""Whose reasons one deployment remembers."""
MAX_TOLD = 200
"""Reasons that go into the events of one deployment."""
_SHOWN_NODES = 20


class RefusedNodes(Wire):
    """Nodes that the peer would not host, all by one rule: a name for programs, text and hint for people."""

    rule: str
    text: str
    hint: str = ""
    nodes: tuple[str, ...] = ()


class Refusals(Wire):
    """All the reasons of one peer in one round."""

    ensemble_id: EnsembleID = msgspec.field(name="EnsembleID")
    nonce: str = msgspec.field(name="Nonce")
    refused: tuple[RefusedNodes, ...] = msgspec.field(name="Refused")


class RefusalMessage(Wire):
    """The payload."""

    refusals: Refusals = msgspec.field(name="Refusals")


_PREFIX = b'{"Refusals":'


def is_refusal(data: bytes) -> bool:
    """Whether what came to where bids go is an answer of this kind."""
    return data.startswith(_PREFIX)


def read_refusals(data: bytes, *, ensemble: EnsembleID, nonce: str, known: Collection[str]) -> tuple[RefusedNodes, ...]:
    """What a peer answered, about ``known`` nodes only, cut to its bounds and printable.

    :raises InvalidBid: it is no such answer, or one to another question.
    """
    try:
        message = gojson.decode(data, RefusalMessage).refusals
    except BadJSON as exc:
        raise InvalidBid(f"failed to decode the reasons for no bid: {exc.message}") from None
    if message.ensemble_id != ensemble or message.nonce != nonce:
        raise InvalidBid("reasons for no bid in another round")
    found, left = [], MAX_NODES
    for group in message.refused[:MAX_GROUPS]:
        nodes = tuple(name for name in group.nodes[:left] if name in known)
        left -= len(nodes)
        if nodes:
            found.append(
                RefusedNodes(
                    rule=_printable(group.rule, MAX_RULE_CHARS),
                    text=_printable(group.text, MAX_TEXT_CHARS),
                    hint=_printable(group.hint, MAX_TEXT_CHARS),
                    nodes=nodes,
                )
            )
    return tuple(found)


@dataclass(slots=True)
class Hearing:
    """The last reasons of every peer, by node; in memory. What is new of it goes into the events."""

    by_peer: dict[PeerID, dict[str, RefusedNodes]] = field(default_factory=dict)
    told: int = 0

    def take(self, peer: PeerID, refused: Collection[RefusedNodes]) -> tuple[dict[str, object], ...]:
        """Remember what a peer answered; what of it is worth an event."""
        if peer not in self.by_peer and len(self.by_peer) >= MAX_PEERS:
            return ()
        known = self.by_peer.get(peer, {})
        now = {node: group for group in refused for node in group.nodes}
        self.by_peer[peer] = now
        news = []
        for group in refused:
            is_new = any(
                node not in known or (known[node].rule, known[node].text) != (group.rule, group.text)
                for node in group.nodes
            )
            if is_new and self.told < MAX_TOLD:
                self.told += 1
                news.append(_describe(peer, group))
        return tuple(news)

    def forget(self, peer: PeerID, node: str) -> None:
        """The peer has bid for the node after all."""
        self.by_peer.get(peer, {}).pop(node, None)

    def __iter__(self) -> Iterator[tuple[PeerID, str, RefusedNodes]]:
        for peer, nodes in self.by_peer.items():
            for node, group in nodes.items():
                yield peer, node, group


def _describe(peer: PeerID, group: RefusedNodes) -> dict[str, object]:
    out: dict[str, object] = {"peer": peer, "nodes": list(group.nodes[:_SHOWN_NODES]), "rule": group.rule}
    if len(group.nodes) > _SHOWN_NODES:
        out["more_nodes"] = len(group.nodes) - _SHOWN_NODES
    return out | {"reason": group.text} | ({"hint": group.hint} if group.hint else {})


def _printable(text: str, limit: int) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:limit])
