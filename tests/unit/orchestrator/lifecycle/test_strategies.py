"""The rungs of recovery: which come for whom, in which order, and that none is used for ever."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.ensemble.config import EnsembleConfig
from dms.orchestrator.lifecycle.state import Tries
from dms.orchestrator.lifecycle.strategies import (
    MAX_BACKOFF_S,
    MAX_TRIES,
    WINDOW_S,
    Remedy,
    backoff_ns,
    choose,
    is_restartable,
    ladder,
    used,
)
from dms.testing.nodes import ensemble

S = 10**9
NODES = {"n1": {"a": "service", "b": "service", "c": "service"}, "n2": {"d": "service", "e": "service"}}
TREE = {
    "strategy": "RestForOne",
    "allocations": ["a"],
    "children": [
        {"strategy": "AllForOne", "allocations": ["b", "d"]},
        {"strategy": "OneForOne", "allocations": ["e"]},
    ],
}


def config(**members: Any) -> EnsembleConfig:
    return ensemble(NODES, **members)


def with_node(whole: EnsembleConfig, name: str, **members: Any) -> EnsembleConfig:
    node = msgspec.structs.replace(whole.v1.nodes[name], **members)
    return EnsembleConfig(v1=msgspec.structs.replace(whole.v1, nodes=whole.v1.nodes | {name: node}))


def test_by_default_everything_stays_down() -> None:
    assert ladder(config(), "n1.a") == ()
    assert not is_restartable(config(), "n1", "a")


@pytest.mark.parametrize(
    ("strategy", "keys"),
    [
        ("one_for_one", ("n1.b",)),
        ("one_for_all", ("n1.a", "n1.b", "n1.c")),
        ("rest_for_one", ("n1.b", "n1.c")),
    ],
)
def test_an_allocation_says_who_is_restarted_with_it_on_its_node(strategy: str, keys: tuple[str, ...]) -> None:
    (rung,) = ladder(config(allocation={"failure_recovery": strategy}), "n1.b")
    assert (rung.remedy, rung.keys) == (Remedy.RESTART, keys)


def test_what_is_started_after_it_depends_on_the_dependencies() -> None:
    parts = config(allocation={"failure_recovery": "rest_for_one"})
    late = msgspec.structs.replace(parts.v1.allocations["a"], depends_on=("c",))
    v1 = msgspec.structs.replace(parts.v1, allocations=parts.v1.allocations | {"a": late})
    wanted = EnsembleConfig(v1=v1)
    (rung,) = ladder(wanted, "n1.c")
    assert rung.keys == ("n1.c", "n1.a")


def test_supervisors_come_from_the_inside_to_the_outside() -> None:
    first, second = ladder(config(supervisor=TREE), "n2.d")
    assert first.keys == ("n1.b", "n2.d"), "all of the inner one"
    assert second.keys == ("n1.b", "n2.d", "n2.e"), "the inner one, and what was started after it"
    assert is_restartable(config(supervisor=TREE), "n2", "d")


def test_a_strategy_of_its_own_comes_in_place_of_the_supervisors() -> None:
    first, _ = ladder(config(supervisor=TREE, allocation={"failure_recovery": "one_for_one"}), "n2.d")
    assert first.keys == ("n2.d",)


def test_then_the_node_and_then_the_ensemble() -> None:
    wanted = with_node(config(escalation_strategy="teardown"), "n2", failure_recovery="restart")
    assert [(r.remedy, r.keys) for r in ladder(wanted, "n2.d")] == [
        (Remedy.RESTART, ("n2.d", "n2.e")),
        (Remedy.TEARDOWN, ()),
    ]
    assert [r.remedy for r in ladder(wanted, "n1.a")] == [Remedy.TEARDOWN]
    moved = with_node(config(escalation_strategy="redeploy"), "n2", failure_recovery="redeploy")
    assert [r.remedy for r in ladder(moved, "n2.d")] == [Remedy.REPLACE, Remedy.REDEPLOY]


def test_a_standby_has_none() -> None:
    wanted = with_node(config(allocation={"failure_recovery": "one_for_one"}), "n1", redundancy=1)
    assert ladder(wanted, "n1-standby-1.a") == ()


@settings(max_examples=100)
@given(gaps_s=st.lists(st.sampled_from([0, 1, 59, 601]), max_size=40))
def test_no_rung_is_used_more_often_than_it_may_in_its_window(gaps_s: list[int]) -> None:
    wanted = config(supervisor=TREE, escalation_strategy="redeploy")
    rungs = ladder(wanted, "n2.d")
    tries: dict[str, Tries] = {}
    now_ns, uses = 0, list[tuple[int, str]]()
    for gap_s in gaps_s:
        now_ns += gap_s * S
        rung = choose(rungs, tries, now_ns)
        if rung is None:
            assert all(used(tries, each, now_ns) == MAX_TRIES for each in rungs)
            continue
        tries[rung.name] = Tries(count=used(tries, rung, now_ns) + 1, last_ns=now_ns)
        uses.append((now_ns, rung.name))
    assert all(1 <= each.count <= MAX_TRIES for each in tries.values())
    for (_, name), (at_ns, _) in zip(uses, uses[MAX_TRIES:], strict=False):
        later = [when_ns for when_ns, other in uses if other == name and when_ns <= at_ns]
        gaps_ns = [b - a for a, b in pairwise(later)]
        assert len(later) <= MAX_TRIES or max(gaps_ns) > WINDOW_S * S, "more tries only after a while without"


@given(st.integers(0, 10_000))
def test_waits_grow_up_to_a_limit(failures: int) -> None:
    assert S <= backoff_ns(failures) <= MAX_BACKOFF_S * S
    assert backoff_ns(failures) <= backoff_ns(failures + 1)
