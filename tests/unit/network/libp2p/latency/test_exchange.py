"""Coordinates on the wire, and what a node does with those of others."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dms.network.coordinates import ORIGIN, Coordinate
from dms.network.errors import BadFrame, PeerUnreachable
from dms.network.libp2p.latency.exchange import (
    EARLY_ROUNDS,
    EARLY_S,
    EVERY_S,
    LONGEST_S,
    PAIR_GAP_S,
    PeerLatency,
    decode_coordinate,
    encode_coordinate,
)
from dms.types.ids import PeerID

OWN, ANNA, BEN = PeerID("own"), PeerID("anna"), PeerID("ben")
small = st.floats(-1e4, 1e4)


@given(st.tuples(small, small, small, small), st.floats(0, 5_000), st.floats(0, 1.5))
def test_a_coordinate_arrives_as_it_was_to_a_microsecond(
    vector: tuple[float, ...], height_ms: float, error: float
) -> None:
    sent = Coordinate(vector, height_ms, error)
    back = decode_coordinate(encode_coordinate(sent))
    assert back.vector == pytest.approx(sent.vector, abs=1e-3)
    assert back.height_ms == pytest.approx(sent.height_ms, abs=1e-3)
    assert back.error == pytest.approx(sent.error, abs=1e-4)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=6)
    ).map(lambda value: json.dumps({"v": value, "h": value, "e": value}).encode())
    | st.just(b"[" * 500)
    | st.just(b'{"v": [0,0,0,0], "h": 1e400, "e": 0}')
    | st.just(b'{"v": [0,0,0,0,0], "h": 1, "e": 0}')
    | st.just(b'{"v": ["0","0","0","0"], "h": 1, "e": 0}')
)
def test_anything_else_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_coordinate(data)


class Peers:
    """Neighbours that answer, or do not."""

    def __init__(self) -> None:
        self.asked: list[tuple[PeerID, float]] = []
        self.speaking = [ANNA, BEN]
        self.counters: Counter[str] = Counter()
        self.latency = PeerLatency(
            OWN,
            random.Random(1),
            self.counters,
            connected=lambda: [ANNA, BEN],
            speaking=lambda: self.speaking,
            ask=self.ask,
        )

    async def ask(self, peer: PeerID, question: bytes, limit_bytes: int, timeout_s: float) -> bytes:
        self.asked.append((peer, trio.current_time()))
        decode_coordinate(question)
        assert len(question) <= limit_bytes
        if peer == BEN:
            raise PeerUnreachable("he does not answer")
        return encode_coordinate(Coordinate((10.0, 0.0, 0.0, 0.0), 1.0, 0.1))


async def test_whoever_was_measured_is_asked_quickly_at_first_and_seldom_later(autojump_clock: MockClock) -> None:
    peers = Peers()
    peers.latency.measured(ANNA, 0.02)
    peers.latency.measured(BEN, 0.02)
    with trio.move_on_after(2 * EARLY_ROUNDS * EARLY_S + 30 * LONGEST_S):
        await peers.latency.exchange()
    assert {peer for peer, _ in peers.asked} == {ANNA, BEN}
    for peer in (ANNA, BEN):
        at_s = [when_s for who, when_s in peers.asked if who == peer]
        gaps = [b - a for a, b in pairwise(at_s)]
        assert min(gaps) >= PAIR_GAP_S
        assert gaps[0] <= PAIR_GAP_S + 2 * EARLY_S
    gaps = [b - a for (_, a), (_, b) in pairwise(peers.asked)]
    late = [b - a for (_, a), (_, b) in pairwise(peers.asked) if a > 1.2 * EARLY_ROUNDS * EARLY_S]
    assert min(late) >= EVERY_S * 0.8 - 1e-9
    assert min(gaps[-5:]) >= LONGEST_S * 0.8 - 1e-9, "where nothing changes, ever less often"
    assert peers.latency.coordinate != ORIGIN
    assert peers.latency.coordinate_of(ANNA) is not None
    assert peers.latency.coordinate_of(BEN) is None
    assert peers.counters["coordinates not told"] > 0
    assert sorted(peers.latency.table()) == [ANNA, BEN]


async def test_who_was_just_met_is_asked_at_once(autojump_clock: MockClock) -> None:
    peers = Peers()
    with trio.move_on_after(EARLY_S / 2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peers.latency.exchange)
            await trio.sleep(0.01)
            peers.latency.met(ANNA)
    assert [peer for peer, _ in peers.asked] == [ANNA]


async def test_nobody_is_asked_who_does_not_know_the_protocol(autojump_clock: MockClock) -> None:
    peers = Peers()
    peers.speaking = []
    peers.latency.measured(ANNA, 0.02)
    peers.latency.met(ANNA)
    with trio.move_on_after(30.0):
        await peers.latency.exchange()
    assert peers.asked == []
