"""Who answers: few, whatever the size of the network, and the same for whoever works it out."""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.sampling import MAX_JITTER_S, delay_s, draw, jitter_ms, network_size, share
from dms.orchestrator.messages import Sampling
from dms.testing.actors import key_of
from dms.types.ids import PeerID

PEERS = [PeerID(f"12D3KooW{number}") for number in range(5_000)]


def drawn(sampling: Sampling, peers: list[PeerID], nonce: str = "n") -> int:
    return sum(draw(nonce, peer) < share(sampling) for peer in peers)


def test_about_as_many_answer_as_are_wanted_however_many_there_are() -> None:
    for size in (100, 1_000, 5_000):
        assert 30 < drawn(Sampling(target=50, size=size), PEERS[:size]) < 80


def test_each_repetition_reaches_more_and_the_last_all() -> None:
    first = Sampling(target=50, size=5_000)
    reached = [drawn(replace(first, stage=stage), PEERS) for stage in range(4)]
    assert reached == sorted(reached)
    assert reached[1] > 2 * reached[0]
    assert reached[3] > 2_000
    assert drawn(Sampling(target=0, stage=3), PEERS) == len(PEERS)
    again = [peer for peer in PEERS if draw("n", peer) < share(first)]
    assert all(draw("n", peer) < share(replace(first, stage=1)) for peer in again), "those that answered are among them"


def test_another_request_draws_others() -> None:
    few = Sampling(target=50, size=5_000)
    one, two = ({peer for peer in PEERS if draw(nonce, peer) < share(few)} for nonce in ("1", "2"))
    assert len(one & two) < 10


def test_who_knows_of_more_peers_answers_more_seldom_unless_all_are_asked() -> None:
    few = Sampling(target=50, size=10)
    assert share(few) == 1.0
    assert share(few, known=5_000) == 0.01
    assert share(replace(few, target=0), known=5_000) == 1.0


def test_nonsense_in_a_request_is_harmless() -> None:
    for odd in (
        Sampling(target=-5, size=-1, stage=-7, jitter_ms=-1),
        Sampling(target=1 << 60, size=1, stage=1 << 60, jitter_ms=1 << 60),
        Sampling(target=1, size=1 << 62, stage=1 << 62),
    ):
        assert 0 <= share(odd) <= 1
        assert 0 <= delay_s(odd, "\udc80", PEERS[0]) <= MAX_JITTER_S


def test_answers_are_spread_when_many_are_expected() -> None:
    assert jitter_ms(3) == 0
    spread = Sampling(jitter_ms=jitter_ms(100))
    delays = sorted(delay_s(spread, "n", peer) for peer in PEERS[:100])
    assert delays[0] < 0.05
    assert 0.3 < delays[-1] <= 0.4


def test_the_size_of_a_network_shows_in_how_near_the_nearest_are() -> None:
    ids = [peer_id_of(key_of(f"peer {number}").public) for number in range(600)]
    own, others = ids[0], ids[1:]
    assert network_size(own, others[:5]) == 6
    assert 600 <= network_size(own, others) < 1_200, "who knows all"

    def place(peer: PeerID) -> int:
        return int.from_bytes(hashlib.sha256(peer.encode()).digest()[:8])

    nearest = sorted(others, key=lambda peer: place(peer) ^ place(own))[:30]
    assert 300 < network_size(own, nearest) < 1_200, "who knows only his neighbours"
