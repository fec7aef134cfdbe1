"""Control groups of both versions, on a tree that only looks like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.executor.cgroup import make_group, remove_group

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes control groups; enable with: sudo make test")


def made(root: Path) -> tuple[str, ...]:
    return make_group("one", memory_bytes=1000, cores=1.5, max_processes=7, root=root)


def test_the_second_version_has_one_group(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    group = tmp_path / "nunet" / "one"
    assert made(tmp_path) == (str(group / "cgroup.procs"),)
    assert {path.name: path.read_text() for path in group.iterdir()} == {
        "memory.max": "1000",
        "cpu.max": "150000 100000",
        "pids.max": "7",
    }


def test_the_first_version_has_one_for_each_controller_that_is_there(tmp_path: Path) -> None:
    for controller in ("memory", "cpu"):
        (tmp_path / controller).mkdir()
        (tmp_path / controller / "cgroup.procs").touch()
    files = made(tmp_path)
    assert files == tuple(str(tmp_path / name / "nunet" / "one" / "cgroup.procs") for name in ("memory", "cpu"))
    assert (tmp_path / "memory" / "nunet" / "one" / "memory.limit_in_bytes").read_text() == "1000"
    assert (tmp_path / "cpu" / "nunet" / "one" / "cpu.cfs_quota_us").read_text() == "150000"


def test_without_control_groups_nothing_is_held(tmp_path: Path) -> None:
    assert made(tmp_path) == ()


def test_a_group_is_removed_and_may_be_gone(tmp_path: Path) -> None:
    group = tmp_path / "nunet" / "one"
    group.mkdir(parents=True)
    remove_group("one", root=tmp_path)
    remove_group("one", root=tmp_path)
    assert not group.exists()
