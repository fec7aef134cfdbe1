"""Parameters of containerd and Kata: understood, and refused with a way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from dms.ensemble.loading import load_ensemble
from dms.executor.containerd import KATA, RUNC, ContainerdParams, refusal
from dms.executor.errors import InvalidEngineSpec
from dms.executor.registry import available_executors
from dms.types.resources import SpecConfig


def spec(**params: object) -> SpecConfig:
    return SpecConfig(type="containerd", params=params)


@pytest.mark.parametrize(
    ("given", "runtime"), [("", RUNC), ("runc", RUNC), (RUNC, RUNC), ("kata", KATA), (KATA, KATA), ("own.v1", "own.v1")]
)
def test_runtimes_have_short_names(given: str, runtime: str) -> None:
    parsed = ContainerdParams.parse(spec(image="a", cmd=["x"], runtime=given))
    assert (parsed.image, parsed.cmd, parsed.runtime) == ("a", ("x",), runtime)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "invalid containerd engine params: image cannot be empty"),
        ({"image": "a", "environment": ["X"]}, "environment"),
        ({"image": "a", "runtime": 3}, "runtime must be text"),
    ],
)
def test_a_mistake_is_told_as_such(params: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidEngineSpec, match=reason):
        ContainerdParams.parse(spec(**params))


def test_the_refusal_names_what_to_use_instead() -> None:
    assert "docker" in refusal().hint
    assert "qemu" in refusal(ContainerdParams.parse(spec(image="a", runtime="kata"))).hint


async def test_a_node_says_why_it_has_no_containerd(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        found = await available_executors(nursery, tmp_path, executor_id="x", enabled=["containerd"])
        nursery.cancel_scope.cancel()
    assert found.executors == {}
    assert found.missing == {"containerd": refusal().message}


@pytest.mark.parametrize("runtime", ["runc", "kata", RUNC, KATA])
def test_every_name_of_a_runtime_is_understood_in_an_ensemble(runtime: str, tmp_path: Path) -> None:
    job = {
        "type": "task",
        "executor": "containerd",
        "resources": {"cpu": {"cores": 1}, "ram": {"size": "256 MiB"}, "disk": {"size": "1 GiB"}},
        "execution": {"type": "containerd", "image": "alpine:3", "runtime": runtime, "environment": ["A=1"]},
    }
    text = json.dumps({"version": "V1", "allocations": {"job": job}, "nodes": {"one": {"allocations": ["job"]}}})
    (tmp_path / "job.yaml").write_text(text)
    execution = load_ensemble(tmp_path / "job.yaml", {}).config.v1.allocations["job"].execution
    assert ContainerdParams.parse(execution).runtime == {"runc": RUNC, "kata": KATA}.get(runtime, runtime)
