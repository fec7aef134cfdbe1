"""Why we are as reachable as we are, in one line for people. Pure."""

from __future__ import annotations

from dms.network.libp2p.reach.verdict import Verdict
from dms.network.reachability import Reach


def why(verdict: Verdict, *, candidates: bool, servers: int, relays: int, only_local: bool) -> str:
    """The reason, from what was found."""
    if verdict.status is Reach.PUBLIC:
        return f"{_peers(verdict.confidence)} dialled this node and reached it"
    if verdict.status is Reach.PRIVATE:
        through = f"; others come through {relays} relay{'s' * (relays != 1)}" if relays else ""
        return f"{_peers(verdict.confidence)} tried to dial this node and could not{through}"
    if only_local:
        return "the node listens on this machine only"
    if not candidates:
        return "nobody told a public address of this node"
    if not servers:
        return "no connected peer dials others back to try"
    return "no peer, or as many as said the opposite, could tell"


def _peers(count: int) -> str:
    return f"{count} peer{'s' * (count != 1)}"
