"""WebAssembly servers: modules of preview 1 at the sockets that they are started with."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import trio

from dms.executor.errors import StartFailed, Unsupported
from dms.executor.protocol import (
    PROTOCOLS,
    EndReason,
    ExecutionRequest,
    ExecutionResult,
    ExecutionStatus,
    NetInfo,
    PortBinding,
)
from dms.executor.wasm import WasmExecutor
from dms.executor.wasm_sockets import MAX_CONNECTIONS
from dms.subnet.errors import KernelRefused
from dms.subnet.namespaces import run_inside
from dms.types.resources import RAM, Resources, SpecConfig

SERVER = (Path(__file__).parents[2] / "programs" / "server.wasm").read_bytes()
LOCAL = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Nobody listens there now."""
    held = [socket.create_server((LOCAL, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@dataclass
class Bench:
    executor: WasmExecutor
    nursery: trio.Nursery
    path: Path

    def request(self, *args: str, ports: dict[int, int], protocol: str = "tcp", **params: object) -> ExecutionRequest:
        """``ports``: public → private."""
        params.setdefault("module", base64.b64encode(SERVER).decode())
        return ExecutionRequest(
            "job",
            "e",
            SpecConfig(type="wasm", params={"args": list(args), **params}),
            Resources(ram=RAM(size=32 << 20)),
            self.path / "results",
            ports=tuple(PortBinding(LOCAL, public, private, protocol) for public, private in ports.items()),
        )

    async def start(self, *args: str, **params: object) -> int:
        """Serve port 80; at which of ours."""
        (port,) = free_ports(1)
        await self.executor.start(self.request(*args, ports={port: 80}, protocol="tcp", **params))
        return port

    async def end(self) -> ExecutionResult:
        return await self.executor.wait("e")

    @property
    def output(self) -> str:
        return (self.path / "results" / "stdout.log").read_text()


@pytest.fixture(scope="module")
def modules_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled once for all tests."""
    return tmp_path_factory.mktemp("modules")


@pytest.fixture
async def bench(tmp_path: Path, modules_dir: Path) -> AsyncIterator[Bench]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            executor = WasmExecutor(nursery, tmp_path / "state", modules_dir=modules_dir)
            try:
                yield Bench(executor, nursery, tmp_path)
            finally:
                with trio.CancelScope(shield=True):
                    await executor.cleanup()
            nursery.cancel_scope.cancel()


async def said_by(port: int, text: bytes) -> bytes:
    """What a server answers to a whole text."""
    async with await trio.open_tcp_stream(LOCAL, port) as stream:
        answer = b""

        async def read() -> None:
            nonlocal answer
            async for chunk in stream:
                answer += chunk

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.send_all(text)
            await stream.send_eof()
        return answer


async def test_a_server_that_waits_for_each_answers_one_after_another(bench: Bench) -> None:
    port = await bench.start("echo")
    text = os.urandom(1 << 20)
    assert await said_by(port, text) == text
    assert await said_by(port, b"again") == b"again"
    assert await bench.executor.status("e") is ExecutionStatus.RUNNING


async def test_a_server_that_polls_serves_many_at_several_ports(bench: Bench) -> None:
    first, second, third = free_ports(3)
    await bench.executor.start(bench.request("turns", ports={first: 80, second: 443, third: 80}))
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(await trio.open_tcp_stream(LOCAL, port))
            for port in (first, second, third) * 20
        ]
        for turn in range(2):
            for number, stream in enumerate(streams):
                await stream.send_all(b"%d.%d" % (turn, number))
            for number, stream in enumerate(streams):
                assert await stream.receive_some() == b"%d.%d" % (turn, number)


async def test_more_than_may_be_at_once_wait_until_others_go(bench: Bench) -> None:
    port = await bench.start("turns")
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(await trio.open_tcp_stream(LOCAL, port)) for _ in range(MAX_CONNECTIONS)
        ]
        for stream in streams:
            await stream.send_all(b"x")
            await stream.receive_some()
        async with await trio.open_tcp_stream(LOCAL, port) as late:
            await late.send_all(b"late")
            await streams[0].send_all(b"y")
            await streams[0].receive_some()
            await streams[1].aclose()
            assert await late.receive_some() == b"late"
    assert bench.output == "", "it was never told to accept what it could not have"


async def test_a_server_is_told_what_its_descriptors_are(bench: Bench) -> None:
    files = {"/data/a.txt": base64.b64encode(b"alpha").decode()}
    await bench.start("facts", files=files, environment=["LISTEN_FDS=7"])
    assert (await bench.end()).ok
    assert bench.output.splitlines() == [
        "LISTEN_FDS=1 LISTEN_FDNAMES=80",
        "3 is a socket",
        "/data is there",
        "1 at once: 1",
        "in time: 0",
        "unknown: 1 invalid",
        "seek: Invalid seek",
        "read: Socket not connected",
        "accept at 1: Not a socket",
        "flags: no waiting",
        "accept: Resource temporarily unavailable",
        "closed: Bad file descriptor",
    ]


async def test_addresses_outside_of_its_memory_are_refused_and_cost_it_nothing(bench: Bench) -> None:
    port = await bench.start("wild")
    async with await trio.open_tcp_stream(LOCAL, port) as stream:
        await stream.send_all(b"q")
        assert (await bench.end()).ok
    bad_address, invalid = "21", "28"
    lines = bench.output.splitlines()
    assert lines[0] == "ready"
    assert lines[1].split() == [*([bad_address] * 4), invalid, *([bad_address] * 7), invalid]
    assert lines[2] == "then 0 1 of q", "what was sent is still there"


@pytest.mark.parametrize(
    ("mode", "params", "reason"),
    [
        ("trap", {}, EndReason.TRAPPED),
        ("spin", {"fuel": 50_000_000}, EndReason.CPU_LIMIT),
        ("spin", {"max_cpu_s": 0.3}, EndReason.CPU_LIMIT),
        ("spin", {"timeout": "700ms"}, EndReason.TIMED_OUT),
    ],
)
async def test_the_limits_hold_for_servers_too(
    bench: Bench, mode: str, params: dict[str, object], reason: EndReason
) -> None:
    port = await bench.start(mode, **params)
    async with await trio.open_tcp_stream(LOCAL, port):
        assert (await bench.end()).reason is reason


async def test_a_server_that_waits_is_timed_out_and_cancelled_like_any_other(bench: Bench) -> None:
    await bench.start("echo", timeout="300ms")
    assert (await bench.end()).reason is EndReason.TIMED_OUT
    await bench.executor.remove("e")
    port = await bench.start("echo")
    assert await said_by(port, b"there") == b"there"
    await bench.executor.cancel("e")
    assert (await bench.end()).reason is EndReason.CANCELLED
    with pytest.raises(OSError, match="all attempts"):
        await trio.open_tcp_stream(LOCAL, port)


async def test_who_connects_while_it_is_compiled_waits(bench: Bench) -> None:
    port = await bench.start("echo")
    with socket.create_connection((LOCAL, port)) as early:
        early.send(b"early")
        assert await trio.to_thread.run_sync(early.recv, 5) == b"early"


async def test_a_port_that_is_taken_is_told_at_once(bench: Bench) -> None:
    with socket.create_server((LOCAL, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartFailed, match=f"port {port} of this machine cannot be had: Address already in use"):
            await bench.executor.start(bench.request("echo", ports={port: 80}))
    await bench.executor.start(bench.request("echo", ports={port: 80}))
    assert await said_by(port, b"now") == b"now"


async def test_a_server_goes_on_when_its_daemon_comes_back(bench: Bench) -> None:
    port = await bench.start("echo")
    later = WasmExecutor(bench.nursery, bench.path / "state")
    await later.start(bench.request("echo", ports={port: 80}))
    assert await said_by(port, b"still") == b"still"
    await later.remove("e", grace_s=0)


async def test_a_module_listens_by_tcp_only(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="UDP"):
        await bench.executor.start(bench.request("echo", ports={1: 2}, protocol="udp"))


async def test_a_component_cannot_listen(bench: Bench) -> None:
    component = base64.b64encode(b"\0asm\x0d\0\1\0").decode()
    with pytest.raises(Unsupported, match="components of WASI"):
        await bench.executor.start(bench.request(ports={1: 2}, module=component))


async def test_a_module_that_shows_no_memory_is_told_so(bench: Bench) -> None:
    (port,) = free_ports(1)
    program = WAT_WITHOUT_MEMORY
    await bench.executor.start(replace(bench.request(ports={port: 80}, module=program)))
    result = await bench.end()
    assert (result.reason, result.exit_code) == (EndReason.INFRASTRUCTURE, -1)
    assert "exports no memory" in result.error_msg


@dataclass
class Network:
    """A private network of which servers become members."""

    is_open: bool = True
    joined: list[tuple[Path, Collection[str]]] = field(default_factory=list)
    unjoined: list[str] = field(default_factory=list)

    async def join(self, namespace: Path, *, behind: str = "", published: Collection[str] = PROTOCOLS) -> None:
        assert not behind
        if not self.is_open:
            raise KernelRefused("it is closed")
        self.joined.append((namespace, published))

    def added(self, request: ExecutionRequest, *, must_join: bool = False) -> ExecutionRequest:
        return replace(request, join=self.join, unjoined=self.unjoined.append, must_join=must_join)


@pytest.mark.netns
async def test_a_member_of_a_private_network_is_reached_in_a_namespace_of_its_own_too(bench: Bench) -> None:
    (port,) = free_ports(1)
    network, here = Network(), os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
    await bench.executor.start(network.added(bench.request("turns", ports={port: 80})))
    ((namespace, published),) = network.joined
    assert namespace.stat().st_ino != here
    assert published == PROTOCOLS, "its public ports lead in already"
    info = await bench.executor.info("e")
    assert info.net == NetInfo(namespace=namespace)
    for where, address in ((None, (LOCAL, port)), (namespace, (LOCAL, 80)), (namespace, ("::1", 80))):
        inside = partial(socket.create_connection, address, 5)
        with await trio.to_thread.run_sync(run_inside, where, inside) as one:
            one.send(b"hello")
            assert await trio.to_thread.run_sync(one.recv, 5) == b"hello"
    later = WasmExecutor(bench.nursery, bench.path / "state")
    await later.start(network.added(bench.request("turns", ports={port: 80})))
    assert [one for one, _ in network.joined] == [namespace] * 2, "it takes part again when its daemon comes back"
    await later.remove("e", grace_s=0)
    assert not namespace.exists()


@pytest.mark.netns
async def test_a_server_begins_without_an_address_unless_it_must_have_one(bench: Bench) -> None:
    (port,) = free_ports(1)
    network = Network(is_open=False)
    with pytest.raises(StartFailed, match="no private address: it is closed"):
        await bench.executor.start(network.added(bench.request("echo", ports={port: 80}), must_join=True))
    assert await bench.executor.list() == ()
    await bench.executor.start(network.added(bench.request("echo", ports={port: 80})))
    assert network.unjoined == ["it is closed"]
    assert await said_by(port, b"all the same") == b"all the same"


async def test_a_module_without_ports_takes_no_part(bench: Bench) -> None:
    network = Network()
    await bench.executor.start(network.added(bench.request(ports={})))
    assert (await bench.end()).exit_code == 64
    assert network.joined == []
    assert network.unjoined[0].startswith("a WebAssembly program without ports")


WAT_WITHOUT_MEMORY = base64.b64encode(
    b"\0asm\1\0\0\0"
    + bytes.fromhex("01 04 01 60 00 00  03 02 01 00  07 0a 01 06 5f7374617274 00 00  0a 04 01 02 00 0b")
).decode()
"""``(module (func (export "_start")))``"""
