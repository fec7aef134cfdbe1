"""The main job: three nodes, each a process of its own, deploy ``examples/wordcount.yaml`` through the command line."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dms.testing.commandline import Nunet
from dms.testing.localnet import LocalNet, run_nunet, start_nunet

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("devnet")]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "wordcount.yaml"
TEXTS = ROOT / "examples" / "text"
SERVICE = "right.ticker"
TASKS = ("left.wordcount", "right.linestats")


@dataclass(frozen=True)
class Job:
    """A deployment whose service runs and whose tasks are done, and what ``nunet deploy`` told until Ctrl-C."""

    id: str
    told: list[str]
    code: int
    err: str


@pytest.fixture(scope="module")
def interrupted_job(shared_net: LocalNet) -> Iterator[Job]:
    """Deployed by a command that would wait for ever, interrupted once everything has happened."""
    arguments = ("deploy", "-f", EXAMPLE, "--progress", "--until", "ended")
    with start_nunet(*arguments, env=shared_net.environment) as process:
        assert process.stdout is not None
        told = []
        wanted = {f"{SERVICE} is running", *(f"{task} ended" for task in TASKS)}
        for line in process.stdout:
            told.append(line.rstrip())
            wanted = {one for one in wanted if one not in line}
            if not wanted:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    job = Job(told[0].removeprefix("Deployment "), told, process.returncode, err)
    yield job
    shared_net.deployment(job.id).shutdown()


@pytest.fixture
def job(net: LocalNet, interrupted_job: Job) -> Job:
    return interrupted_job


def test_deploy_tells_who_bid_who_was_chosen_and_what_became_of_it(job: Job) -> None:
    story = "\n".join(job.told)
    assert re.fullmatch(r"Deployment [0-9a-f]{64}", job.told[0])
    for peer in ("node1", "node2"):
        assert f"{peer} bid for left (" in story
    assert "node3 bid" not in story  # it offers nothing
    assert re.search(r"chose node[12] for left, node[12] for right out of 4 bids", story)
    assert "resources reserved" in story
    assert "allocations made" in story
    assert f"{SERVICE} is running" in story
    for task in TASKS:
        assert f"{task} ended: completed, exit code 0" in story


def test_ctrl_c_leaves_the_deployment_running_and_says_so(job: Job, nunet: Nunet) -> None:
    assert job.code == 130
    assert f"The deployment goes on. nunet status {job.id[:12]} shows it" in job.err
    assert nunet("status", job.id).out.splitlines()[1].split() == ["Status", "Running"]


def test_status_shows_each_allocation(job: Job, nunet: Nunet) -> None:
    document = json.loads(nunet("status", job.id[:10], "--output", "json").out)
    assert document["id"] == job.id
    assert document["status"] == "Running"
    found = {key: (a["type"], a["status"], a.get("exit_code")) for key, a in document["allocations"].items()}
    assert found == {
        "left.wordcount": ("task", "completed", 0),
        "right.linestats": ("task", "completed", 0),
        SERVICE: ("service", "running", None),
    }


def test_the_logs_hold_the_true_counts(job: Job, nunet: Nunet) -> None:
    texts = {f"/text/{path.name}": path.read_text("ascii") for path in sorted(TEXTS.iterdir())}
    words = {name: re.findall(r"[A-Za-z0-9]+(?:'[A-Za-z0-9]+)*", text) for name, text in texts.items()}
    lines = nunet("logs", job.id[:8], "wordcount").out.splitlines()
    told = {name: tuple(map(int, counts)) for *counts, name in map(str.split, lines[1:4])}
    counted = {name: (text.count("\n"), len(words[name]), len(text)) for name, text in texts.items()}
    assert told == counted | {"total": tuple(map(sum, zip(*counted.values(), strict=True)))}

    tally = Counter(word.lower() for found in words.values() for word in found)
    assert f"{len(tally)} different words" in lines[5]
    most = sorted(((-count, word) for word, count in tally.items() if len(word) >= 4))[:10]
    assert [(-int(count), word) for count, word, _ in map(str.split, lines[7:])] == most


def test_the_service_goes_on_ticking(job: Job, nunet: Nunet) -> None:
    lines = nunet("logs", job.id, "ticker").out.splitlines()
    assert lines[0] == "heartbeat: started, one line every 500 ms"
    assert all(re.match(rf"heartbeat: tick {n} after ", line) for n, line in enumerate(lines[1:], start=1))


def test_the_listing_and_the_events_tell_the_same(job: Job, nunet: Nunet) -> None:
    listing = json.loads(nunet("get", "deployments", "--filter", "example=wordcount", "--output", "json").out)
    assert {"orchestrator_id": job.id, "status": "Running"}.items() <= {
        key: value for d in listing["deployments"] if d["orchestrator_id"] == job.id for key, value in d.items()
    }.items()
    events = [line.split(maxsplit=1)[1] for line in nunet("events", job.id[:12]).out.splitlines()]
    assert events[: len(job.told) - 1] == [line.split(maxsplit=1)[1] for line in job.told[1:]]


def test_shutdown_ends_the_service_and_frees_every_provider(net: LocalNet, nunet: Nunet) -> None:
    before = {name: net.free(name) for name in ("node1", "node2")}
    done = run_nunet("deploy", "-f", EXAMPLE, "--wait")
    assert (done.code, done.err) == (0, "")
    identifier = done.out.strip()  # in a pipe nothing but the id
    net.await_event(identifier, *(f"{task} ended: completed" for task in TASKS))

    done = run_nunet("shutdown", identifier[:12])
    assert (done.code, done.out.strip(), done.err) == (0, "Completed", "")
    document = json.loads(nunet("status", identifier, "--output", "json").out)
    assert document["status"] == "Completed"
    assert document["allocations"][SERVICE]["status"] == "terminated"
    assert all(document["allocations"][task]["status"] == "completed" for task in TASKS)
    assert {name: net.free(name) for name in before} == before
    assert "heartbeat: started" in nunet("logs", identifier, "ticker").out  # kept after the end

    done = nunet("shutdown", identifier)
    assert (done.code, done.err.splitlines()[0]) == (5, "Error: deployment is not running: it is Completed")
