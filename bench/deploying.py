"""One deployment from the request to its end, taken apart by the stamps of its own journal, which shares our clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from bench.report import Report
from dms.cli.client import Client
from dms.cli.following import NAMESPACE, Deployment
from dms.devnet.profile import NetworkProfile
from dms.ensemble.config import EnsembleConfig
from dms.node.payloads import DeploymentEvent, NewDeployment, NewDeploymentReply

TIMEOUT_S = 90.0
OVERHEAD_GOAL_S = 1.0
PHASES = (
    ("request → accepted, on disk", "request", "submitted"),
    ("accepted → bids requested", "submitted", "bids_requested"),
    ("bids requested → first bid", "bids_requested", "bid_received"),
    ("first bid → chosen", "bid_received", "bids_collected"),
    ("chosen → reserved", "bids_collected", "commits_done"),
    ("reserved → allocated", "commits_done", "allocates_done"),
    ("allocated → running", "allocates_done", "starts_done"),
    ("running → end reported", "starts_done", "allocation_ended"),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One deployment: seconds since the request, processor seconds of the orchestrator and of the providers."""

    moments: Mapping[str, float]
    """By event, the first of its kind; ``running`` and ``completed`` are when the client knew."""
    orchestrator_cpu_s: float
    providers_cpu_s: float


def deploy(client: Client, network: NetworkProfile, config: EnsembleConfig) -> Turn:
    """Submit, follow to the end, and look at the clocks."""
    own = [node for node in network.nodes if node.name == network.default_node]
    others = [node for node in network.nodes if node.name != network.default_node]
    before = [_cpu_s(node.pid for node in nodes) for nodes in (own, others)]
    epoch_ns, started = time.time_ns(), time.perf_counter()
    reply = client.call(f"{NAMESPACE}/new", NewDeployment(ensemble=config), NewDeploymentReply, timeout_s=TIMEOUT_S)
    if not reply.ensemble_id:
        raise RuntimeError(f"the deployment was refused: {reply.error}")
    deployment, moments = Deployment(client, reply.ensemble_id), {"request": 0.0}
    events: list[DeploymentEvent] = []
    status = ""
    for progress in deployment.follow():
        now = time.perf_counter() - started
        events.extend(progress.events)
        status = progress.status
        if "running" not in moments and any(event.kind == "starts_done" for event in progress.events):
            moments["running"] = now
        if progress.is_final:
            moments["completed"] = now
            break
    if status != "Completed" or "running" not in moments:
        raise RuntimeError(f"the deployment is {status}: {reply.error or deployment.status().error}")
    for event in events:
        moments.setdefault(event.kind, (event.at - epoch_ns) / 1e9)
    after = [_cpu_s(node.pid for node in nodes) for nodes in (own, others)]
    return Turn(moments, after[0] - before[0], after[1] - before[1])


def report_turns(report: Report, turns: Sequence[Turn]) -> tuple[list[float], list[float]]:
    """Add what a series of them took; until each ran, and until each had ended."""
    running = [turn.moments["running"] for turn in turns]
    completed = [turn.moments["completed"] for turn in turns]
    report.median("deploy: request → running", running, "s")
    report.median("deploy: request → completed", completed, "s")
    for name, begin, end in PHASES:
        report.median(f"  {name}", [max(0.0, turn.moments[end] - turn.moments[begin]) for turn in turns], "s")
    report.median("deploy: CPU of the orchestrator", [turn.orchestrator_cpu_s for turn in turns], "s")
    report.median("deploy: CPU of both providers", [turn.providers_cpu_s for turn in turns], "s")
    return running, completed


def _cpu_s(pids: Iterable[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(t.user + t.system for t in times)
