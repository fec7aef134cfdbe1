"""What the events of a deployment tell about who did not host which node, and why; pure.

Events are for people and differ from version to version: what is not understood is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dms.orchestrator.bidding.refusals import Hearing, RefusedNodes
from dms.orchestrator.explaining.report import PeerReason
from dms.store import JournalEntry
from dms.types.ids import PeerID

ANY_NODE = ""
MAX_HEARD = 5_000

COMMIT, ALLOCATE, START, BAD_BID, UNREACHABLE = "commit", "allocate", "start", "bad-bid", "unreachable"
"""Rules beside those of the matching and those of the peers."""

_HINTS = {
    COMMIT: "it is asked again, and left out once it has failed twice",
    ALLOCATE: "it is asked again, and left out once it has failed twice",
    START: "nunet logs may tell more; a start that fails everywhere is the ensemble's fault",
    BAD_BID: "its owner should look at the version and the clock of that node",
    UNREACHABLE: "look whether it is up: nunet actor cmd /dms/node/peers/ping --host PEER",
}
_OUTCOMES = {
    "commits_done": (COMMIT, "refused"),
    "allocates_done": (ALLOCATE, "refused"),
    "starts_done": (START, "failed"),
}


@dataclass(slots=True)
class Heard:
    """The last word of each peer about each node; under :data:`ANY_NODE` what concerns the peer as such."""

    by_node: dict[str, dict[PeerID, PeerReason]] = field(default_factory=dict)
    count: int = 0

    def add(self, node: str, reason: PeerReason) -> None:
        """Take note; a later word replaces an earlier one."""
        peers = self.by_node.setdefault(node, {})
        if reason.peer not in peers:
            if self.count >= MAX_HEARD:
                return
            self.count += 1
        peers[reason.peer] = reason

    def forget(self, node: str, peer: PeerID) -> None:
        """It has bid after all; but that it broke a bid remains true."""
        known = self.by_node.get(node, {}).get(peer)
        if known is not None and known.rule not in (COMMIT, ALLOCATE, START):
            del self.by_node[node][peer]
            self.count -= 1

    def about(self, *names: str) -> dict[PeerID, PeerReason]:
        """The reasons for a node, by any of its names; later names win."""
        return {peer: reason for name in names for peer, reason in self.by_node.get(name, {}).items()}


def heard_from(hearing: Hearing) -> Heard:
    """The answers to the last bid requests."""
    heard = Heard()
    for peer, node, group in hearing:
        heard.add(node, _reason(peer, group))
    return heard


def heard_in(entries: Iterable[JournalEntry]) -> Heard:
    """All that a deployment's journal tells."""
    heard, chosen = Heard(), dict[str, PeerID]()
    for entry in entries:
        if not isinstance(entry.payload, dict):
            continue
        try:
            if entry.kind == "bids_collected":
                chosen = {str(node): PeerID(peer) for node, peer in (entry.payload.get("chosen") or {}).items()}
            for node, reason in _told(entry.kind, entry.payload, chosen):
                heard.add(node, reason)
            if entry.kind == "bid_received":
                heard.forget(str(entry.payload["node"]), PeerID(entry.payload["peer"]))
        except (KeyError, TypeError, AttributeError):  # another version's
            continue
    return heard


def _told(kind: str, detail: Mapping[str, Any], chosen: Mapping[str, PeerID]) -> Iterator[tuple[str, PeerReason]]:
    if kind == "bid_declined":
        for node in detail["nodes"]:
            reason = PeerReason(
                peer=PeerID(detail["peer"]),
                rule=str(detail["rule"]),
                text=str(detail["reason"]),
                hint=str(detail.get("hint", "")),
            )
            yield str(node), reason
    elif kind in ("bid_refused", "peer_unreachable"):
        rule = BAD_BID if kind == "bid_refused" else UNREACHABLE
        text = str(detail["reason"])
        yield ANY_NODE, PeerReason(peer=PeerID(detail["peer"]), rule=rule, text=text, hint=_HINTS[rule])
    elif kind in _OUTCOMES:
        rule, member = _OUTCOMES[kind]
        for key, text in (detail.get(member) or {}).items():
            node = str(key).partition(".")[0]
            peer = chosen.get(node)
            if peer:
                yield node, PeerReason(peer=peer, rule=rule, text=f"{key}: {text}"[:500], hint=_HINTS[rule])


def _reason(peer: PeerID, group: RefusedNodes) -> PeerReason:
    return PeerReason(peer=peer, rule=group.rule, text=group.text, hint=group.hint)
