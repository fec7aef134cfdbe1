"""How a local network is laid out: who lies where, listens where, and offers what. Pure but for asking for free ports."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dms.devnet.errors import DevnetError
from dms.resources.arithmetic import cores_of, hundredths
from dms.types.resources import CPU, RAM, Disk, Resources

MAX_NODES = 50
BOOTSTRAP_NODES = 3
"""Nodes whose address every other one knows from the start."""
RAM_SHARE_MIN, RAM_SHARE_MAX = 0.11, 0.4
"""Of the machine's memory, per provider: onboarding refuses less than a tenth."""
FREE_SHARE = 0.8
"""Of what is free now, for all providers together."""
MIN_DISK_BYTES = 1 << 30
PORTS = range(20_000, 32_768)


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node: its directory and its ports on loopback."""

    name: str
    directory: Path
    p2p_port: int
    rest_port: int
    is_provider: bool

    @property
    def user_dir(self) -> Path:
        """Keys and capabilities of the node."""
        return self.directory / "user"

    @property
    def work_dir(self) -> Path:
        """Database, jobs, logs."""
        return self.directory / "work"

    @property
    def config_file(self) -> Path:
        """Its configuration."""
        return self.directory / "dms_config.json"

    @property
    def output_file(self) -> Path:
        """What the process writes to its console."""
        return self.directory / "output.log"


def plan_nodes(directory: Path, count: int, providers: int, ports: Sequence[int] | None = None) -> tuple[NodePlan, ...]:
    """``count`` nodes, the first ``providers`` of which offer resources; two ports are for each."""
    ports = free_ports(2 * count) if ports is None else ports
    return tuple(
        NodePlan(
            name=f"node{number}",
            directory=directory / f"node{number}",
            p2p_port=ports[2 * number - 2],
            rest_port=ports[2 * number - 1],
            is_provider=number <= providers,
        )
        for number in range(1, count + 1)
    )


def share_of(machine: Resources, used: Resources, providers: int) -> Resources:
    """What each of several providers on one machine offers: all processors (they are shared by time), parts of the rest."""
    ram_free = max(0, machine.ram.size - used.ram.size) * FREE_SHARE
    ram = min(machine.ram.size * RAM_SHARE_MAX, ram_free / providers)
    disk_free = max(0, machine.disk.size - used.disk.size) * FREE_SHARE
    return Resources(
        cpu=CPU(cores=cores_of(hundredths(max(1.0, machine.cpu.cores)))),
        ram=RAM(size=int(max(ram, machine.ram.size * RAM_SHARE_MIN))),
        disk=Disk(size=int(max(disk_free / providers, MIN_DISK_BYTES))),
    )


def free_ports(count: int, rng: random.Random | None = None) -> tuple[int, ...]:
    """Different ports on loopback that nobody listens on at the moment.

    Below those that the system gives to outgoing connections, or one of these could take a port before its node does.

    :raises DevnetError: nearly all are taken.
    """
    candidates = list(PORTS)
    (rng or random.Random()).shuffle(candidates)  # noqa: S311  only keeps networks that start at once apart
    found = tuple(itertools.islice(filter(_is_free, candidates), count))
    if len(found) < count:
        raise DevnetError(f"there are no {count} free ports between {PORTS.start} and {PORTS.stop}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
