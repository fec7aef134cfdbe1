"""A provider's process is killed: how long until it counts as dead, and until its service runs elsewhere; and whether a
machine without any processor time left makes anybody look dead.

Three nodes of a local network, two of which offer resources; a WebAssembly service runs on one of them. Each turn kills
that one's process with ``SIGKILL`` and starts it again afterwards; the moments are those of the deployment's own journal,
which shares our clock. Then the service is left in peace, and the machine is not: more processes than it has processors
count for a minute. Whoever is declared dead then lives.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.networks import Bench, client_of
from bench.processes import PYTHON
from bench.report import Report
from dms.cli.client import Client
from dms.cli.following import NAMESPACE, Deployment
from dms.devnet.network import running
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.loading import parse_ensemble
from dms.node.payloads import NewDeployment, NewDeploymentReply
from dms.testing.localnet import LocalNet

PROGRAMS = Path(__file__).resolve().parent.parent / "examples" / "programs"
TURNS = 5
TIMEOUT_S = 90.0
WAIT_MS = 5_000
POLL_S = 0.5
NS_PER_S = 10**9
SERVICE = "one.tick"
DETECTION_GOAL_S = 10.0
BUSY_S = 60.0
BUSY_PER_PROCESSOR = 4
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass"
"""Counts, until whoever started it is gone."""

MISJUDGED = ("peer_lost", "allocation_ended", "node_bids", "restarts_done")

ENSEMBLE = """\
version: "V1"
allocations:
  tick:
    type: service
    executor: wasm
    resources: {cpu: {cores: 0.1}, ram: {size: 32MiB}, disk: {size: 16MiB}}
    execution: {type: wasm, module: "${file:ticker.wasm}", environment: {TICK_MS: "200"}}
nodes:
  one: {allocations: [tick], failure_recovery: redeploy}
"""


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report(
        "failover",
        "how soon is a dead provider known and its service served again, and is anybody alive taken for dead?",
    )
    config = parse_ensemble(ENSEMBLE.encode(), file="the ensemble", base=PROGRAMS, env={}).config
    with running(bench.scratch / "failover-network", 3, 2) as network:
        net = LocalNet(Path(network.dir))
        deployment = _deploy(client_of(network), config)
        turns = [_kill_its_provider(net, deployment) for _ in range(TURNS)]
        misjudged, slowest_s = _starve(deployment, BUSY_PER_PROCESSOR * (os.cpu_count() or 1))
        deployment.shutdown()
    net.reap()
    known = [known_s for known_s, _ in turns]
    report.median("provider killed → known to be dead", known, "s")
    report.median("provider killed → its service runs elsewhere", [served_s for _, served_s in turns], "s")
    report.single("short of processors: for", BUSY_S, "s")
    report.single("  busy processes for each processor", BUSY_PER_PROCESSOR, "")
    report.single("  the slowest answer of the orchestrator", slowest_s, "s")
    report.goal("provider killed → known to be dead, the slowest", max(known), DETECTION_GOAL_S, "s")
    report.goal("taken for dead or failed while processors are short", misjudged, 0, "")
    return report


def _deploy(client: Client, config: EnsembleConfig) -> Deployment:
    reply = client.call(f"{NAMESPACE}/new", NewDeployment(ensemble=config), NewDeploymentReply, timeout_s=TIMEOUT_S)
    if not reply.ensemble_id:
        raise RuntimeError(f"the deployment was refused: {reply.error}")
    deployment = Deployment(client, reply.ensemble_id)
    _await(deployment, 0, "starts_done")
    return deployment


def _kill_its_provider(net: LocalNet, deployment: Deployment) -> tuple[float, float]:
    """Seconds until it was known, and until the service ran on the other; both providers are there again afterwards."""
    seen = deployment.progress().events[-1].seq
    peer = deployment.info().allocations[SERVICE].peer
    (name,) = (node.name for node in net.profile.nodes if node.peer_id == peer)
    epoch_ns = time.time_ns()
    net.end(name, signal.SIGKILL)
    at = _await(deployment, seen, "node_started")
    net.mend()
    _await(deployment, seen, "left_ended")
    return (at["peer_lost"] - epoch_ns) / NS_PER_S, (at["node_started"] - epoch_ns) / NS_PER_S


def _starve(deployment: Deployment, count: int) -> tuple[int, float]:
    """How often anybody was taken for dead or failed, and the slowest answer of the orchestrator, in seconds."""
    seen, slowest_s = deployment.progress().events[-1].seq, 0.0
    with _busy(count):
        give_up = time.monotonic() + BUSY_S
        while time.monotonic() < give_up:
            asked = time.perf_counter()
            deployment.status()
            slowest_s = max(slowest_s, time.perf_counter() - asked)
            time.sleep(POLL_S)
    time.sleep(DETECTION_GOAL_S)  # whoever is suspected now is judged by then
    since = deployment.progress(after=seen)
    if since.status != "Running":
        raise RuntimeError(f"the deployment is {since.status}: {deployment.status().error}")
    return sum(event.kind in MISJUDGED for event in since.events), slowest_s


@contextmanager
def _busy(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([PYTHON, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _await(deployment: Deployment, after: int, kind: str) -> dict[str, int]:
    """When each kind of event came last, in nanoseconds since 1970, once one of ``kind`` has come."""
    give_up, at = time.monotonic() + TIMEOUT_S, dict[str, int]()
    while kind not in at:
        progress = deployment.progress(after=after, wait_ms=WAIT_MS)
        at |= {event.kind: event.at for event in progress.events}
        after = max((event.seq for event in progress.events), default=after)
        if progress.is_final or time.monotonic() > give_up:
            raise RuntimeError(f"the deployment is {progress.status}, without {kind}: {deployment.status().error}")
    return at
