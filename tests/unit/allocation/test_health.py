"""Health checks of workloads: what can be registered, what is asked, and where nobody may be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.unit.allocation.test_allocation import Desk, desk
from trio.testing import MockClock

from dms.actor.health import HEALTH_CHECK, REGISTER, HealthReply
from dms.allocation.allocation import Allocation
from dms.allocation.errors import InvalidHealthCheck
from dms.allocation.health import MAX_BODY_BYTES, find_problem, read_check
from dms.executor.protocol import ExecOutput, ExecutionInfo, ExecutionRequest, ExecutionStatus, NetInfo
from dms.testing.executor import Script, ScriptedExecutor
from dms.types.errors import BadInput
from dms.types.resources import Resources, SpecConfig

__all__ = ["desk"]
ID = "job-1"
Json = dict[str, Any]
COMMAND: Json = {"type": "command", "exec": ["redis-cli", "ping"], "response": {"type": "string", "value": "PONG"}}


class Addressed(ScriptedExecutor):
    """Its sandboxes have an address."""

    address = ""

    async def info(self, execution_id: str) -> ExecutionInfo:
        return ExecutionInfo(execution_id, "job", ExecutionStatus.RUNNING, "null", net=NetInfo(ip_address=self.address))


async def running(nursery: trio.Nursery, tmp_path: Path, output: ExecOutput | None = None) -> Addressed:
    executor = Addressed(nursery, "null")
    executor.on("-1", Script(None, exec_output=output or ExecOutput(0, b"", b"")))
    await executor.start(ExecutionRequest("job", ID, SpecConfig(type="null"), Resources(), tmp_path))
    return executor


@asynccontextmanager
async def web(answer: bytes, *, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that gives one answer to everybody; its port and what it was asked."""
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive_some(65_536))
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host=host))
        yield listeners[0].socket.getsockname()[1], asked
        nursery.cancel_scope.cancel()


def said(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status.encode(), len(body), body)


# what can be registered ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({}, 'unknown healthcheck type: ""'),
        ({"type": "dance"}, 'unknown healthcheck type: "dance"'),
        ({"type": "command"}, "a command to run is missing"),
        ({"type": "command", "exec": ["x" * 20_000]}, "too long"),
        ({"type": "http"}, "no URL"),
        ({"type": "http", "endpoint": "https://localhost/"}, "no URL"),
        ({"type": "http", "endpoint": "file:///etc/passwd"}, "no URL"),
        ({"type": "http", "endpoint": "http://user@localhost/"}, "no URL"),
        ({"type": "http", "endpoint": "http://localhost:0/"}, "no URL"),
        ({"type": "http", "endpoint": "http://localhost:99999/"}, "no URL"),
        ({"type": "http", "endpoint": "http://[/"}, "no URL"),
        ({"type": "http", "endpoint": "http://localhost/\r\nX: y"}, "no URL"),
        ({"type": "http", "endpoint": "http://intranet.example/"}, "not on the allocation itself"),
        ({"type": "http", "endpoint": "tcp://localhost:80"}, "http://localhost:PORT/PATH"),
        ({"type": "tcp", "endpoint": "http://localhost:80"}, "tcp://localhost:PORT"),
        ({"type": "tcp", "endpoint": "tcp://localhost"}, "no port"),
        ({"type": "tcp", "endpoint": "tcp://intranet.example:22"}, "not on the allocation itself"),
    ],
)
def test_what_cannot_be_checked_is_refused_when_it_is_registered(wanted: Json, reason: str) -> None:
    with pytest.raises(InvalidHealthCheck, match=reason):
        read_check(wanted, "docker")


def test_no_command_runs_inside_a_webassembly_program() -> None:
    with pytest.raises(InvalidHealthCheck, match="WebAssembly"):
        read_check(COMMAND, "wasm")
    assert read_check({"type": "http", "endpoint": "http://localhost:80/"}, "wasm").endpoint


def test_members_of_the_wrong_shape_are_an_error() -> None:
    with pytest.raises(BadInput):
        read_check({"type": "command", "exec": 5}, "docker")


# commands --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (ExecOutput(0, b"PONG\n", b""), ""),
        (ExecOutput(0, b"", b"well: PONG"), ""),
        (ExecOutput(0, b"no", b""), "redis-cli said something else: 'no'"),
        (ExecOutput(2, b"PONG", b"\nx"), "redis-cli ended with exit code 2: 'PONG\\nx'"),
    ],
)
async def test_a_command_is_well_when_it_exits_with_0_and_says_what_is_expected(
    nursery: trio.Nursery, tmp_path: Path, output: ExecOutput, problem: str
) -> None:
    executor = await running(nursery, tmp_path, output)
    assert await find_problem(read_check(COMMAND, "docker"), executor, ID, {}) == problem


async def test_without_an_expected_text_the_exit_code_decides(nursery: trio.Nursery, tmp_path: Path) -> None:
    check = read_check({"type": "command", "exec": ["true"]}, "docker")
    assert await find_problem(check, await running(nursery, tmp_path), ID, {}) == ""


