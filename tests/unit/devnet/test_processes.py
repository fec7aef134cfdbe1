"""Nodes as processes: which are ours, what became of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from dms.devnet import processes
from dms.devnet.errors import NodeFailed
from dms.devnet.plan import NodePlan

SLEEPER = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, *words: object, code: str = SLEEPER, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """A process whose command line ends with these words; ended with the test."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, cwd=cwd or Path.cwd()
    )
    stack.enter_context(process)
    stack.callback(process.kill)
    return process


def node(stack: ExitStack, config: object, *, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    return start(stack, processes.MODULE, "--config", config, "run", cwd=cwd)


def test_nodes_are_found_by_the_configuration_that_they_run_with(stack: ExitStack, tmp_path: Path) -> None:
    net = tmp_path / "net"
    (net / "node1").mkdir(parents=True)
    one = node(stack, net / "node1/dms_config.json")
    two = node(stack, "node1/../other.json", cwd=net)
    start(stack, processes.MODULE, "--config", net / "node3/dms_config.json", "config", "get")
    start(stack, "something", "else", "and", "--config", net / "node4/dms_config.json", "run")
    node(stack, tmp_path / "elsewhere.json")
    found = processes.nodes_in(net)
    assert {path: process.pid for path, process in found.items()} == {
        net / "node1/dms_config.json": one.pid,
        net / "other.json": two.pid,
    }


def test_nodes_are_found_through_a_link_under_the_name_that_was_asked_for(stack: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    node(stack, tmp_path / "link/node1.json")
    assert list(processes.nodes_in(tmp_path / "link")) == [tmp_path / "link/node1.json"]
    assert list(processes.nodes_in(tmp_path / "real")) == [tmp_path / "real/node1.json"]


def test_what_has_ended_but_was_not_waited_for_does_not_run(stack: ExitStack, tmp_path: Path) -> None:
    ended = node(stack, tmp_path / "node1.json")
    ended.kill()
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert processes.nodes_in(tmp_path) == {}


def test_ending_takes_what_is_gone_what_listens_and_what_does_not(stack: ExitStack) -> None:
    gone, willing, deaf = start(stack), start(stack), start(stack, code=DEAF)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    found = [psutil.Process(process.pid) for process in (gone, willing, deaf)]
    gone.kill()
    gone.wait()
    processes.stop_all(found, grace_s=0.5)
    assert not any(process.is_running() for process in found)


def test_the_first_node_that_ends_is_named_whichever_is_waited_for(stack: ExitStack, tmp_path: Path) -> None:
    plans = [NodePlan(f"node{n}", tmp_path / f"node{n}", 1, 1, is_provider=False) for n in (1, 2)]
    for plan in plans:
        plan.directory.mkdir()
    plans[1].output_file.write_text("2030-01-01 ready\n\nError: no room\nHint: make some\n")
    waiting, ended = start(stack), start(stack, code="raise SystemExit(5)")
    ended.wait()
    started = list(zip(plans, (waiting, ended), strict=True))
    with pytest.raises(NodeFailed, match=r"^node2 ended with code 5: Error: no room Hint: make some$"):
        processes.await_ready(started, 1, check=lambda: None)


def test_waiting_can_be_interrupted(stack: ExitStack, tmp_path: Path) -> None:
    plan = NodePlan("node1", tmp_path, 1, 1, is_provider=False)

    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.await_ready([(plan, start(stack))], 0, check=check)


def test_a_node_that_wrote_nothing(tmp_path: Path) -> None:
    assert processes.last_words(tmp_path / "none") == "it wrote nothing"
    (tmp_path / "empty").touch()
    assert processes.last_words(tmp_path / "empty") == "it wrote nothing"
