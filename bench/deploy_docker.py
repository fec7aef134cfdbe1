"""From the request to a running container on another node, beside ``docker run`` of the same image on the same engine.

One task, three nodes of a local network, two of which bid; the engine is this benchmark's own, so it needs root and
``dockerd``, and says so where one is missing. Each turn runs a deployment and the command line of the engine, one after
the other. The first turn warms everything and is not counted.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from bench.deploying import OVERHEAD_GOAL_S, deploy, report_turns
from bench.docker import IMAGE, is_missing, make_image
from bench.networks import Bench, client_of
from bench.report import Report
from dms.devnet.network import running
from dms.ensemble.loading import parse_ensemble
from dms.testing.dockerd import docker_engine

TURNS = 9
PAUSE_S = 1.0
"""Between turns: what remains of a container is cleared away meanwhile."""
PROGRAM = ("sh", "-c", "echo up; sleep 0.2")
LIMITS = ("--cpus", "0.25", "--memory", "64m")
STRETCH_GOAL_S = 0.3

ENSEMBLE = f"""\
version: "V1"
allocations:
  hello:
    type: task
    executor: docker
    resources: {{cpu: {{cores: 0.25}}, ram: {{size: 64MiB}}, disk: {{size: 64MiB}}}}
    execution: {{type: docker, image: "{IMAGE}", cmd: ["{PROGRAM[0]}", "{PROGRAM[1]}", "{PROGRAM[2]}"]}}
nodes:
  one: {{allocations: [hello]}}
"""


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("deploy-docker", "how much longer does a container take to run on somebody's node than by hand?")
    if missing := is_missing():
        report.question = missing
        return report
    config = parse_ensemble(ENSEMBLE.encode(), file="the ensemble", base=bench.scratch, env={}).config
    turns, by_hand, by_hand_end = [], [], []
    with docker_engine() as engine, _engine_of_nodes(engine.host):
        trio.run(make_image, engine.host)
        with running(bench.scratch / "docker-network", 3, 2) as network:
            client = client_of(network)
            for turn in range(TURNS + 1):
                deployed = deploy(client, network, config)
                time.sleep(PAUSE_S)
                start_s, end_s = _run_by_hand(engine.host, f"by-hand-{turn}")
                time.sleep(PAUSE_S)
                if turn:
                    turns.append(deployed)
                    by_hand.append(start_s)
                    by_hand_end.append(end_s)
    until_running, until_completed = report_turns(report, turns)
    report.median("docker run: start → running", by_hand, "s")
    report.median("docker run: start → end", by_hand_end, "s")
    overheads = [a - b for a, b in zip(until_running, by_hand, strict=True)]
    overhead = report.median("overhead: request → running, less that of docker run", overheads, "s")
    report.ratio("request → running / docker run", until_running, by_hand)
    report.ratio("request → completed / docker run to its end", until_completed, by_hand_end)
    report.goal("overhead of a deployment", overhead, OVERHEAD_GOAL_S, "s")
    report.goal("overhead of a deployment, as it should be", overhead, STRETCH_GOAL_S, "s")
    return report


@contextmanager
def _engine_of_nodes(host: str) -> Iterator[None]:
    """Nodes that are started here use this engine."""
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = host
    try:
        yield
    finally:
        del os.environ["DOCKER_HOST"]
        if before is not None:
            os.environ["DOCKER_HOST"] = before


def _run_by_hand(host: str, name: str) -> tuple[float, float]:
    """Seconds until it runs, which is when the detached command returns, and until it has ended."""
    docker = ["docker", "-H", host]
    started = time.perf_counter()
    _run([*docker, "run", "--detach", "--init", *LIMITS, "--name", name, IMAGE, *PROGRAM])
    start_s = time.perf_counter() - started
    _run([*docker, "wait", name])
    end_s = time.perf_counter() - started
    _run([*docker, "rm", "--force", name])
    return start_s, end_s


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
