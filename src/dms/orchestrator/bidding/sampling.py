"""Who of many answers a request, and when: so that a request to thousands is answered by few (``spec/orchestration.md`` 12.1).

Each peer draws a number from the request's nonce and its own id, as good as random and the same for whoever works it
out. It answers if the number is below the request's *share*: how many bidders are wanted, over how many peers there are.
So nothing must be agreed upon, and whoever asked can tell if somebody answered out of turn. If too few answered, the
request is repeated under the same nonce with a larger share: those that had answered keep still.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from dms.orchestrator.messages import Sampling
from dms.types.ids import PeerID

GROWTH = 4
"""Each repetition asks so many times more."""
MAX_JITTER_S = 1.0
"""Nobody waits longer before it answers, whatever it is asked for."""
PER_ANSWER_S = 0.004
"""Answers are spread so far apart on average."""
UNSPREAD = 8
"""So few answers need not be spread."""
CLOSEST = 20
_SPACE = 1 << 64


def draw(nonce: str, peer: PeerID, purpose: str = "turn") -> float:
    """The peer's number for this request: at least 0 and less than 1."""
    digest = hashlib.sha256(f"{purpose}\0{nonce}\0{peer}".encode(errors="surrogatepass")).digest()
    return (int.from_bytes(digest[:8]) >> 11) / (1 << 53)


def share(sampling: Sampling, known: int = 0) -> float:
    """The part of all peers that shall answer; who knows of more peers than whoever asks takes that number."""
    if sampling.target < 1:
        return 1.0
    size = max(1, sampling.size, known)
    wanted: int = sampling.target * GROWTH ** min(max(sampling.stage, 0), 16)
    return min(1.0, wanted / size)


def delay_s(sampling: Sampling, nonce: str, peer: PeerID) -> float:
    """How long this peer waits before it answers."""
    spread_s = min(MAX_JITTER_S, max(0, sampling.jitter_ms) / 1000)
    return spread_s * draw(nonce, peer, "delay")


def jitter_ms(expected: float) -> int:
    """Over which time so many answers shall be spread."""
    return 0 if expected <= UNSPREAD else int(1000 * min(MAX_JITTER_S / 2, expected * PER_ANSWER_S))


def network_size(own: PeerID, known: Iterable[PeerID]) -> int:
    """How many peers there are, ourselves counted: at least those known, and what their distances tell.

    Peers know those that are near them in the space of keys; where the nearest lie so close to us there must be many.
    """
    here = _place(own)
    distances = sorted(_place(peer) ^ here for peer in known if peer != own)
    if len(distances) < CLOSEST:
        return len(distances) + 1
    reach = max(1, distances[CLOSEST - 1])
    return max(len(distances) + 1, CLOSEST * _SPACE // reach)


def _place(peer: PeerID) -> int:
    return int.from_bytes(hashlib.sha256(peer.encode()).digest()[:8])
