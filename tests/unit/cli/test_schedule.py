"""Schedules, waiting and ends on the command line. The node's answers are scripted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

NS = "/dms/node/deployment"
ID = "666c62aceb4a4069880b4775d4d83577"
ENSEMBLE = """
version: "V1"
allocations:
  job:
    type: task
    executor: "null"
    resources: {cpu: {cores: 1}, ram: {size: 64 MiB}, disk: {size: 1 MiB}}
    execution: {type: "null"}
nodes:
  one:
    allocations: [job]
"""
SCHEDULE = {
    "id": ID, "cron": "0 3 * * *", "zone": "UTC", "owner": "did:key:z", "overlap": "skip", "missed": "once",
    "is_paused": False, "created_at": "2026-11-22T08:00:00.000Z", "next_at": "2026-11-23T03:00:00.000Z", "count": 2,
    "metadata": {"name": "backup"},
    "runs": [{"number": 2, "at": "2026-11-22T03:00:00.000Z", "deployment": "", "error": "left out"}],
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(ENSEMBLE)
    return str(path)


def answering(node: ScriptedDaemon, name: str, answer: object) -> list[Any]:
    """Have a behaviour answer; what it was asked."""
    asked: list[Any] = []

    def reply(payload: Any) -> object:
        asked.append(payload)
        return answer

    node.answers |= {f"{NS}/{name}": reply}
    return asked


def test_deploy_tells_how_long_it_may_wait_and_run(nunet: Nunet, node: ScriptedDaemon, file: str) -> None:
    asked = answering(node, "new", {"Status": "OK", "EnsembleID": "a" * 64})

    done = nunet("deploy", "-f", file, "--queue-timeout", "10m", "--run-for", "2h", "--id-only")

    assert done.code == 0
    assert (asked[0]["QueueTimeoutMS"], asked[0]["RunForMS"]) == (600_000, 7_200_000)


def test_a_schedule_is_made(nunet: Nunet, node: ScriptedDaemon, file: str) -> None:
    asked = answering(node, "schedule/new", {"id": ID, "next_at": "2026-11-23T03:00:00.000Z"})

    done = nunet("deploy", "-f", file, "--schedule", "0 3 * * *", "--zone", "Europe/Berlin", "--overlap", "replace")

    assert done.code == 0
    assert done.out == f"Schedule {ID}, first at 2026-11-23T03:00:00.000Z\n"
    assert (asked[0]["cron"], asked[0]["zone"], asked[0]["overlap"]) == ("0 3 * * *", "Europe/Berlin", "replace")


def test_a_schedule_that_is_none_is_told_with_its_remedy(nunet: Nunet, node: ScriptedDaemon, file: str) -> None:
    answering(node, "schedule/new", {"id": "", "error": "not a cron expression", "hint": "write five fields"})

    done = nunet("deploy", "-f", file, "--schedule", "soon")

    assert done.code != 0
    assert "not a cron expression" in done.err
    assert "write five fields" in done.err


def test_schedules_are_listed(nunet: Nunet, node: ScriptedDaemon) -> None:
    answering(node, "schedule/list", {"schedules": [SCHEDULE]})

    table, data = nunet("schedule", "list"), nunet("schedule", "list", "--output", "json")

    assert "666c62aceb4a  0 3 * * *  UTC   active  2026-11-23T03:00:00Z  2     left out" in table.out
    assert json.loads(data.out)[0]["id"] == ID


@pytest.mark.parametrize("name", ["pause", "resume", "delete"])
def test_schedules_are_changed(nunet: Nunet, node: ScriptedDaemon, name: str) -> None:
    asked = answering(node, f"schedule/{name}", {"OK": True})
    assert nunet("schedule", name, "666c").code == 0
    assert asked == [{"id": "666c"}]
    answering(node, f"schedule/{name}", {"OK": False, "Error": "schedule not found: 666c"})

    done = nunet("schedule", name, "666c")

    assert done.code != 0
    assert "schedule not found: 666c" in done.err
