"""Round trips on kept streams, bulk, new connections and idle ones, beside the bare library and beside plain TCP.

Two nodes in this process, connected over loopback; two hosts of the library as it comes, in a process of theirs
(`bench/bare_libp2p.py`); two tasks of trio with one plain connection. All take turns. A round trip of messages is a whole
message there, handed to its handler and answered for, and another one back; the others are bytes there and back.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

import trio

from bench.networks import Bench
from bench.report import Report
from dms.network.byte_streams import ByteStream
from dms.network.libp2p import Libp2pNetwork
from dms.types.ids import PeerID

TURNS = 7
TRIPS, MEBIBYTES, CONNECTIONS = 200, 16, 5
PAYLOAD, MEBIBYTE = bytes(1024), bytes(1 << 20)
ASK, ANSWER, TAKE = "actor/ask/messages/0.0.1", "actor/answer/messages/0.0.1", "actor/take/messages/0.0.1"
ECHO, SINK = "/bench/echo", "/bench/sink"
IDLE_PEERS, IDLE_S = 8, 30.0
GIVE_UP_S = 30.0

Work = Callable[[], Awaitable[None]]


def measure(_bench: Bench) -> Report:
    """See the module."""
    report = Report("network", "what do kept streams, bulk and idle connections cost, beside the bare library?")
    trio.run(_measure, report)
    trio.run(_measure_idle, report)
    return report


async def _measure(report: Report) -> None:
    took: dict[str, list[float]] = defaultdict(list)
    async with _ours() as (ours, ours_at), _plain() as plain, _Bare() as bare:
        for turn in range(TURNS + 1):
            found = {
                "plain TCP: 1 KiB there and back": await _time(plain, TRIPS) / TRIPS,
                "bare library: 1 KiB there and back": await bare.ask("trips", TRIPS) / TRIPS,
                "byte stream: 1 KiB there and back": await _time(ours["echo"], TRIPS) / TRIPS,
                "messages on a kept stream: 1 KiB there and back": await _time(ours["messages"], TRIPS) / TRIPS,
                "bare library: 1 MiB in bulk": await bare.ask("bulk", MEBIBYTES) / MEBIBYTES,
                "byte stream: 1 MiB in bulk": await _time(ours["bulk"], 1) / MEBIBYTES,
                "messages: 1 MiB each, in bulk": await _time(ours["large"], 1) / MEBIBYTES,
                "bare library: new connection, best of 5": await bare.ask("connect", CONNECTIONS),
                "ours: new connection, best of 5": await _connect(ours_at, turn),
            }
            if turn:
                for name, value in found.items():
                    took[name].append(value * 1000)
    for name, values in took.items():
        report.median(name, values, "ms")
    trips = took["bare library: 1 KiB there and back"]
    kept = took["messages on a kept stream: 1 KiB there and back"]
    ratio = report.ratio("rate of messages / rate of the bare library's echo", trips, kept)
    report.ratio(
        "rate of a byte stream / rate of the bare library's echo", trips, took["byte stream: 1 KiB there and back"]
    )
    report.ratio("rate of messages / rate of plain TCP", took["plain TCP: 1 KiB there and back"], kept)
    bulk = took["bare library: 1 MiB in bulk"]
    report.ratio("bulk: byte stream / bare library", bulk, took["byte stream: 1 MiB in bulk"])
    report.ratio("bulk: messages / bare library", bulk, took["messages: 1 MiB each, in bulk"])
    report.goal_at_least("messages on a kept stream / bare library's echo", ratio, 0.8, "×")
    new = min(took["ours: new connection, best of 5"])
    report.goal("a new connection over loopback, the best turn", new, 50, "ms")


@asynccontextmanager
async def _ours() -> AsyncIterator[tuple[dict[str, Work], str]]:
    """Two connected nodes, what can be measured between them, and the address of one."""
    one, other = _node(1), _node(2)
    async with one.run(), other.run():
        answered = trio.Event()
        taken = 0

        async def answer(peer: PeerID, data: bytes) -> None:
            await other.send(peer, ANSWER, data)

        async def got(_peer: PeerID, _data: bytes) -> None:
            answered.set()

        async def take(_peer: PeerID, data: bytes) -> None:
            nonlocal taken
            taken += len(data)

        other.handle(ASK, answer)
        other.handle(TAKE, take)
        one.handle(ANSWER, got)
        other.streams.handle(ECHO, _echo)
        other.streams.handle(SINK, _sink)
        await one.connect(other.listen_addresses[0])
        with trio.fail_after(GIVE_UP_S):
            while one.message_limit_bytes(other.peer_id) <= len(MEBIBYTE):  # noqa: ASYNC110  it tells nobody
                await trio.sleep(0.01)
        echoing, sinking = await one.streams.open(other.peer_id, ECHO), await one.streams.open(other.peer_id, SINK)

        async def messages() -> None:
            nonlocal answered
            answered = trio.Event()
            await one.send(other.peer_id, ASK, PAYLOAD)
            with trio.fail_after(GIVE_UP_S):
                await answered.wait()

        async def echo() -> None:
            await echoing.write(PAYLOAD)
            await _read_exactly(echoing.read, len(PAYLOAD))

        async def bulk() -> None:
            for _ in range(MEBIBYTES):
                await sinking.write(MEBIBYTE)
            await _read_exactly(sinking.read, MEBIBYTES)

        async def large() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(MEBIBYTES):
                    nursery.start_soon(one.send, other.peer_id, TAKE, MEBIBYTE)

        works: dict[str, Callable[[], Awaitable[None]]] = {
            "messages": messages,
            "echo": echo,
            "bulk": bulk,
            "large": large,
        }
        yield works, other.listen_addresses[0]


async def _connect(address: str, turn: int) -> float:
    """Seconds to a connection on which something can be sent, the best of some; the start of the node that dials does not
    count."""
    best = GIVE_UP_S
    for number in range(CONNECTIONS):
        async with (fresh := _node(100 + turn * CONNECTIONS + number)).run():
            started = time.perf_counter()
            await fresh.connect(address)
            best = min(best, time.perf_counter() - started)
    return best


class _Bare:
    """The process with the bare library."""

    async def __aenter__(self) -> Self:
        program = Path(__file__).with_name("bare_libp2p.py")
        self._process = await trio.lowlevel.open_process(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._rest = b""
        await self._line()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        await self._process.wait()

    async def ask(self, what: str, count: int) -> float:
        """How many seconds something took there."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(f"{what} {count}\n".encode())
        return float(await self._line())

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        with trio.fail_after(2 * GIVE_UP_S):
            while b"\n" not in self._rest:
                data = await self._process.stdout.receive_some()
                if not data:
                    raise RuntimeError("the process with the bare library ended")
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@asynccontextmanager
async def _plain() -> AsyncIterator[Work]:
    """A round trip over one TCP connection."""

    async def serve(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some():
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        async with await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1]) as stream:

            async def round_trip() -> None:
                await stream.send_all(PAYLOAD)
                await _read_exactly(stream.receive_some, len(PAYLOAD))

            yield round_trip
        nursery.cancel_scope.cancel()


