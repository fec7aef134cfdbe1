"""update, scale, revert and versions: what is asked of the node, what is told, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

ID = "3f2a" + "0" * 60
NS = "/dms/node/deployment"
JOB = """
version: V1
allocations:
  web:
    type: service
    executor: "null"
    execution: {type: "null"}
    resources: {cpu: {cores: 1}, ram: {size: 1 GiB}, disk: {size: 1 GiB}}
nodes:
  n1: {allocations: [web], count: 2}
"""
PENDING = {
    "number": 2,
    "made_at": "2024-01-01T00:00:00Z",
    "by": "did:key:zUser",
    "what": "1 replaced: n1",
    "outcome": "pending",
}
FIRST = PENDING | {"number": 1, "what": "as it was deployed", "outcome": "superseded"}


def says(value: object) -> Callable[[Any], object]:
    return lambda _payload: value


def version(outcome: str, error: str = "") -> dict[str, object]:
    return {
        "id": ID,
        "version": 2 if outcome == "current" else 1,
        "versions": [FIRST, PENDING | {"outcome": outcome, "error": error}],
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return path


@pytest.fixture
def asked(node: ScriptedDaemon) -> ScriptedDaemon:
    """A node that takes whatever is asked, and has it done at once."""
    accepted = {
        "OK": True,
        "Version": 2,
        "What": "1 replaced: n1",
        "Changed": True,
        "Stops": {"n1": "its port is taken"},
    }
    for name in ("update", "scale", "revert"):
        node.answers[f"{NS}/{name}"] = says(accepted)
    node.answers[f"{NS}/events"] = says({"events": [], "status": "Running", "error": ""})
    node.answers[f"{NS}/versions"] = says(version("current"))
    return node


def test_an_update_asks_waits_and_tells_what_it_changes(asked: ScriptedDaemon, nunet: Nunet, file: Path) -> None:
    done = nunet(
        "update", "3f2a", file, "--batch", "2", "--healthy-for", "30s", "--no-gap", "--expect", "1", "--request", "r1"
    )
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "Version 2: 1 replaced: n1",
        "  n1 ends before its successor starts: its port is taken",
        "Version 2 is in force.",
    ]
    (request,) = asked.payloads_of(f"{NS}/update")
    assert request["EnsembleID"] == "3f2a"
    assert request["Ensemble"]["v1"]["nodes"]["n1"]["count"] == 2
    wanted = {"Batch": 2, "HealthyForMS": 30_000, "NoGap": True, "Expect": 1, "Request": "r1"}
    assert {key: request[key] for key in wanted} == wanted


def test_two_updates_are_two_requests(asked: ScriptedDaemon, nunet: Nunet, file: Path) -> None:
    nunet("update", "3f2a", file)
    nunet("update", "3f2a", file)
    first, second = asked.payloads_of(f"{NS}/update")
    assert first["Request"] != second["Request"]


def test_what_was_taken_back_is_a_failure_with_its_reason(asked: ScriptedDaemon, nunet: Nunet, file: Path) -> None:
    asked.answers[f"{NS}/versions"] = says(version("reverted", "n1.web: it ended with exit code 3"))
    done = nunet("update", "3f2a", file)
    assert done.code == 1
    assert "version 2 was reverted: n1.web: it ended with exit code 3" in done.err


def test_without_waiting_it_returns_at_once(asked: ScriptedDaemon, nunet: Nunet, file: Path) -> None:
    asked.answers[f"{NS}/versions"] = says(version("pending"))
    done = nunet("update", "3f2a", file, "--no-wait", "--output", "json")
    assert (done.code, json.loads(done.out)["Version"]) == (0, 2)


def test_an_update_that_changes_nothing_says_so(asked: ScriptedDaemon, nunet: Nunet, file: Path) -> None:
    asked.answers[f"{NS}/update"] = says({"OK": True, "Version": 1, "What": "nothing"})
    done = nunet("update", "3f2a", file)
    assert (done.code, done.out) == (0, "Nothing would change: version 1 says the same.\n")


def test_a_refusal_is_told_with_its_hint(asked: ScriptedDaemon, nunet: Nunet, file: Path) -> None:
    asked.answers[f"{NS}/update"] = says({"OK": False, "Error": "version 2 is being rolled out", "Hint": "wait for it"})
    done = nunet("update", "3f2a", file)
    assert done.code == 1
    assert "version 2 is being rolled out" in done.err
    assert "wait for it" in done.err


def test_cancelling_needs_no_file_and_an_update_needs_one(asked: ScriptedDaemon, nunet: Nunet, file: Path) -> None:
    asked.answers[f"{NS}/update/cancel"] = says({"OK": True, "Version": 2})
    assert nunet("update", "3f2a", "--cancel").out == "Version 2 is being taken back.\n"
    assert nunet("update", "3f2a").code == 2
    assert nunet("update", "3f2a", file, "--cancel").code == 2


def test_groups_are_scaled_by_name(asked: ScriptedDaemon, nunet: Nunet) -> None:
    assert nunet("scale", "3f2a", "n1=20", "cache=3", "--queue-timeout", "1h").code == 0
    (request,) = asked.payloads_of(f"{NS}/scale")
    assert (request["Counts"], request["QueueTimeoutMS"]) == ({"n1": 20, "cache": 3}, 3_600_000)


@pytest.mark.parametrize("text", ["n1", "n1=", "=3", "n1=x", "n1=-2"])
def test_what_is_no_size_of_a_group_is_refused(asked: ScriptedDaemon, nunet: Nunet, text: str) -> None:
    done = nunet("scale", "3f2a", text)
    assert done.code == 2
    assert not asked.payloads_of(f"{NS}/scale")


def test_a_revert_names_the_version(asked: ScriptedDaemon, nunet: Nunet) -> None:
    assert nunet("revert", "3f2a", "--to", "1").code == 0
    nunet("revert", "3f2a")
    named, former = asked.payloads_of(f"{NS}/revert")
    assert (named["To"], former.get("To", 0)) == (1, 0)


def test_a_dry_run_shows_the_difference_and_ends_with_one(asked: ScriptedDaemon, nunet: Nunet, file: Path) -> None:
    plan: dict[str, Any] = {
        "ok": True,
        "feasible": True,
        "deployment": ID,
        "nodes": {"added": [], "removed": [], "changed": ["n1"]},
        "kept": {"n2": "12D3KooWPeer"},
    }
    asked.answers[f"{NS}/update"] = says({"OK": True, "Version": 1, "Plan": plan, "Stops": {"n1": "its port is taken"}})
    done = nunet("update", "3f2a", file, "--dry-run")
    assert done.code == 1, done.err
    assert "~ n1" in done.out
    assert "n1 would end before its successor starts: its port is taken" in done.out
    (request,) = asked.payloads_of(f"{NS}/update")
    assert request["DryRun"] is True


def test_versions_are_listed_newest_first_with_what_became_of_them(asked: ScriptedDaemon, nunet: Nunet) -> None:
    asked.answers[f"{NS}/versions"] = says(version("reverted", "no room"))
    done = nunet("versions", "3f2a")
    assert [line.split()[:2] for line in done.out.splitlines()[:3]] == [
        ["VERSION", "STATE"],
        ["2", "reverted"],
        ["1", "superseded"],
    ]
    assert "Version 2 was reverted: no room" in done.out


def test_an_update_under_way_is_told_beside_the_versions(asked: ScriptedDaemon, nunet: Nunet) -> None:
    asked.answers[f"{NS}/versions"] = says(
        version("pending") | {"stage": "verifying", "reverts": True, "why": "it failed"}
    )
    assert "An update is being taken back: verifying (it failed)" in nunet("versions", "3f2a").out


def test_the_ensemble_of_a_version_is_printed(asked: ScriptedDaemon, nunet: Nunet) -> None:
    asked.answers[f"{NS}/version"] = says(
        {"ensemble": {"v1": {"allocations": {}, "nodes": {"n1": {"allocations": ["web"]}}}}}
    )
    done = nunet("versions", "3f2a", "1")
    assert done.code == 0, done.err
    assert "n1:" in done.out
    asked.answers[f"{NS}/version"] = says({"error": "version 9 of this deployment is not known"})
    assert "version 9 of this deployment is not known" in nunet("versions", "3f2a", "9").err
