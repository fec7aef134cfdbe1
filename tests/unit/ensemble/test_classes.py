"""Equal nodes are told apart by their names only."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from tests.unit.ensemble.documents import allocation, ensemble, ensembles, load

from dms.ensemble.classes import node_classes
from dms.ensemble.groups import expanded, node_names


def sizes(document: dict[str, Any]) -> list[tuple[str, int]]:
    return [(found.node, found.size) for found in node_classes(load(document).config)]


def test_a_group_is_one_class_before_and_after_it_is_expanded() -> None:
    config = load(ensemble(nodes={"w": {"allocations": ["a"], "count": 4}})).config
    whole, parts = node_classes(config), node_classes(expanded(config))
    assert [tuple(c.names) for c in whole] == [tuple(c.names) for c in parts]
    assert (whole[0].node, parts[0].node, whole[0].size) == ("w", "w-0001", 4)


def test_nodes_written_one_by_one_are_one_class_when_they_ask_for_the_same() -> None:
    parts = {"a": allocation(), "b": allocation(), "c": allocation(type="service")}
    nodes = {name: {"allocations": [name]} for name in parts}
    assert sizes(ensemble(parts, nodes=nodes)) == [("a", 2), ("c", 1)]


def test_a_place_a_port_or_a_peer_tells_nodes_apart() -> None:
    parts = {name: allocation() for name in "abcd"}
    nodes: dict[str, Any] = {name: {"allocations": [name]} for name in parts}
    nodes["b"]["location"] = {"accept": [{"continent": "EU"}]}
    nodes["c"]["ports"] = [{"public": 0, "private": 80, "allocation": "c"}]
    nodes["d"]["peer"] = "12D3"
    assert [size for _, size in sizes(ensemble(parts, nodes=nodes))] == [1, 1, 1, 1]


@settings(max_examples=40)
@given(ensembles())
def test_every_node_is_in_one_class(document: dict[str, Any]) -> None:
    config = load(document).config
    names = [name for found in node_classes(config) for name in found.names]
    assert sorted(names) == sorted(node_names(config))
