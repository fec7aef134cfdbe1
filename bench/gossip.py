"""Broadcasts between two processes, beside the same with the library's own router: delay, losses, processor time.

A kilobyte, fifty times a second: more than a network of a thousand nodes has to say. Ours and the library's pairs of processes
are there all the time and publish turn by turn, each from one end to the other over loopback.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.networks import Bench
from bench.processes import ChildFailed
from bench.report import Report

TURNS = 5
COUNT, RATE, SIZE = 250, 50, 1024
WARM_UP, SETTLE_S = 20, 1.0
KINDS = ("library", "ours")


class Peer:
    """One end in a process of its own."""

    def __init__(self, kind: str, *address: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.gossip_peer", kind, *address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, command: str = "") -> Any:  # whatever the child says in JSON
        """Say a line, and take the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if command:
            self.process.stdin.write(f"{command}\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ChildFailed("a process that gossips ended")
        return json.loads(line)

    def end(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(_bench: Bench) -> Report:
    """See the module."""
    report = Report("gossip", "what does a broadcast cost between two processes, beside the library's own?")
    runs: dict[str, list[float]] = defaultdict(list)
    lost = dict.fromkeys(KINDS, 0)
    with _pair("library") as library, _pair("ours") as ours:
        pairs = {"library": library, "ours": ours}
        for turn in range(TURNS + 1):
            for kind, (near, far) in pairs.items():
                delays_ms, cpu_s = _turn(near, far)
                if not turn:
                    continue
                lost[kind] += COUNT - len(delays_ms)
                runs[f"{kind}: delay, median"].append(statistics.median(delays_ms))
                runs[f"{kind}: delay, 99 of 100"].append(_percentile(delays_ms, 99))
                runs[f"{kind}: processor time, both ends"].append(1000 * cpu_s / COUNT)
    for name, values in runs.items():
        report.median(name, values, "ms")
    for kind in KINDS:
        report.single(f"{kind}: lost of {TURNS * COUNT}", lost[kind], "")
    for what in ("delay, median", "delay, 99 of 100", "processor time, both ends"):
        report.ratio(f"{what}: library / ours", runs[f"library: {what}"], runs[f"ours: {what}"])
    report.goal("ours: lost", lost["ours"], 0, "")
    return report


@contextmanager
def _pair(kind: str) -> Iterator[tuple[Peer, Peer]]:
    """Two processes that hear each other."""
    far = Peer(kind)
    near = None
    try:
        near = Peer(kind, far.ask())
        near.ask()
        for _ in range(WARM_UP):
            near.ask("publish 1 1 64")
            time.sleep(SETTLE_S / 4)
            if far.ask("report")[0]:
                break
        else:
            raise ChildFailed(f"{kind}: what is published is not heard")
        near.ask("report")
        yield near, far
    finally:
        far.end()
        if near is not None:
            near.end()


def _turn(near: Peer, far: Peer) -> tuple[list[float], float]:
    """The delays of all that arrived, and the processor seconds of both ends."""
    for peer in (near, far):
        peer.ask("report")
    near.ask(f"publish {COUNT} {RATE} {SIZE}")
    time.sleep(SETTLE_S)
    delays_ms, cpu_far_s = far.ask("report")
    _, cpu_near_s = near.ask("report")
    if not delays_ms:
        raise ChildFailed("nothing of what was published is heard")
    return delays_ms, cpu_far_s + cpu_near_s


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
