from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

ONBOARD, BENCHMARK = "/dms/node/onboarding/onboard", "/dms/node/hardware/benchmark"
GIB = 1 << 30
CARD = {"index": 0, "vendor": "NVIDIA", "model": "RTX 3080", "vram": 10 * GIB, "uuid": "GPU-0"}
FIGURES = {
    "measured_at": 1.8e9,
    "seconds": 4.0,
    "cpu_single_bps": 900 << 20,
    "cpu_all_bps": 1800 << 20,
    "memory_copy_bps": 9 * GIB,
    "disk_write_bps": 200 << 20,
}
ENOUGH = ("--cpu", "2", "--ram", "4GiB", "--disk", "10GiB")


def spec(*gpus: object) -> Callable[[Any], object]:
    return lambda _payload: {
        "OK": True,
        "Resources": {"cpu": {"cores": 4}, "ram": {"size": 2**33}, "disk": {"size": 2**40}, "gpus": list(gpus)},
    }


def accept(payload: Any) -> object:
    offered = dict(payload["Config"]["onboarded_resources"])
    offered["cpu"] = {**offered["cpu"], "clock_speed": 2.5e9}
    if payload.get("GPUs"):
        offered["gpus"] = [{**CARD, "vram": 4 * GIB}]
    return {"success": True, "error": "", "config": {"is_onboarded": True, "onboarded_resources": offered}}


@pytest.fixture
def machine(node: ScriptedDaemon) -> ScriptedDaemon:
    node.answers |= {
        "/dms/node/hardware/spec": spec(),
        ONBOARD: accept,
        BENCHMARK: lambda _payload: {"OK": True, "benchmarks": [FIGURES]},
    }
    return node


