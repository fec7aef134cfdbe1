from __future__ import annotations

import json
from pathlib import Path

import pytest

from dms.testing.commandline import Nunet
from dms.testing.machines import plant


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    return plant("amd", tmp_path)


def test_gpus_are_listed(nunet: Nunet, machine: Path) -> None:
    done = nunet("gpu", "list", "--sysroot", machine)
    heading, first, second = done.out.splitlines()
    assert heading.split()[:3] == ["INDEX", "VENDOR", "MODEL"]
    assert "16.0 GiB" in first
    assert "GPU-4a9c1bd5e80f2376" in first
    assert second.startswith("1      AMD/ATI  AMD Instinct MI210")
    assert done.err == "Warning: AMD: 0000:63:00.0: the driver is missing\n"


def test_gpus_are_listed_for_programs(nunet: Nunet, machine: Path) -> None:
    found = json.loads(nunet("gpu", "list", "--sysroot", machine, "-o", "json").out)
    assert [(gpu["index"], gpu["vram_bytes"], gpu["cores"]) for gpu in found["gpus"]] == [
        (0, 17163091968, 4608),
        (1, 68702699520, 6656),
    ]
    assert found["problems"] == ["AMD: 0000:63:00.0: the driver is missing"]


def test_a_machine_without_gpus_says_so(nunet: Nunet, tmp_path: Path) -> None:
    done = nunet("gpu", "list", "--sysroot", tmp_path)
    assert (done.code, done.out, done.err) == (0, "No GPU found\n", "")
    done = nunet("gpu", "test", "--sysroot", tmp_path)
    assert (done.code, done.err.splitlines()[0]) == (4, "Error: there is no GPU on this machine")


def test_the_largest_gpu_is_tested_unless_another_is_named(nunet: Nunet, machine: Path) -> None:
    for arguments, tested in (((), [1]), ((0,), [0]), (("--all",), [0, 1])):
        done = nunet("gpu", "test", *arguments, "--sysroot", machine, "-o", "json")
        found = json.loads(done.out)["tests"]
        assert [test["gpu"]["index"] for test in found] == tested
        # a tree of files has no device nodes below /dev
        assert (done.code, {test["passed"] for test in found}) == (1, {False})
        assert done.err.count("device nodes: missing: /dev/kfd") == 1


def test_what_was_tried_is_told(nunet: Nunet, machine: Path) -> None:
    lines = nunet("gpu", "test", "0", "--sysroot", machine).out.splitlines()
    assert lines[0].startswith("GPU 0: AMD/ATI Navi 21")
    results = {line[:14].strip(): line[14:].split()[0] for line in lines[2:]}
    assert results["driver"] == "passed"
    assert results["device nodes"] == "FAILED"


def test_a_gpu_that_is_not_there_is_not_found(nunet: Nunet, machine: Path) -> None:
    done = nunet("gpu", "test", "7", "--sysroot", machine)
    assert (done.code, done.out) == (4, "")
    assert "there is no GPU 7 on this machine" in done.err
