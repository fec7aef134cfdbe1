from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.testing.machines import plant

BENCHMARK = "/dms/node/hardware/benchmark"
NEW = {"measured_at": 1_800_000_000.0, "seconds": 4.0, "cpu_single_bps": 900 << 20, "disk_sync_s": 0.0021}
OLD = {**NEW, "measured_at": 1_700_000_000.0, "cpu_single_bps": 1 << 30, "disk_sync_s": 0.0}


@pytest.fixture
def work_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DMS_GENERAL_WORK_DIR", str(tmp_path))
    return tmp_path


def test_the_machine_is_shown_without_a_node(nunet: Nunet, work_dir: Path) -> None:
    done = nunet("hardware", "show")
    parts = [line.split()[0] for line in done.out.splitlines()]
    assert parts[:4] == ["PART", "processor", "memory", "disk"]
    assert f"of {work_dir}" in done.out


def test_the_machine_is_shown_for_programs(nunet: Nunet, work_dir: Path) -> None:
    found = json.loads(nunet("hardware", "show", "--output", "json").out)
    assert found["processor"]["threads"] >= 1
    assert found["memory"]["total_bytes"] > 0
    assert found["disk"]["path"] == str(work_dir)
    assert found["probe_ms"] > 0


def test_gpus_and_problems_are_shown(nunet: Nunet, work_dir: Path) -> None:
    done = nunet("hardware", "show", "--sysroot", plant("amd", work_dir))
    assert "gpu 1      AMD/ATI AMD Instinct MI210" in done.out
    assert done.err == "Warning: AMD: 0000:63:00.0: the driver is missing\n"


def test_the_node_measures_and_shows_the_figures_before(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[BENCHMARK] = lambda _payload: {"OK": True, "benchmarks": [NEW, OLD]}
    lines = nunet("hardware", "bench").out.splitlines()
    assert lines[0].split() == ["MEASURED", "VALUE", "BEFORE"]
    assert lines[1].split() == ["at", "2027-01-15", "08:00:00Z", "2023-11-14", "22:13:20Z"]
    assert lines[2].split()[-4:] == ["900.0", "MiB/s", "1.0", "GiB/s"]
    assert lines[7].split() == ["disk,", "synced", "2100", "µs", "-"]
    assert node.payloads_of(BENCHMARK) == [{"run": True}]


def test_stored_figures_are_shown_without_measuring(node: ScriptedDaemon, nunet: Nunet) -> None:
    def answer(payload: Any) -> object:
        return {"OK": True, "benchmarks": [NEW] if (payload or {}).get("run") else []}

    node.answers[BENCHMARK] = answer
    assert nunet("hardware", "bench", "--stored").out == "This machine was not measured yet\n"
    assert json.loads(nunet("hardware", "bench", "-o", "json").out)["benchmarks"][0]["cpu_single_bps"] == 900 << 20


def test_a_node_that_cannot_measure_says_why(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[BENCHMARK] = lambda _payload: {"OK": False, "benchmarks": [], "error": "the disk is full"}
    done = nunet("hardware", "bench")
    assert (done.code, done.err) == (1, "Error: the disk is full\n")


def test_stored_and_here_exclude_each_other(nunet: Nunet) -> None:
    assert nunet("hardware", "bench", "--stored", "--here").code == 2
