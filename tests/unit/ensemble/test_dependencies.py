"""What starts after what: the ways to write it, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ensemble.documents import allocation, ensemble, load, problems

from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import COMPLETED, HEALTHY, STARTED, Dependency
from dms.ensemble.rendering import render
from dms.types import gojson

CHECK = {"type": "command", "exec": ["true"]}
APART = {"n": {"allocations": ["web"]}, "m": {"allocations": ["db", "move"]}}


def document(depends_on: Any, **members: Any) -> dict[str, Any]:
    parts = {
        "web": allocation(depends_on=depends_on),
        "db": allocation(type="service", healthcheck=CHECK),
        "move": allocation(type="task"),
    }
    return ensemble(parts, nodes=APART, **members)


def needs(depends_on: Any) -> tuple[str | Dependency, ...]:
    loaded = load(document(depends_on))
    assert not loaded.warnings
    return loaded.config.v1.allocations["web"].depends_on


BOTH = ("db", Dependency(allocation="move", condition=COMPLETED))


@pytest.mark.parametrize(
    "written",
    [
        ["db", {"allocation": "move", "condition": COMPLETED}],
        [{"allocation": "db"}, {"allocation": "move", "condition": COMPLETED}],
        {"db": None, "move": {"condition": COMPLETED}},
        {"db": {}, "move": COMPLETED},
    ],
    ids=["list", "objects", "as in Compose", "short"],
)
def test_there_are_several_ways_to_write_a_condition(written: Any) -> None:
    assert needs(written) == BOTH


def test_conditions_may_be_named_by_their_short_names() -> None:
    loaded = load(document({"db": "healthy", "move": {"condition": "Completed"}}))
    assert loaded.config.v1.allocations["web"].depends_on == (
        Dependency(allocation="db", condition=HEALTHY),
        Dependency(allocation="move", condition=COMPLETED),
    )
    assert [w.reason for w in loaded.warnings] == [
        f"'healthy' is written '{HEALTHY}' today",
        f"'Completed' is written '{COMPLETED}' today",
    ]


def test_names_alone_travel_as_they_always_did() -> None:
    config = load(document(["db", "move"])).config
    wire = gojson.to_builtins(config)
    assert wire["v1"]["allocations"]["web"]["depends_on"] == ["db", "move"]
    assert decode_ensemble(wire) == config


def test_conditions_survive_the_way_there_and_back() -> None:
    config = load(document({"db": STARTED, "move": COMPLETED})).config
    assert decode_ensemble(gojson.to_builtins(config)) == config
    again = load(render(config))
    assert again.config == config


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "a condition that there is not",
        document({"db": "service_ready"}),
        "allocations.web.depends_on.db",
        "'service_ready' is not a condition",
    ),
    (
        "the health of what has no check",
        document({"move": HEALTHY}),
        "allocations.web.depends_on[0]",
        "'move' has no health check",
    ),
    (
        "the end of a service",
        document(["move", {"allocation": "db", "condition": COMPLETED}]),
        "allocations.web.depends_on[1]",
        "'db' is a service, which never completes",
    ),
    (
        "two conditions",
        document([{"allocation": "db", "condition": HEALTHY}, "db"]),
        "allocations.web.depends_on",
        "'db' is named with two conditions",
    ),
    ("nothing named", document([{"condition": HEALTHY}]), "allocations.web.depends_on[0].allocation", "is required"),
    ("no list", document("db"), "allocations.web.depends_on", "must be a list, not text"),
    ("a number", document({"db": [1]}), "allocations.web.depends_on.db", "must be text, not a list"),
    (
        "a cycle over nodes",
        ensemble(
            {"web": allocation(depends_on=["db"]), "db": allocation(depends_on={"web": STARTED})},
            nodes={"n": {"allocations": ["web"]}, "m": {"allocations": ["db"]}},
        ),
        "allocations.web.depends_on",
        "cyclic dependencies detected in allocations: web → db → web",
    ),
    (
        "a member of the same group",
        ensemble(
            {"a": allocation(), "b": allocation(depends_on=["a-0001"])},
            nodes={"n": {"allocations": ["a", "b"], "count": 2}},
        ),
        "allocations.b.depends_on[0]",
        "'a-0001' is a member of the same group",
    ),
    (
        "a member that there is not",
        ensemble(
            {"a": allocation(), "b": allocation(depends_on=["a-0003"])},
            nodes={"n": {"allocations": ["a"], "count": 2}, "m": {"allocations": ["b"]}},
        ),
        "allocations.b.depends_on[0]",
        "there is no allocation 'a-0003'",
    ),
    (
        "a cycle through a member",
        ensemble(
            {"a": allocation(depends_on=["b"]), "b": allocation(depends_on=["a-0002"])},
            nodes={"n": {"allocations": ["a"], "count": 2}, "m": {"allocations": ["b"]}},
        ),
        "allocations.a.depends_on",
        "cyclic dependencies detected in allocations: a → b → a",
    ),
    (
        "each of many on each of many",
        ensemble(
            {"a": allocation(), "b": allocation(depends_on=["a"])},
            nodes={"n": {"allocations": ["a"], "count": 1000}, "m": {"allocations": ["b"], "count": 101}},
        ),
        "allocations",
        "between all members there are 101000 dependencies; 100000 are allowed",
    ),
]


@pytest.mark.parametrize(("written", "path", "reason"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_cannot_be_waited_for_is_refused(written: dict[str, Any], path: str, reason: str) -> None:
    assert reason in problems(written)[path].reason


def test_the_line_of_a_condition_is_told() -> None:
    text = """\
version: V1
allocations:
  db: {type: service, executor: "null", resources: {cpu: {cores: 1}, ram: {size: 1}, disk: {size: 1}},
       execution: {type: "null"}}
  web: {type: service, executor: "null", resources: {cpu: {cores: 1}, ram: {size: 1}, disk: {size: 1}},
        execution: {type: "null"},
        depends_on: {
          db: {condition: service_healthy}}}
nodes: {n: {allocations: [db]}, m: {allocations: [web]}}
"""
    (problem,) = problems(text).values()
    assert (problem.line, problem.reason) == (8, "'db' has no health check")
