"""The queue in which peers take turns."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.actor.fairness import FairQueue


def test_a_flood_waits_behind_itself() -> None:
    queue = FairQueue[str, int](per_peer=1000)
    for number in range(100):
        assert queue.put("flood", number, 10)
    assert queue.put("honest", 7, 10)
    assert [queue.take() for _ in range(3)] == [("flood", 0), ("honest", 7), ("flood", 1)]


def test_a_peer_has_a_bound_of_its_own_in_count_and_in_bytes() -> None:
    queue = FairQueue[str, int](per_peer=2, per_peer_bytes=100)
    assert [queue.put("a", n, 1) for n in range(3)] == [True, True, False]
    assert [queue.put("b", n, 60) for n in range(2)] == [True, False]


def test_all_together_have_a_bound() -> None:
    queue = FairQueue[int, int](limit=3, limit_bytes=100)
    assert [queue.put(n, n, 1) for n in range(4)] == [True, True, True, False]
    queue = FairQueue[int, int](limit=3, limit_bytes=100)
    assert [queue.put(n, n, 60) for n in range(2)] == [True, False]


def test_peers_that_flood_together_leave_room_for_one_more() -> None:
    queue = FairQueue[str, int](limit=100, per_peer=100)
    for _ in range(100):
        for name in "abcde":
            queue.put(name, 0, 1)
    assert queue.put("honest", 0, 1)


def test_taking_from_an_empty_queue_is_an_error() -> None:
    with pytest.raises(IndexError):
        FairQueue[str, int]().take()


@given(st.lists(st.one_of(st.tuples(st.sampled_from("abcd"), st.integers(1, 30)), st.none()), max_size=100))
def test_nothing_is_lost_reordered_within_a_peer_or_counted_wrongly(steps: list[tuple[str, int] | None]) -> None:
    queue = FairQueue[str, int](limit=20, per_peer=8, limit_bytes=300, per_peer_bytes=120)
    waiting: dict[str, deque[tuple[int, int]]] = {name: deque() for name in "abcd"}
    for number, step in enumerate(steps):
        if step is not None:
            name, size = step
            if queue.put(name, number, size):
                waiting[name].append((number, size))
                assert len(waiting[name]) <= 8
                assert sum(s for _, s in waiting[name]) <= 120
        elif len(queue):
            name, item = queue.take()
            assert waiting[name].popleft()[0] == item
        assert len(queue) == sum(map(len, waiting.values())) <= 20
    while len(queue):
        name, item = queue.take()
        assert waiting[name].popleft()[0] == item
    assert not any(waiting.values())