async def _measure_idle(report: Report) -> None:
    """What a connection costs on which nobody says anything, both ends together."""
    carried = 0

    async def carry(source: trio.SocketStream, target: trio.SocketStream) -> None:
        nonlocal carried
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # how a node that stops may end it
            while data := await source.receive_some():
                carried += len(data)
                await target.send_all(data)

    async def relay(port: int, inbound: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as outbound, trio.open_nursery() as nursery:
            nursery.start_soon(carry, inbound, outbound)
            nursery.start_soon(carry, outbound, inbound)

    hub, peers = _node(1), [_node(2 + number) for number in range(IDLE_PEERS)]
    async with trio.open_nursery() as nursery, hub.run():
        port = int(hub.listen_addresses[0].split("/")[4])
        listeners = await nursery.start(partial(trio.serve_tcp, partial(relay, port), 0, host="127.0.0.1"))
        front = f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}/p2p/{hub.peer_id}"
        async with _all_running(peers):
            alone_s = await _processor_time_s(IDLE_S / 2) * 2
            for peer in peers:
                await peer.connect(front)
            await trio.sleep(5)
            before = carried
            busy_s = await _processor_time_s(IDLE_S)
            sent = carried - before
        nursery.cancel_scope.cancel()
    minutes = IDLE_PEERS * IDLE_S / 60
    report.single("bytes per idle connection and minute, both directions", sent / minutes, "B")
    report.single("processor time per idle connection and minute, both ends", 1000 * (busy_s - alone_s) / minutes, "ms")


@asynccontextmanager
async def _all_running(nodes: list[Libp2pNetwork]) -> AsyncIterator[None]:
    if not nodes:
        yield
        return
    async with nodes[0].run(), _all_running(nodes[1:]):
        yield


async def _processor_time_s(duration_s: float) -> float:
    before_s = time.process_time()
    await trio.sleep(duration_s)
    return time.process_time() - before_s


def _node(number: int) -> Libp2pNetwork:
    return Libp2pNetwork(seed=number.to_bytes(32, "big"), listen=["/ip4/127.0.0.1/tcp/0"], explore=False)


async def _echo(stream: ByteStream) -> None:
    while data := await stream.read(len(PAYLOAD)):
        await stream.write(data)


async def _sink(stream: ByteStream) -> None:
    count = 0
    while data := await stream.read(len(MEBIBYTE)):
        whole, count = divmod(count + len(data), len(MEBIBYTE))
        await stream.write(b"." * whole)


async def _read_exactly(read: Callable[[int], Awaitable[bytes | bytearray]], count: int) -> None:
    while count:
        data = await read(count)
        if not data:
            raise RuntimeError("the other end has gone")
        count -= len(data)


async def _time(work: Work, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        await work()
    return time.perf_counter() - started
