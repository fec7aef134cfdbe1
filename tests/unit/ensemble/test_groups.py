"""One entry stands for many equal nodes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.documents import RESOURCES, allocation, ensemble, ensembles, load, problems

from dms.ensemble.arrival import decode_ensemble, validate_config
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.groups import (
    MAX_NODES,
    MemberNames,
    edge_count,
    expanded,
    member_dns_name,
    member_name,
    node_names,
    split_member,
)
from dms.types import gojson


def group(count: int = 3, **members: Any) -> dict[str, Any]:
    return {"allocations": ["a"], "count": count} | members


def with_cards(*cards: dict[str, Any]) -> dict[str, Any]:
    return ensemble({"a": allocation(resources=copy.deepcopy(RESOURCES) | {"gpus": list(cards)})})


def grown(document: dict[str, Any]) -> EnsembleConfig:
    return expanded(load(document).config)


def environment(config: EnsembleConfig, name: str) -> object:
    return config.v1.allocations[name].execution.params.get("environment")


@settings(max_examples=60)
@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), st.integers(1, 99_999))
def test_the_name_of_a_member_tells_group_and_number(name: str, number: int) -> None:
    assert split_member(member_name(name, number)) == (name, number)


def test_what_is_spelled_otherwise_is_no_member() -> None:
    assert [split_member(name) for name in ("a", "a-1", "a-00001", "-0001", "a-0001x")] == [None] * 5


def test_names_are_made_when_they_are_asked_for() -> None:
    names = MemberNames("w", 12_000)
    assert (names[0], names[9_999], names[-1], len(names)) == ("w-0001", "w-10000", "w-12000", 12_000)
    assert names[1:3] == ("w-0002", "w-0003")
    assert "w-12000" in names
    assert [name in names for name in ("w-12001", "w-0000", "v-0001", "w")] == [False] * 4


def test_the_first_label_of_a_dns_name_is_numbered() -> None:
    assert member_dns_name("db.store", 7) == "db-0007.store"


def test_members_are_nodes_with_allocations_of_their_own() -> None:
    config = grown(ensemble(nodes={"w": group(2, ports=[{"private": 80, "allocation": "a"}])}))
    assert list(config.v1.nodes) == ["w-0001", "w-0002"]
    assert [node.allocations for node in config.v1.nodes.values()] == [("a-0001",), ("a-0002",)]
    assert [node.ports[0].allocation for node in config.v1.nodes.values()] == ["a-0001", "a-0002"]
    assert [a.dns_name for a in config.v1.allocations.values()] == ["a-0001", "a-0002"]
    assert not any(node.count for node in config.v1.nodes.values())
    assert list(node_names(config)) == list(config.v1.nodes)


def test_members_share_what_they_have_in_common() -> None:
    first, second = grown(ensemble(nodes={"w": group(2)})).v1.allocations.values()
    assert first.resources is second.resources


def test_members_learn_who_they_are() -> None:
    own = allocation(execution={"type": "docker", "image": "x", "environment": {"NUNET_GROUP": "mine", "A": "1"}})
    config = grown(ensemble({"a": own}, nodes={"w": group(2)}))
    assert environment(config, "a-0002") == ["A=1", "NUNET_GROUP=mine", "NUNET_INDEX=1", "NUNET_COUNT=2"]


def test_a_member_that_runs_nothing_has_no_environment() -> None:
    own = allocation(executor="null", execution={"type": "null"})
    assert environment(grown(ensemble({"a": own}, nodes={"w": group(1)})), "a-0001") is None


def test_a_group_of_one_is_numbered_as_well_so_that_it_can_grow() -> None:
    assert list(grown(ensemble(nodes={"w": group(1)})).v1.nodes) == ["w-0001"]


def test_order_inside_a_group_holds_member_by_member() -> None:
    parts = {"a": allocation(), "b": allocation(depends_on=["a"])}
    config = grown(ensemble(parts, nodes={"w": {"allocations": ["a", "b"], "count": 2}}))
    assert config.v1.allocations["b-0002"].depends_on == ("a-0002",)


def edges(shape: str, ends: list[str], **nodes: int) -> list[tuple[str, str]]:
    document = ensemble(
        {name: allocation() for name in nodes},
        nodes={
            f"n{name}": {"allocations": [name]} | ({"count": count} if count else {}) for name, count in nodes.items()
        },
        edges=[{"edges": ends, "rtt": 9} | ({"shape": shape} if shape else {})],
    )
    found = grown(document).v1.edges
    assert all(edge.rtt == 9 and not edge.shape for edge in found)
    return [(edge.s, edge.t) for edge in found]


def test_an_edge_between_groups_holds_for_each_with_each() -> None:
    assert edges("", ["na", "nb"], a=2, b=0) == [("na-0001", "nb"), ("na-0002", "nb")]
    assert edges("all", ["na", "na"], a=3) == [("na-0001", "na-0002"), ("na-0001", "na-0003"), ("na-0002", "na-0003")]


def test_an_edge_can_pair_the_members_of_two_groups() -> None:
    assert edges("paired", ["na", "nb"], a=2, b=2) == [("na-0001", "nb-0001"), ("na-0002", "nb-0002")]


def test_an_edge_can_close_a_ring() -> None:
    ring = [("na-0001", "na-0002"), ("na-0002", "na-0003"), ("na-0003", "na-0001")]
    assert edges("ring", ["na", "na"], a=3) == ring
    assert edges("ring", ["na", "na"], a=2) == [("na-0001", "na-0002")]


def test_an_edge_can_name_a_single_member() -> None:
    assert edges("", ["na-0002", "nb"], a=2, b=0) == [("na-0002", "nb")]


@given(st.sampled_from(["all", "paired", "ring"]), st.integers(2, 6), st.integers(2, 6), st.booleans())
def test_edges_are_counted_before_they_are_made(shape: str, one: int, other: int, is_same: bool) -> None:
    other = one if is_same or shape == "paired" else other
    is_same = (is_same and shape != "paired") or shape == "ring"
    ends, sizes = (["na", "na"], {"a": one}) if is_same else (["na", "nb"], {"a": one, "b": other})
    assert len(edges(shape, ends, **sizes)) == edge_count(shape, one, one if is_same else other, is_same=is_same)


def test_a_supervisor_that_names_an_allocation_of_a_group_means_all_of_them() -> None:
    tree = {
        "strategy": "OneForOne",
        "allocations": ["a"],
        "children": [{"strategy": "OneForOne", "allocations": ["a-0002"]}],
    }
    supervisor = grown(ensemble(nodes={"w": group(2)}, supervisor=tree)).v1.supervisor
    assert supervisor is not None
    assert supervisor.allocations == ("a-0001", "a-0002")
    assert supervisor.children[0].allocations == ("a-0002",)


def test_cards_of_one_kind_are_counted() -> None:
    config = load(with_cards({"vram": "80GiB", "count": 8})).config
    assert [card.vram for card in config.v1.allocations["a"].resources.gpus] == [80 * 2**30] * 8


def test_ten_thousand_nodes_with_eight_cards_are_a_short_file_and_a_short_message() -> None:
    resources = {
        "cpu": {"cores": 64},
        "ram": {"size": 512},
        "disk": {"size": 900},
        "gpus": [{"model": "H100", "count": 8}],
    }
    config = load(ensemble({"a": allocation(resources=resources)}, nodes={"w": group(10_000)})).config
    assert len(gojson.encode(config)) < 1_000
    assert len(expanded(config).v1.nodes) == 10_000


def test_what_is_sent_holds_the_group_and_not_its_members() -> None:
    config = load(ensemble(nodes={"w": group(3)})).config
    assert decode_ensemble(gojson.to_builtins(config)) == config
    assert list(config.v1.nodes) == ["w"]


def test_an_ensemble_without_groups_is_left_alone() -> None:
    config = load(ensemble()).config
    assert expanded(config) is config


@settings(max_examples=60)
@given(ensembles(), st.integers(1, 3), st.sampled_from(["", "all"]))
def test_what_is_expanded_is_valid_and_stays_as_it_is(document: dict[str, Any], count: int, shape: str) -> None:
    for node in document["nodes"].values():
        node["count"] = count
    for edge in document.get("edge_constraints", ()):
        edge["shape"] = shape or "all"
    config = grown(document)
    assert validate_config(config) == ()
    assert expanded(config) is config
    assert len(config.v1.nodes) == count * len(document["nodes"])


LONG = "n" * 60
BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "too many": (ensemble(nodes={"w": group(10**9)}), "nodes.w.count", "must be from 1 to 20000"),
    "none": (ensemble(nodes={"w": group(0)}), "nodes.w.count", "must be from 1"),
    "too many in all": (
        ensemble(
            {c: allocation() for c in "abc"},
            nodes={f"n{c}": {"allocations": [c], "count": 20_000} for c in "abc"},
        ),
        "nodes",
        f"{MAX_NODES} are allowed",
    ),
    "pinned": (ensemble(nodes={"w": group(2, peer="12D3")}), "nodes.w.peer", "one machine cannot be 2 nodes"),
    "name of a member": (
        ensemble(
            {"a": allocation(), "b": allocation()}, nodes={"w": group(3), "W-0002": {"allocations": ["b"]}}
        ),
        "nodes.W-0002",
        "a member of 'w'",
    ),
    "name of an allocation": (
        ensemble(
            {"a": allocation(), "a-0001": allocation()}, nodes={"w": group(3), "x": {"allocations": ["a-0001"]}}
        ),
        "allocations.a-0001",
        "a member of 'a'",
    ),
    "dns name": (
        ensemble(
            {"a": allocation(dns_name="db.x"), "b": allocation(dns_name="DB-0003.x")},
            nodes={"w": group(3), "x": {"allocations": ["b"]}},
        ),
        "allocations.b.dns_name",
        "a member of 'a' has this DNS name",
    ),
    "long": (
        ensemble({LONG: allocation()}, nodes={"w": {"allocations": [LONG], "count": 2}}),
        f"allocations.{LONG}",
        "too long for its members",
    ),
    "long dns name": (
        ensemble({"a": allocation(dns_name=LONG)}, nodes={"w": group()}),
        "allocations.a.dns_name",
        "too long for the members",
    ),
    "standby": (
        ensemble(
            {"a": allocation(), "b": allocation()},
            nodes={"w": group(2, redundancy=1), "w-0002-standby-1": {"allocations": ["b"]}},
        ),
        "nodes.w-0002-standby-1",
        "the name of a standby of 'w-0002'",
    ),
    "ring between two": (
        ensemble(
            {"a": allocation(), "b": allocation()},
            nodes={"w": group(2), "x": {"allocations": ["b"], "count": 2}},
            edges=[{"edges": ["w", "x"], "shape": "ring"}],
        ),
        "edges[0].shape",
        "a ring lies inside one group",
    ),
    "pairs of other size": (
        ensemble(
            {"a": allocation(), "b": allocation()},
            nodes={"w": group(2), "x": {"allocations": ["b"]}},
            edges=[{"edges": ["w", "x"], "shape": "paired"}],
        ),
        "edges[0].shape",
        "'w' has 2 members and 'x' has 1",
    ),
    "pairs with itself": (
        ensemble(nodes={"w": group(2)}, edges=[{"edges": ["w", "w"], "shape": "paired"}]),
        "edges[0]",
        "no two members of 'w' are meant",
    ),
    "shape without a group": (
        ensemble(
            {"a": allocation(), "b": allocation()},
            nodes={"w": {"allocations": ["a"]}, "x": {"allocations": ["b"]}},
            edges=[{"edges": ["w", "x"], "shape": "all"}],
        ),
        "edges[0].shape",
        "means nothing between single nodes",
    ),
    "too many edges": (ensemble(nodes={"w": group(500)}, edges=[{"edges": ["w", "w"], "rtt": 5}]), "edges[0]", "more than"),
    "no such member": (ensemble(nodes={"w": group(2)}, edges=[{"edges": ["w", "w-0003"]}]), "edges[0].t", "there is no node"),
    "a card twice": (
        with_cards({"uuid": "u", "count": 2}),
        "allocations.a.resources.gpus[0].count",
        "uuid names one card",
    ),
    "too many cards": (
        with_cards({"count": 200}, {"count": 200}),
        "allocations.a.resources.gpus",
        "more than 256 cards",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("document", "path", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_expanded_is_refused(document: dict[str, Any], path: str, reason: str) -> None:
    found = problems(document)
    assert path in found, found
    assert reason in str(found[path])
