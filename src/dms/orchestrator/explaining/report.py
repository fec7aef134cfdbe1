"""The report on who hosts what and why nobody else: what a deployment keeps, and what travels to those who ask."""

from __future__ import annotations

from dms.types.gojson import Wire
from dms.types.ids import PeerID


class PeerReason(Wire):
    """Why one peer does not host a node: a name for programs, text and hint for people."""

    peer: PeerID
    rule: str
    text: str
    hint: str = ""


class NodeReasons(Wire):
    """One node, and ``count - 1`` others that want the same: where it is or would be, and why nowhere else."""

    node: str
    count: int = 1
    peer: PeerID = PeerID("")
    reasons: tuple[PeerReason, ...] = ()
    could: tuple[PeerID, ...] = ()
    """Peers that would host it, if the others had a place, too."""
    more: int = 0
    """Peers that are left out here."""


class Connection(Wire):
    """Between two peers: the round trip, and the bandwidth where that matters; ``error`` says why it is not known."""

    a: PeerID
    b: PeerID
    rtt_ms: float | None = None
    bandwidth_bps: float | None = None
    error: str = ""


class Report(Wire):
    """The answer. ``peers``: what concerns peers whatever the node; ``is_proven``: no placement can exist."""

    summary: str
    is_placed: bool = False
    is_proven: bool = False
    unmeasured: int = 0
    """Pairs of peers that would have to be measured before this is certain."""
    nodes: tuple[NodeReasons, ...] = ()
    more_nodes: int = 0
    peers: tuple[PeerReason, ...] = ()
    mends: tuple[str, ...] = ()
    currency: str = ""
    """In which prices were compared; empty: nobody asked for anything."""
    uncompared: tuple[PeerID, ...] = ()
    """Peers that ask in other currencies only: they count as much as the dearest."""
    measured: tuple[Connection, ...] = ()
    """Connections that were measured for it, or could not be."""
