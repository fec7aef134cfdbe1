"""`python -m bench [NAME …]`: all benchmarks, or those named."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

from bench import (
    bids,
    cli,
    deploy,
    deploy_docker,
    docker,
    envelope,
    failover,
    gossip,
    hardware,
    log,
    logs,
    matching,
    messages,
    network,
    node,
    storage,
    store,
    subnet,
    tasks,
    tokens,
    vm,
    wasm,
)
from bench.machine import describe_machine
from bench.networks import Bench
from bench.report import Report, print_report, write_report

BENCHMARKS: dict[str, Callable[[Bench], Report]] = {
    "deploy": deploy.measure,
    "deploy-docker": deploy_docker.measure,
    "docker": docker.measure,
    "failover": failover.measure,
    "vm": vm.measure,
    "logs": logs.measure,
    "envelope": envelope.measure,
    "matching": matching.measure,
    "bids": bids.measure,
    "node": node.measure,
    "cli": cli.measure,
    "messages": messages.measure,
    "gossip": gossip.measure,
    "network": network.measure,
    "hardware": hardware.measure,
    "log": log.measure,
    "storage": storage.measure,
    "store": store.measure,
    "subnet": subnet.measure,
    "tasks": tasks.measure,
    "tokens": tokens.measure,
    "wasm": wasm.measure,
}


def main() -> None:
    """Measure, write `bench/results/*.json`, print tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all, if none is given")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    machine, begun = describe_machine(), time.monotonic()
    print(f"{machine.cpu}, {machine.cores} cores, {machine.ram_gib:g} GiB, {machine.kernel}, {machine.python}")
    with Bench() as bench:
        for name in names:
            load = os.getloadavg()[0]
            report = BENCHMARKS[name](bench)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            if report.figures:  # one that lacks what it needs says so, and keeps what was found elsewhere
                write_report(report, machine, now, (round(load, 2), round(os.getloadavg()[0], 2)))
            print_report(report)
    print(f"\nmeasured in {time.monotonic() - begun:.0f} s; written to bench/results/")


if __name__ == "__main__":
    main()
