"""In which order allocations start."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from msgspec.structs import replace
from tests.unit.ensemble.documents import allocation, ensemble, ensembles, load

from dms.ensemble.config import COMPLETED, HEALTHY, STARTED, EnsembleConfig
from dms.ensemble.groups import expanded
from dms.ensemble.start_order import Need, homes_of, independent_parts, needs_of, start_layers


def config(allocations: dict[str, Any], **members: Any) -> EnsembleConfig:
    return load(ensemble(allocations, **members)).config


FOUR = {
    "web": allocation(depends_on=["db", "cache"]),
    "db": allocation(),
    "cache": allocation(depends_on=["db"]),
    "log": allocation(),
}
APART = {"n1": {"allocations": ["web", "log"]}, "n2": {"allocations": ["db"]}, "n3": {"allocations": ["cache"]}}


def test_layers_follow_dependencies_over_all_nodes() -> None:
    expected = (("db", "log"), ("cache",), ("web",))
    assert start_layers(config(FOUR), FOUR) == expected
    found = config(FOUR, nodes=APART)
    assert start_layers(found, FOUR) == expected
    assert start_layers(found, ["web", "log"]) == (("web", "log"),), "what is not started now is not waited for"
    assert homes_of(found) == {"web": "n1", "log": "n1", "db": "n2", "cache": "n3"}


def test_a_name_alone_waits_for_health_where_there_is_a_check() -> None:
    check = {"type": "command", "exec": ["true"]}
    parts = {
        "db": allocation(healthcheck=check),
        "log": allocation(),
        "move": allocation(type="task"),
        "web": allocation(depends_on={"db": None, "log": None, "move": COMPLETED}),
        "api": allocation(depends_on={"db": STARTED}),
    }
    found = config(parts)
    assert needs_of(found, "web") == (Need("db", HEALTHY), Need("log", STARTED), Need("move", COMPLETED))
    assert needs_of(found, "api") == (Need("db", STARTED),)


def test_layers_end_for_a_cycle_too() -> None:
    found = config({"a": allocation(depends_on=["b"]), "b": allocation()})
    found.v1.allocations["b"] = replace(found.v1.allocations["b"], depends_on=("a",))
    assert start_layers(found, ["a", "b"]) == (("a", "b"),)


def test_parts_that_do_not_wait_for_each_other_are_told_apart() -> None:
    found = config(FOUR, nodes=APART)
    assert sorted(independent_parts(found, FOUR)) == [("log",), ("web", "db", "cache")]
    assert sorted(independent_parts(found, ["web", "log"])) == [("log",), ("web",)]


def test_who_depends_on_a_group_depends_on_all_its_members_or_on_those_it_names() -> None:
    parts = {
        "db": allocation(healthcheck={"type": "command", "exec": ["true"]}),
        "shard": allocation(depends_on=["db"]),
        "web": allocation(depends_on={"shard": STARTED}),
        "log": allocation(depends_on=["shard-0002"]),
    }
    nodes = {
        "a": {"allocations": ["db"]},
        "b": {"allocations": ["shard"], "count": 2},
        "c": {"allocations": ["web", "log"]},
    }
    found = expanded(config(parts, nodes=nodes))
    assert needs_of(found, "shard-0002") == (Need("db", HEALTHY),)
    assert needs_of(found, "web") == (Need("shard-0001", STARTED), Need("shard-0002", STARTED))
    assert needs_of(found, "log") == (Need("shard-0002", STARTED),)


@settings(max_examples=25)
@given(ensembles())
def test_every_allocation_is_in_one_layer_behind_what_it_needs(document: dict[str, Any]) -> None:
    found = load(document).config
    names = list(found.v1.allocations)
    layers = start_layers(found, names)
    assert sorted(a for layer in layers for a in layer) == sorted(names)
    level = {a: n for n, layer in enumerate(layers) for a in layer}
    assert all(level[need.name] < level[a] for a in names for need in needs_of(found, a))
    part_of = {name: part for part in independent_parts(found, names) for name in part}
    assert sorted(part_of) == sorted(names)
    assert all(part_of[need.name] is part_of[a] for a in names for need in needs_of(found, a))
