"""What a new version changes, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from tests.unit.ensemble.documents import allocation, ensemble, ensembles, load

from dms.ensemble.changes import Changes, Difference, changes_between, update_problems
from dms.ensemble.config import EnsembleConfig


def of(document: dict[str, Any]) -> EnsembleConfig:
    return load(document).config


def two(**members: Any) -> dict[str, Any]:
    """Two nodes with an allocation each; ``left`` has what is given."""
    left = {"allocations": ["a"]} | members.pop("left", {})
    parts = {"a": allocation(**members.pop("a", {})), "b": allocation()}
    return ensemble(parts, nodes={"left": left, "right": {"allocations": ["b"]}}, **members)


EU, DE = {"continent": "EU"}, {"country": "DE"}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "supervisor": (two(supervisor={"strategy": "OneForOne"}), two(), "supervisor"),
    "escalation": (two(escalation_strategy="redeploy"), two(escalation_strategy="teardown"), "escalation_strategy"),
    "peer": (two(left={"peer": "12D3a"}), two(left={"peer": "12D3b"}), "nodes.left.peer"),
    "recovery of a node": (two(), two(left={"failure_recovery": "restart"}), "nodes.left.failure_recovery"),
    "recovery of an allocation": (two(), two(a={"failure_recovery": "one_for_one"}), "allocations.a.failure_recovery"),
    "first place": (two(), two(left={"location": {"accept": [EU]}}), "nodes.left.location"),
    "other place": (
        two(left={"location": {"accept": [EU]}}),
        two(left={"location": {"accept": [DE]}}),
        "nodes.left.location",
    ),
    "place refused": (two(), two(left={"location": {"reject": [EU]}}), "nodes.left.location"),
    "port": (two(), two(left={"ports": [{"private": 80, "allocation": "a"}]}), "nodes.left.ports"),
    "edge": (two(), two(edges=[{"edges": ["left", "right"], "rtt": 5}]), "edges[0]"),
}


@pytest.mark.parametrize(("old", "new", "path"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_change_is_named(old: dict[str, Any], new: dict[str, Any], path: str) -> None:
    assert [problem.path for problem in update_problems(of(old), of(new))] == [f"V1.{path}"]
    assert all(problem.hint for problem in update_problems(of(old), of(new)))


ALLOWED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "more places": (two(left={"location": {"accept": [EU]}}), two(left={"location": {"accept": [DE, EU]}})),
    "any place": (two(left={"location": {"accept": [EU], "reject": [DE]}}), two()),
    "a supervisor": (two(), two(supervisor={"strategy": "OneForOne"})),
    "an edge less": (two(edges=[{"edges": ["left", "right"], "rtt": 5}]), two()),
    "a body": (two(), two(a={"type": "service"})),
}


@pytest.mark.parametrize(("old", "new"), ALLOWED.values(), ids=ALLOWED.keys())
def test_what_can_change_can(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert update_problems(of(old), of(new)) == ()
    assert changes_between(of(old), of(new))


def test_a_new_allocation_may_have_ports_and_edges() -> None:
    old = two()
    new = two(edges=[{"edges": ["left", "third"], "rtt": 5}])
    new["allocations"]["c"] = allocation()
    new["nodes"]["third"] = {"allocations": ["c"], "ports": [{"private": 80, "allocation": "c"}]}
    assert update_problems(of(old), of(new)) == ()
    changes = changes_between(of(old), of(new))
    assert changes == Changes(Difference(added=("third",)), Difference(added=("c",)), ("edges",))


def test_another_count_leaves_the_members_that_stay_alone() -> None:
    def grown(count: int) -> EnsembleConfig:
        return of(ensemble(nodes={"w": {"allocations": ["a"], "count": count}}))

    more = changes_between(grown(2), grown(3))
    assert more == Changes(Difference(added=("w-0003",)), Difference(added=("a-0003",)))
    less = changes_between(grown(3), grown(1))
    assert less.nodes == Difference(removed=("w-0002", "w-0003"))
    assert update_problems(grown(2), grown(3)) == ()


def test_what_stands_for_something_else_is_changed() -> None:
    new = two(a={"type": "service"}, left={"redundancy": 1}, metadata={"x": "y"})
    assert changes_between(of(two()), of(new)) == Changes(
        Difference(changed=("left",)), Difference(changed=("a",)), ("metadata",)
    )


@settings(max_examples=30)
@given(ensembles())
def test_the_same_again_changes_nothing_and_is_allowed(document: dict[str, Any]) -> None:
    config = of(document)
    assert not changes_between(config, of(document))
    assert update_problems(config, of(document)) == ()