# http ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "value", "problem"),
    [
        (said(b"ok"), "ok", ""),
        (said(b"ok", "500 Oh"), "ok", ""),
        (said(b"ok\n"), "ok", "it answers something else: 'ok\\n'"),
        (said(b"fine"), None, ""),
        (said(b"", "503 Busy"), None, "it answers with status 503"),
        (said(b"x" * (MAX_BODY_BYTES + 1)), "x", f"it answers with more than {MAX_BODY_BYTES} bytes"),
        (b"SSH-2.0-OpenSSH\r\n", "ok", "no answer from localhost:8080: "),
    ],
    ids=["right", "status does not count", "almost right", "any", "busy", "too long", "no HTTP"],
)
async def test_a_page_is_well_when_its_body_is_what_is_expected(
    nursery: trio.Nursery, tmp_path: Path, answer: bytes, value: str | None, problem: str
) -> None:
    executor = await running(nursery, tmp_path)
    wanted: Json = {"type": "http", "endpoint": "http://localhost:8080/health?deep=1"}
    if value is not None:
        wanted["response"] = {"type": "string", "value": value}
    async with web(answer) as (port, asked):
        found = await find_problem(read_check(wanted, "docker"), executor, ID, {str(port): 8080})
    assert found.startswith(problem)
    assert bool(found) is bool(problem)
    assert asked[0].startswith(b"GET /health?deep=1 HTTP/1.1\r\n")
    assert b"Host: localhost:8080\r\n" in asked[0]


async def test_a_port_is_well_when_it_can_be_connected_to(nursery: trio.Nursery, tmp_path: Path) -> None:
    executor = await running(nursery, tmp_path)
    check = read_check({"type": "tcp", "endpoint": "tcp://localhost:80"}, "null")
    async with web(b"") as (port, _asked):
        assert await find_problem(check, executor, ID, {str(port): 80}) == ""
        assert await find_problem(check, executor, ID, {str(port): 81}) == "localhost:80 is no port of this allocation"
    problem = await find_problem(check, executor, ID, {str(port): 80})
    assert problem.startswith("no connection to localhost:80: ")


async def test_a_check_that_takes_longer_than_it_may_is_a_problem(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    class Slow(Addressed):
        async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
            await trio.sleep(3)
            return ExecOutput(0, b"PONG", b"")

    executor = Slow(nursery, "null")
    assert await find_problem(read_check(COMMAND, "null"), executor, ID, {}) == ""
    hasty = read_check({**COMMAND, "timeout": 2 * 10**9}, "null")
    assert await find_problem(hasty, executor, ID, {}) == "the check took longer than 2 s"


async def test_redirections_are_not_followed(nursery: trio.Nursery, tmp_path: Path) -> None:
    executor = await running(nursery, tmp_path)
    async with web(said(b"secret")) as (elsewhere, asked):
        away = f"302 Away\r\nLocation: http://127.0.0.1:{elsewhere}/"
        async with web(said(b"", away)) as (port, _):
            wanted = {"type": "http", "endpoint": f"http://localhost:{port}/", "response": {"value": "secret"}}
            found = await find_problem(read_check(wanted, "docker"), executor, ID, {str(port): 80})
    assert found == "it answers something else: ''"
    assert asked == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "10.1.2.3", "169.254.169.254"])
async def test_no_other_port_or_host_can_be_asked(nursery: trio.Nursery, tmp_path: Path, host: str) -> None:
    executor = await running(nursery, tmp_path)
    async with web(said(b"secret")) as (port, asked):
        check = read_check({"type": "http", "endpoint": f"http://{host}:{port}/"}, "docker")
        assert await find_problem(check, executor, ID, {"1": 2}) == f"{host}:{port} is no port of this allocation"
        executor.address = "172.17.0.2"
        if host.endswith((".3", ".254")):
            assert (await find_problem(check, executor, ID, {})).endswith("is no port of this allocation")
    assert asked == []


async def test_a_port_of_the_sandbox_that_is_not_published_is_asked_there(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    executor = await running(nursery, tmp_path)
    executor.address = "127.0.0.2"
    async with web(said(b"ok"), host="127.0.0.2") as (port, asked):
        for host in ("localhost", "127.0.0.2"):
            check = read_check({"type": "http", "endpoint": f"http://{host}:{port}/"}, "docker")
            assert await find_problem(check, executor, ID, {}) == ""
    assert len(asked) == 2


# the allocation --------------------------------------------------------------------------------------------------------


async def test_an_allocation_tells_the_truth_about_what_runs(autojump_clock: MockClock, desk: Desk) -> None:
    """Its orchestrator registers a check; before, after and without it the answer is that of the executor."""
    ask = _asker(desk, allocation := await desk.make(Script(100, exec_output=ExecOutput(0, b"LOADING", b""))))
    assert await ask() == HealthReply(ok=False, error="the allocation is pending")
    await allocation.start()
    assert await ask() == HealthReply(ok=True, error="")
    await desk.executor.pause(allocation.execution_id)
    assert await ask() == HealthReply(ok=False, error="the workload is paused")
    await desk.executor.resume(allocation.execution_id)
    saves = len(desk.saved)
    refused = await ask(REGISTER, {"EnsembleID": "e", "HealthCheck": {"type": "dance"}})
    assert refused == HealthReply(ok=False, error='unknown healthcheck type: "dance"')
    assert (await ask()).ok
    assert await ask(REGISTER, {"EnsembleID": "e", "HealthCheck": COMMAND}) == HealthReply(ok=True, error="")
    assert len(desk.saved) == saves + 1, "acknowledged is on disk"
    assert await ask() == HealthReply(ok=False, error="redis-cli said something else: 'LOADING'")
    await allocation.over.wait()
    assert await ask() == HealthReply(ok=False, error="the allocation is completed")
    late = await ask(REGISTER, {"EnsembleID": "e", "HealthCheck": COMMAND})
    assert late == HealthReply(ok=False, error="the allocation is completed")


def _asker(desk: Desk, allocation: Allocation) -> Callable[..., Any]:
    async def ask(behaviour: str = HEALTH_CHECK, payload: object = None) -> HealthReply:
        return await desk.root.invoke(allocation.actor.handle, behaviour, payload, HealthReply, timeout_s=20)

    return ask
