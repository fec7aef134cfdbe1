"""Rendering and loading are inverse to each other."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.documents import HERE, allocation, ensemble, ensembles, load

from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.groups import expanded
from dms.ensemble.loading import load_ensemble, parse_ensemble
from dms.ensemble.rendering import as_written, render

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def again(config: EnsembleConfig) -> EnsembleConfig:
    loaded = parse_ensemble(render(config).encode(), file="again.yaml", base=HERE, env={})
    assert loaded.warnings == ()
    return loaded.config


@settings(max_examples=50)
@given(ensembles(), st.integers(0, 3))
def test_what_is_rendered_loads_as_the_same(document: dict[str, Any], count: int) -> None:
    for node in document["nodes"].values():
        node |= {"count": count} if count else {}
    config = load(document).config
    assert again(config) == config
    assert again(expanded(config)) == expanded(config)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_shipped_examples_survive_it(example: Path) -> None:
    config = load_ensemble(example, {}).config
    assert again(config) == config


@settings(max_examples=30)
@given(st.binary(min_size=1, max_size=30))
def test_programs_and_scripts_survive_it_whatever_their_bytes(content: bytes) -> None:
    body = base64.b64encode(content).decode()
    wasm = allocation(executor="wasm", execution={"type": "wasm", "params": {"module": body, "files": {"/f": body}}})
    sizes = {"cpu": {"cores": 1}, "ram": {"size": 1}, "disk": {"size": 1}}
    v1 = ensemble({"a": wasm | {"resources": sizes}}, scripts={"s": body})
    config = decode_ensemble({"v1": {k: v for k, v in v1.items() if k != "version"}})
    assert again(config) == config


def test_text_that_looks_like_a_placeholder_stays_itself() -> None:
    config = load(
        ensemble({"a": allocation(execution={"type": "docker", "image": "x", "cmd": ["$${HOME}", "$$$${X}"]})})
    ).config
    assert config.v1.allocations["a"].execution.params["cmd"] == ["${HOME}", "$$${X}"]
    assert again(config) == config


def test_it_is_written_as_a_person_would() -> None:
    resources = {"cpu": {"cores": 2, "clock_speed": "2.4GHz"}, "ram": {"size": "1.5GiB"}, "disk": {"size": 10}}
    check = {"type": "command", "exec": ["true"], "interval": "90s"}
    parts = {"a": allocation(resources=resources | {"gpus": [{"vram": 8, "count": 2}]}, healthcheck=check)}
    nodes = {"n": {"allocations": ["a"]}, "m": {"allocations": ["b"]}}
    config = load(ensemble(parts | {"b": allocation()}, nodes=nodes, edges=[{"edges": ["n", "m"], "rtt": 9}])).config
    written = as_written(config)
    assert written["allocations"]["a"]["resources"] == {
        "cpu": {"cores": 2, "clock_speed": "2.4GHz"},
        "gpus": [{"vram": "8GiB", "count": 2}],
        "ram": {"size": "1536MiB"},
        "disk": {"size": "10GiB"},
    }
    assert written["allocations"]["a"]["healthcheck"]["interval"] == "90s"
    assert written["edges"] == [{"edges": ["n", "m"], "rtt": 9}]
    assert list(written) == ["version", "allocations", "nodes", "edges"]
    assert "dns_name" not in written["allocations"]["a"]
