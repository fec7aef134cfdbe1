"""What overtakes what: commits, allocates and reverts in any order of arrival."""

from __future__ import annotations

import itertools

import pytest

from dms.identity.ids import ActorID
from dms.node.errors import StaleRequest
from dms.node.order import MEMORY_S, RequestOrder
from dms.testing.actors import key_of
from dms.types.ids import EnsembleID

E, F = EnsembleID("e" * 64), EnsembleID("f" * 64)
ONE, TWO = ActorID.of(key_of("one").public), ActorID.of(key_of("two").public)


def test_a_commit_that_its_revert_overtook_reserves_nothing() -> None:
    order = RequestOrder()
    order.revert(E, ONE, frozenset(), 5, 0.0)
    with pytest.raises(StaleRequest, match="taken back"):
        order.make(E, ONE, "a", 4, 1.0)
    order.make(E, ONE, "a", 6, 1.0)
    order.make(F, ONE, "a", 4, 1.0)
    order.make(E, TWO, "a", 4, 1.0)


def test_a_revert_of_one_allocation_is_about_no_other() -> None:
    order = RequestOrder()
    order.revert(E, ONE, frozenset({"a"}), 5, 0.0)
    order.make(E, ONE, "b", 4, 1.0)
    with pytest.raises(StaleRequest):
        order.make(E, ONE, "a", 4, 1.0)


def test_a_revert_that_the_next_attempt_overtook_takes_nothing_away() -> None:
    order = RequestOrder()
    order.make(E, ONE, "a", 6, 0.0)
    assert order.is_overtaken(E, ONE, "a", 5)
    assert not order.is_overtaken(E, ONE, "a", 7)
    assert not order.is_overtaken(E, ONE, "b", 5)


def test_in_whatever_order_messages_arrive_the_newest_decides() -> None:
    sent = [("make", 1), ("revert", 2), ("make", 3), ("revert", 4), ("make", 5)]
    for last in range(1, len(sent) + 1):
        for arrived in itertools.permutations(sent[:last]):
            order, is_held = RequestOrder(), False
            for kind, number in arrived:
                if kind == "revert":
                    order.revert(E, ONE, frozenset(), number, 0.0)
                    is_held = is_held and order.is_overtaken(E, ONE, "a", number)
                    continue
                try:
                    order.make(E, ONE, "a", number, 0.0)
                except StaleRequest:
                    continue
                is_held = True
            assert is_held == (sent[last - 1][0] == "make"), arrived


def test_the_memory_ends() -> None:
    order = RequestOrder()
    order.make(E, ONE, "a", 6, 0.0)
    order.revert(E, ONE, frozenset(), 7, 0.0)
    order.sweep(MEMORY_S - 1)
    with pytest.raises(StaleRequest):
        order.make(E, ONE, "a", 6, 0.0)
    order.sweep(MEMORY_S + 1)
    order.make(E, ONE, "a", 6, 0.0)
    assert not order.is_overtaken(E, ONE, "a", 6)
