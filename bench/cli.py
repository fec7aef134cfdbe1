"""Processor time of short commands, beside a bare interpreter: what somebody waits for at each prompt."""

from __future__ import annotations

from collections import defaultdict

from bench.networks import Bench
from bench.processes import NUNET, PYTHON, Cost, clean_environment, run
from bench.report import Report
from dms.cli.following import NAMESPACE
from dms.node.payloads import ListReply, ListRequest

TURNS = 15
HELP_GOAL_S = 0.15


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("cli", "what does a command cost before it does its work?")
    plain, networked = clean_environment(), bench.environment
    commands = {
        "python -c pass": ([PYTHON, "-c", "pass"], plain),
        "nunet --help": ([NUNET, "--help"], plain),
        "nunet version": ([NUNET, "version"], plain),
        "nunet get deployments": ([NUNET, "get", "deployments"], networked),
    }
    if deployment := _newest_deployment(bench):
        commands["nunet status"] = ([NUNET, "status", deployment], networked)
        commands["nunet why"] = ([NUNET, "why", deployment], networked)
    costs: dict[str, list[Cost]] = defaultdict(list)
    for turn in range(TURNS + 1):
        for name, (command, env) in commands.items():
            cost = run(command, env=env)
            if turn:
                costs[name].append(cost)
    bare = [cost.cpu_s for cost in costs["python -c pass"]]
    extra: dict[str, float] = {}
    for name, found in costs.items():
        cpu = [cost.cpu_s for cost in found]
        report.median(f"{name}: CPU", cpu, "s")
        report.median(f"{name}: wall", [cost.wall_s for cost in found], "s")
        if cpu != bare:
            more = [a - b for a, b in zip(cpu, bare, strict=True)]
            extra[name] = report.median(f"{name}: CPU less python -c pass", more, "s")
            report.ratio(f"{name} / python -c pass, CPU", cpu, bare)
    report.goal("nunet --help: CPU less python -c pass", extra["nunet --help"], HELP_GOAL_S, "s")
    return report


def _newest_deployment(bench: Bench) -> str:
    """One to ask for, if another benchmark has left any."""
    listed = bench.client.call(f"{NAMESPACE}/list", ListRequest(limit=1), ListReply)
    return listed.deployments[0].orchestrator_id if listed.deployments else ""
