"""TCP and UDP through the private network, beside the same veth pair without it, a bare libp2p stream, and ``wireguard-go``.

Two machines are two network namespaces on one bridge, each with two nodes of its own process: one carries packets on
streams only, the other also as datagrams. Members are namespaces, as containers are. Needs root; ``wireguard-go`` is
installed, or comes from Debian's archive, or is left out.

All take turns of a second, and a ratio is that of neighbours in time: so others on the same processors disturb it least.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import trio

from bench import wireguard
from bench.networks import Bench
from bench.report import Report
from dms.network import ByteStream
from dms.network.libp2p import Libp2pNetwork
from dms.subnet.kernel import LinuxKernel
from dms.subnet.subnets import Subnets
from dms.testing.netns import Namespace, namespaces
from dms.types.ids import PeerID

TURNS = 8
TRANSFER_S, FLOOD_S, PINGS = 1.0, 0.5, 200
FLIGHT = 400
"""Packets that are sent before it is asked how many arrived: as fast as they are carried, and no faster."""
WRITE_BYTES = 64 * 1024
BARE_GOAL, RTT_GOAL_MS = 0.7, 1.0
BARE = "/nunet/bench/bare/1.0.0"
SINK, ECHO, COUNT = 5001, 5002, 5003
ADDRESSES = ("10.1.2.2", "10.1.2.3")
WAYS = {"streams": None, "datagrams": 0}
VETH, WIREGUARD = "veth", "wireguard-go"
OURS = {way: f"private network, {way}" for way in WAYS}

SERVE = f"""
import select, socket, threading
def sink():
    listener = socket.create_server(("0.0.0.0", {SINK}))
    while True:
        peer, _ = listener.accept()
        room = bytearray(1 << 20)
        while peer.recv_into(room): pass
        peer.close()
def echo():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("0.0.0.0", {ECHO}))
    while True:
        data, asker = sock.recvfrom(2000); sock.sendto(data, asker)
def count():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.setsockopt(1, 8, 1 << 23)
    sock.bind(("0.0.0.0", {COUNT})); seen = 0
    while True:
        data, asker = sock.recvfrom(2000)
        if data == b"how many": sock.sendto(b"%d" % seen, asker); seen = 0
        else: seen += 1
for each in (sink, echo, count): threading.Thread(target=each, daemon=True).start()
input()
"""
TRANSFER = f"""
import socket, sys, time
sock = socket.create_connection((sys.argv[1], {SINK})); data = bytes({WRITE_BYTES}); sent = 0; begun = time.time()
while time.time() - begun < float(sys.argv[2]): sock.sendall(data); sent += len(data)
sock.shutdown(1); sock.recv(1); print(sent / (time.time() - begun) / 1e6)
"""
PING = f"""
import socket, statistics, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.settimeout(2); sock.connect((sys.argv[1], {ECHO})); took = []
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter(); sock.send(bytes(64)); sock.recv(100); took.append(time.perf_counter() - begun)
print(statistics.median(took) * 1000)
"""
FLOOD = f"""
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.settimeout(0.3); sock.connect((sys.argv[1], {COUNT}))
data = bytes(int(sys.argv[2])); begun = time.time(); seen = 0
while time.time() - begun < float(sys.argv[3]):
    for _ in range({FLIGHT}): sock.send(data)
    sock.send(b"how many")
    try: seen += int(sock.recv(100))
    except TimeoutError: pass
