"""``nunet peers latency``: how near the connected peers are; and the options that choose peers by that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dms.node.nearness_payloads import PeerChoice, PeerDistance

COLUMNS = ("PEER", "NAME", "RTT", "VARIES BY", "AT LEAST", "ESTIMATED", "MEASURED")

MaxRTT = Annotated[
    str | None,
    typer.Option("--max-rtt", metavar="DURATION", help="Only connected peers that answer within this, such as 50ms."),
]
ConnectedFor = Annotated[
    str | None,
    typer.Option("--connected-for", metavar="DURATION", help="Only peers that have been connected for so long."),
]
Nearest = Annotated[
    int, typer.Option("--nearest", metavar="N", min=0, help="No more than so many peers, the nearest ones.")
]


def choice(max_rtt: str | None, connected_for: str | None, nearest: int) -> PeerChoice:
    """What the options ask for.

    :raises BadInput: one of them is no duration.
    """
    from dms.node.nearness_payloads import PeerChoice
    from dms.types.units import parse_duration_ns

    return PeerChoice(
        max_rtt_us=parse_duration_ns(max_rtt, what="round trip") // 1000 if max_rtt else 0,
        connected_for_ms=parse_duration_ns(connected_for, what="time connected") // 10**6 if connected_for else 0,
        nearest=nearest,
    )


def row(peer: PeerDistance, name_peer: Callable[[str], str]) -> tuple[str, ...]:
    """One line of the table."""
    name = name_peer(peer.id)
    return (
        peer.id,
        "" if name.startswith("…") else name,
        _ms(peer.smoothed_us),
        _ms(peer.variation_us),
        _ms(peer.minimum_us),
        _ms(peer.estimated_us),
        f"{peer.samples} times" if peer.samples else "",
    )


def _ms(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms" if microseconds else ""
