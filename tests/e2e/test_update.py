"""Updates on real processes: what stays is the same process, what fails is taken back, and kill -9 ends nothing half done."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.localnet import LocalNet
from dms.testing.looking import look_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("devnet")]

PROGRAMS = Path(__file__).parents[2] / "examples" / "programs"
TICKER = PROGRAMS / "ticker.wasm"
NODES = ("node1", "node2")
ORCHESTRATOR = "node3"


def document(count: int = 2, tick_ms: int = 200, program: Path = TICKER) -> dict[str, Any]:
    resources = {"cpu": {"cores": 0.1}, "ram": {"size": "32MiB"}, "disk": {"size": "16MiB"}}

    def service(module: Path, every_ms: int) -> dict[str, Any]:
        execution = {"type": "wasm", "module": f"${{file:{module.name}}}", "environment": {"TICK_MS": str(every_ms)}}
        return {"type": "service", "executor": "wasm", "resources": resources, "execution": execution}

    return {
        "version": "V1",
        "allocations": {"tick": service(program, tick_ms), "steady": service(TICKER, 200)},
        "nodes": {"worker": {"allocations": ["tick"], "count": count}, "other": {"allocations": ["steady"]}},
    }


def written(directory: Path, **changes: Any) -> Path:
    for program in PROGRAMS.glob("*.wasm"):
        (directory / program.name).write_bytes(program.read_bytes())
    file = directory / "job.json"
    file.write_text(json.dumps(document(**changes)))
    return file


@pytest.fixture
def job(net: LocalNet, nunet: Nunet, tmp_path: Path) -> Iterator[str]:
    done = nunet("deploy", "-f", written(tmp_path))
    assert done.code == 0, done
    identifier = done.out.strip()
    try:
        yield identifier
    finally:
        net.mend()
        nunet("shutdown", identifier)
        look_until(lambda: not processes(net), lambda: "something still runs")


def status(nunet: Nunet, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(nunet("info", job, "--output", "json").out)
    return found


def processes(net: LocalNet) -> set[int]:
    return {process.pid for name in NODES for process in net.programs(name)}


def await_programs(net: LocalNet, count: int) -> set[int]:
    look_until(lambda: len(processes(net)) == count, lambda: f"{len(processes(net))} programs run, not {count}")
    return processes(net)


def test_it_is_updated_scaled_and_reverted_and_what_stays_is_the_same_process(
    net: LocalNet, nunet: Nunet, job: str, tmp_path: Path
) -> None:
    first = await_programs(net, 3)
    done = nunet("update", job, written(tmp_path, tick_ms=150), "--healthy-for", "1s", "--batch", "1")
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "Version 2 is in force."
    second = await_programs(net, 3)
    assert len(first & second) == 1
    done = nunet("scale", job, "worker=3", "--healthy-for", "1s")
    assert done.code == 0, done
    assert second < await_programs(net, 4)
    done = nunet("scale", job, "worker=1", "--healthy-for", "0s")
    assert done.code == 0, done
    assert first & second <= await_programs(net, 2) <= second
    done = nunet("revert", job, "--to", "1", "--healthy-for", "0s")
    assert done.code == 0, done
    assert first & second < await_programs(net, 3)
    found = status(nunet, job)
    assert (found["status"], found["version"]) == ("Running", 5)
    lines = nunet("versions", job).out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["5", "current"], ["4", "superseded"]]


def test_a_version_that_does_not_stay_up_is_taken_back(net: LocalNet, nunet: Nunet, job: str, tmp_path: Path) -> None:
    before = await_programs(net, 3)
    file = written(tmp_path, program=PROGRAMS / "wordcount.wasm")
    assert nunet("update", job, file, "--dry-run").code == 1
    done = nunet("update", job, file)
    assert done.code == 1, done
    assert "version 2 was reverted" in done.err
    assert await_programs(net, 3) == before
    assert status(nunet, job)["version"] == 1


@pytest.mark.long("tests/sim/test_updates.py")
def test_an_orchestrator_killed_in_the_middle_of_an_update_finishes_it(
    net: LocalNet, nunet: Nunet, job: str, tmp_path: Path
) -> None:
    first = await_programs(net, 3)
    file = written(tmp_path, tick_ms=150)
    done = nunet("update", job, file, "--healthy-for", "6s", "--no-wait")
    assert done.code == 0, done
    await_programs(net, 5)
    net.end(ORCHESTRATOR, signal.SIGKILL)
    assert first < processes(net)
    net.mend()
    look_until(lambda: "pending" not in nunet("versions", job).out, lambda: nunet("versions", job).out)
    assert len(first & await_programs(net, 3)) == 1
    assert status(nunet, job)["version"] == 2