def test_onboard_takes_sizes_with_units(machine: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("onboard", "--cpu", "2", "--ram", "4GiB", "--disk", "10")
    assert (done.code, done.out.splitlines()[0]) == (0, "Onboarded 2 cores, 4.0 GiB RAM, 10.0 GiB disk")
    assert done.err == ""


def test_onboard_takes_shares_of_the_machine(machine: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("onboard", "--cpu", "50%", "--ram", "25%", "--disk", "12.5%", "--output", "json")
    offered = json.loads(done.out)["onboarded_resources"]
    assert (offered["cpu"]["cores"], offered["ram"]["size"], offered["disk"]["size"]) == (2, 2**31, 2**37)


@pytest.mark.parametrize("cpu", ["0", "-1", "many", "0%", "101%", "x%", "nan"])
def test_amounts_that_are_none_are_bad_input(machine: ScriptedDaemon, nunet: Nunet, cpu: str) -> None:
    assert nunet("onboard", f"--cpu={cpu}", "--ram", "1", "--disk", "1").code == 2
    assert machine.payloads_of(ONBOARD) == []


def test_what_cannot_be_onboarded_is_told(machine: ScriptedDaemon, nunet: Nunet) -> None:
    machine.answers[ONBOARD] = lambda _payload: {"success": False, "error": "too much RAM"}
    done = nunet("onboard", "--cpu", "2", "--ram", "4TiB", "--disk", "10")
    assert (done.code, done.err) == (1, "Error: too much RAM\n")
    assert machine.payloads_of(BENCHMARK) == []


def test_gpus_are_offered_by_index_and_memory(machine: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("onboard", *ENOUGH, "--gpus", "0:4")
    assert done.out.splitlines()[0].endswith(", GPU 0 with 4.0 GiB")
    (payload,) = machine.payloads_of(ONBOARD)
    assert (payload["GPUs"], payload.get("NoGPU", False)) == ("0:4", False)
    assert machine.payloads_of("/dms/node/hardware/spec") == []


def test_without_a_word_about_gpus_a_script_offers_none_and_is_told_how(machine: ScriptedDaemon, nunet: Nunet) -> None:
    machine.answers["/dms/node/hardware/spec"] = spec(CARD)
    done = nunet("onboard", *ENOUGH)
    assert done.code == 0
    assert "GPU 0: NVIDIA RTX 3080, 10.0 GiB" in done.err
    assert "--gpus 0:90%" in done.err
    assert machine.payloads_of(ONBOARD)[0]["NoGPU"] is True


def test_a_terminal_is_asked_for_gpus(machine: ScriptedDaemon) -> None:
    machine.answers["/dms/node/hardware/spec"] = spec(CARD)
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"0:4\n")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dms.cli.main", "onboard", *ENOUGH, "--no-benchmark"],
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert done.returncode == 0, done.stderr
    assert "Offer which" in done.stderr
    assert machine.payloads_of(ONBOARD)[0]["GPUs"] == "0:4"


def test_no_gpu_and_gpus_exclude_each_other(machine: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("onboard", *ENOUGH, "--gpus", "0:4", "--no-gpu")
    assert (done.code, machine.payloads_of(ONBOARD)) == (2, [])
    assert "exclude" in done.err


def test_no_gpu_asks_nothing(machine: ScriptedDaemon, nunet: Nunet) -> None:
    machine.answers["/dms/node/hardware/spec"] = spec(CARD)
    assert nunet("onboard", *ENOUGH, "--no-gpu").err == ""
    assert machine.payloads_of("/dms/node/hardware/spec") == []


def test_less_than_the_recommended_minimum_is_warned_about_and_onboarded(machine: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("onboard", "--cpu", "1", "--ram", "1GiB", "--disk", "1GiB")
    assert done.code == 0
    assert [line.split(",")[0] for line in done.err.splitlines()] == [
        "Warning: RAM: 1.1 GB",
        "Warning: disk: 1.1 GB",
    ]
    again = json.loads(nunet("onboard", "--cpu", "1", "--ram", "1GiB", "--disk", "1GiB", "-o", "json").out)
    assert len(again["below_minimum"]) == 2


def test_onboarding_measures_a_machine_that_never_was(machine: ScriptedDaemon, nunet: Nunet) -> None:
    machine.answers[BENCHMARK] = lambda payload: {
        "OK": True,
        "benchmarks": [FIGURES] if payload and payload.get("run") else [],
    }
    done = nunet("onboard", *ENOUGH)
    assert done.out.splitlines()[1] == (
        "Measured processor all threads 1.8 GiB/s, memory copied 9.0 GiB/s, disk written 200.0 MiB/s, "
        "disk read not known"
    )
    assert [bool((payload or {}).get("run")) for payload in machine.payloads_of(BENCHMARK)] == [False, True]


def test_onboarding_measures_once(machine: ScriptedDaemon, nunet: Nunet) -> None:
    assert json.loads(nunet("onboard", *ENOUGH, "-o", "json").out)["benchmark"]["seconds"] == 4.0
    assert len(machine.payloads_of(BENCHMARK)) == 1
    nunet("onboard", *ENOUGH, "--no-benchmark")
    assert len(machine.payloads_of(BENCHMARK)) == 1


def test_a_machine_that_cannot_be_measured_is_onboarded_all_the_same(machine: ScriptedDaemon, nunet: Nunet) -> None:
    machine.answers[BENCHMARK] = lambda _payload: {"OK": False, "benchmarks": [], "error": "the disk is full"}
    done = nunet("onboard", *ENOUGH)
    assert (done.code, done.err) == (0, "Warning: the machine was not measured: the disk is full\n")


def test_offboard(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers["/dms/node/onboarding/offboard"] = lambda _payload: {"success": True, "error": ""}
    assert nunet("offboard").out == "Offboarded\n"
    node.answers["/dms/node/onboarding/offboard"] = lambda _payload: {"success": False, "error": "allocations run"}
    done = nunet("offboard")
    assert (done.code, done.err) == (1, "Error: allocations run\n")
