"""``nunet peers --scores``: what broadcasting thinks of each peer, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dms.node.peer_payloads import PeerScores, ScoreSnapshot

COLUMNS = ("PEER", "NAME", "SCORE", "OURS", "TOPICS", "REJECTED", "BREACHES", "CROWD", "IP")

_MICRO = 1e-3
"""The time in a mesh adds less than this: it shows that somebody is there, not how good it is."""


def rows(scores: PeerScores, name_peer: Callable[[str], str]) -> list[tuple[str, ...]]:
    """A row for each peer, the worst first."""
    ordered = sorted(scores.score.items(), key=lambda item: (item[1].score, item[0]))
    return [_row(peer, score, name_peer) for peer, score in ordered]


def _row(peer: str, score: ScoreSnapshot, name_peer: Callable[[str], str]) -> tuple[str, ...]:
    name = name_peer(peer)
    rejected = sum(topic.invalid_message_deliveries for topic in score.topics.values())
    meshes = [topic.removeprefix("/nunet/") for topic, one in sorted(score.topics.items()) if one.time_in_mesh_ns]
    return (
        peer,
        "" if name.startswith("…") else name,
        f"{score.score:.2f}",
        f"{score.app_specific_score:g}",
        ", ".join(meshes),
        _with_effect(rejected, sum(topic.score for topic in score.topics.values())),
        _with_effect(score.behaviour_penalty, score.behaviour_score),
        f"{score.ip_colocation_score:.0f}" if score.ip_colocation_score else "",
        score.ip,
    )


def _with_effect(count: float, effect: float) -> str:
    """How often something happened, faded since, and what that takes away."""
    if count < _MICRO:
        return ""
    return f"{count:.1f} ({effect:.0f})" if effect <= -_MICRO else f"{count:.1f}"