print(seen / (time.time() - begun))
"""


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("subnet", "what does the private network cost, beside the network below it and beside WireGuard?")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        report.question = "not measured: needs root and iproute2"
        return report
    found: dict[str, list[float]] = defaultdict(list)
    with namespaces(6) as (first, second, one, two, three, four), ExitStack() as stack:
        pairs = {"streams": (one, two), "datagrams": (three, four)}
        nodes = {way: stack.enter_context(_pair(way, [first, second], members)) for way, members in pairs.items()}
        targets = {VETH: _Target(first, second.address)}
        for way, (source, _) in pairs.items():
            targets[OURS[way]] = _Target(source, ADDRESSES[1], nodes[way].cpu_s)
        if program := wireguard.find(bench.scratch):
            tunnel = stack.enter_context(wireguard.tunnel(program, (first, second)))
            targets[WIREGUARD] = _Target(first, wireguard.ADDRESSES[1], tunnel.cpu_s)
        for namespace in (second, two, four):
            stack.enter_context(namespace.process([sys.executable, "-c", SERVE]))
        for target in targets.values():
            _until_reached(target)
        for turn in range(TURNS + 1):
            measured = _turn(targets, nodes["streams"])
            if turn:
                for name, value in measured.items():
                    found[name].append(value)
    _tell(report, found, [name for name in targets if name != VETH])
    return report


@dataclass(frozen=True)
class _Target:
    """Where to send from and to, and what both ends of the way have used of the processors."""

    source: Namespace
    address: str
    cpu_s: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)


def _turn(targets: Mapping[str, _Target], bare: _Nodes) -> dict[str, float]:
    measured = {}
    for name, target in targets.items():
        if name != VETH:
            measured[f"TCP, bare libp2p stream, before {name}"] = bare.bare(TRANSFER_S / 2)
        before = target.cpu_s()
        speed = measured[f"TCP, {name}"] = _run(target, TRANSFER, str(TRANSFER_S))
        gbit = speed * TRANSFER_S * 8e-3
        for end, was_s, is_s in zip(("sending", "receiving"), before, target.cpu_s(), strict=True):
            if name != VETH:
                measured[f"CPU of the {end} end, {name}"] = (is_s - was_s) / gbit
    for name, target in targets.items():
        measured[f"round trip, {name}"] = _run(target, PING, str(PINGS))
    for size in (1400, 64):
        for name, target in targets.items():
            measured[f"packets of {size} bytes, {name}"] = _run(target, FLOOD, str(size), str(FLOOD_S))
    return measured


def _tell(report: Report, found: Mapping[str, list[float]], ways: Sequence[str]) -> None:
    units = {
        "TCP": "MB/s",
        "CPU of the sending end": "s/Gbit",
        "CPU of the receiving end": "s/Gbit",
        "round trip": "ms",
    }
    for name, values in found.items():
        report.median(name, values, units.get(name.partition(",")[0], "/s"))
    ratios, added = {}, {}
    for way in ways:
        own = found[f"TCP, {way}"]
        report.ratio(f"{way} / veth", own, found[f"TCP, {VETH}"])
        ratios[way] = report.ratio(f"{way} / bare libp2p stream", own, found[f"TCP, bare libp2p stream, before {way}"])
        trips = zip(found[f"round trip, {way}"], found[f"round trip, {VETH}"], strict=True)
        added[way] = report.median(f"round trip added, {way}", [through - without for through, without in trips], "ms")
        if way != WIREGUARD and WIREGUARD in ways:
            report.ratio(f"{way} / {WIREGUARD}", own, found[f"TCP, {WIREGUARD}"])
    for way in OURS.values():
        report.goal_at_least(f"{way} / bare libp2p stream", ratios[way], BARE_GOAL, "×")
        report.goal(f"round trip added, {way}", added[way], RTT_GOAL_MS, "ms")


def _run(target: _Target, program: str, *arguments: str) -> float:
    command = target.source.command([sys.executable, "-c", program, target.address, *arguments])
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


def _until_reached(target: _Target) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            _run(target, PING, "20")
            return
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise


@dataclass
class _Node:
    """The process of a node, which does what it is told."""

    process: subprocess.Popen[str]

    def ask(self, **what: object) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@dataclass
class _Nodes:
    """Two that are connected."""

    near: _Node
    far: _Node

    def cpu_s(self) -> tuple[float, float]:
        return self.near.ask(do="cpu"), self.far.ask(do="cpu")

    def bare(self, seconds: float) -> float:
        found: float = self.near.ask(do="bare", seconds=seconds)
        return found


@contextmanager
def _pair(way: str, machines: list[Namespace], members: tuple[Namespace, Namespace]) -> Iterator[_Nodes]:
    """Two nodes that are connected, each with a member."""
    with ExitStack() as stack:
        nodes = [
            _Node(stack.enter_context(machine.process([sys.executable, "-m", "bench.subnet", way, machine.address])))
            for machine in machines
        ]
        (first, _), (second, address) = (node.ask(do="who") for node in nodes)
        table = dict(zip(ADDRESSES, (first, second), strict=True))
        nodes[0].ask(do="dial", address=address)
        for node, own, member in zip(nodes, ADDRESSES, members, strict=True):
            node.ask(do="join", table=table, own=own, namespace=f"/run/netns/{member.name}")
        yield _Nodes(*nodes)


async def _node(way: str, address: str) -> None:
    """One node: reads what to do, says what came of it."""
    network = Libp2pNetwork(seed=os.urandom(32), listen=[f"/ip4/{address}/tcp/0"])
    subnets = Subnets(network, LinuxKernel(network.peer_id), rng=Random(1), datagram_port=WAYS[way])
    peer = PeerID("")
    async with network.run(), subnets.run():
        network.streams.handle(BARE, _swallow)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            what: dict[str, Any] = json.loads(line)
            answer: Any = None
            if what["do"] == "who":
                answer = [network.peer_id, network.listen_addresses[0]]
            elif what["do"] == "dial":
                peer = await network.connect(what["address"])
            elif what["do"] == "join":
                subnet = await subnets.create("bench", "10.1.2.0/24", what["table"])
                await subnet.attach(what["own"], Path(what["namespace"]))
            elif what["do"] == "cpu":
                answer = time.process_time()
            else:
                answer = await _bare(await network.streams.open(peer, BARE), what["seconds"])
            print(json.dumps(answer), flush=True)


async def _swallow(stream: ByteStream) -> None:
    while await stream.read(4 * WRITE_BYTES):
        pass


async def _bare(stream: ByteStream, seconds: float) -> float:
    """MB/s, to the last byte that the other side read."""
    begun, sent, data = time.monotonic(), 0, bytes(WRITE_BYTES)
    while time.monotonic() - begun < seconds:
        await stream.write(data)
        sent += len(data)
    await stream.close()
    await stream.read(1)
    return sent / (time.monotonic() - begun) / 1e6


if __name__ == "__main__":
    trio.run(_node, sys.argv[1], sys.argv[2])
