"""What arrives at a node is read in any spelling, and held to the same rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.documents import ensemble, ensembles, load, mutate
from tests.unit.ensemble.test_loading import TREES

from dms.ensemble.arrival import decode_ensemble, validate_config
from dms.ensemble.config import EnsembleConfig, EnsembleConfigV1, KeyConfig
from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.tree import MAX_DEPTH
from dms.types import gojson
from dms.types.resources import Location

OLD = Path(__file__).parent / "data" / "old.json"


def arrived(value: object) -> EnsembleConfig | InvalidEnsemble:
    try:
        return decode_ensemble(value)
    except InvalidEnsemble as exc:
        return exc


def test_the_untagged_names_of_the_first_release_are_read() -> None:
    raw = json.loads(OLD.read_text())
    with pytest.raises(InvalidEnsemble) as caught:
        decode_ensemble(raw)
    assert [p.path for p in caught.value.problems] == ["V1.edges[0].t"]
    raw["V1"]["Edges"] = None
    v1 = decode_ensemble(raw).v1
    web = v1.allocations["web"]
    assert (web.resources.cpu.cores, web.resources.disk.size) == (2, 2 * 10**9)
    assert web.execution.params == {"image": "nginx"}
    assert web.dns_name == "front"
    assert web.keys == (KeyConfig(type="ssh", file="ssh-ed25519 AAAA"),)
    assert web.healthcheck is None
    assert v1.scripts == {"setup": b"echo"}
    assert v1.supervisor is None
    assert v1.nodes["n1"].peer == ""
    location = v1.nodes["n1"].location
    assert location is not None
    assert location.accept == (Location(continent="EU"),)


@settings(max_examples=30)
@given(ensembles())
def test_what_the_client_accepts_the_node_accepts(document: dict[str, Any]) -> None:
    config = load(document).config
    assert validate_config(config) == ()
    assert decode_ensemble(gojson.to_builtins(config)) == config
    assert gojson.decode(gojson.encode(config), EnsembleConfig) == config


def test_problems_of_a_configuration_have_paths_and_no_lines() -> None:
    config = EnsembleConfig(v1=EnsembleConfigV1(allocations={}, nodes={}))
    found = validate_config(config)
    assert [str(p) for p in found] == [
        "V1.allocations: at least one allocation must be defined",
        "V1.nodes: at least one node must be defined",
    ]


def test_a_configuration_whose_names_point_nowhere_is_refused() -> None:
    config = load(ensemble()).config
    broken = msgspec.structs.replace(
        config.v1, nodes={"n1": msgspec.structs.replace(config.v1.nodes["n1"], allocations=("x",))}
    )
    assert [p.path for p in validate_config(EnsembleConfig(v1=broken))] == ["V1.nodes.n1.allocations[0]"]


@pytest.mark.parametrize("value", [None, 3, [], {}, {"v2": {}}, {"v1": None}, {"v1": 3}, {"v1": {}}, {1: 2}])
def test_what_is_no_ensemble_is_refused(value: object) -> None:
    with pytest.raises(InvalidEnsemble):
        decode_ensemble(value)


def test_depth_is_bounded() -> None:
    deep: Any = {}
    for _ in range(MAX_DEPTH * 30):
        deep = {"children": [deep]}
    with pytest.raises(InvalidEnsemble, match="nested deeper"):
        decode_ensemble({"v1": {"supervisor": deep}})


def test_bytes_must_be_base64_on_the_wire() -> None:
    raw = gojson.to_builtins(load(ensemble(scripts={"s": "x"})).config)
    raw["v1"]["scripts"]["s"] = "no base64!"
    with pytest.raises(InvalidEnsemble, match="must be bytes in base64"):
        decode_ensemble(raw)


def test_unknown_keys_are_dropped() -> None:
    config = load(ensemble()).config
    raw = gojson.to_builtins(config)
    raw["v1"]["run_for"] = raw["v1"]["allocations"]["a"]["count"] = raw["more"] = 3
    assert decode_ensemble(raw) == config


@settings(max_examples=30)
@given(TREES)
def test_nothing_that_arrives_makes_it_raise_anything_else(tree: Any) -> None:
    for value in (tree, {"V1": tree}, {"v1": {"allocations": {"a": tree}, "nodes": {"n1": tree}}}):
        found = arrived(value)
        assert isinstance(found, EnsembleConfig) or found.problems


@settings(max_examples=30)
@given(ensembles(), st.data())
def test_no_mutation_of_a_canonical_form_makes_it_raise_anything_else(
    document: dict[str, Any], data: st.DataObject
) -> None:
    raw = gojson.to_builtins(load(document).config)
    mutate(raw, data, TREES)
    found = arrived(raw)
    assert validate_config(found) == () if isinstance(found, EnsembleConfig) else found.problems
