"""Commands inside containers that somebody talks with, on a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.errors import EngineRefused
from dms.executor.protocol import ExecutionRequest
from dms.executor.sessions import ExecRequest, ExecSession
from dms.types.resources import CPU, RAM, Resources, SpecConfig

pytestmark = pytest.mark.docker


@pytest.fixture
async def executor(tmp_path: Path, docker_host: str) -> AsyncIterator[DockerExecutor]:
    """With one container that sleeps: ``e``."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            api = DockerApi(docker_host)
            engine = await api.describe()
            found = DockerExecutor(nursery, tmp_path / "state", api, executor_id="exe", engine=engine)
            spec = SpecConfig(type="docker", params={"image": "dms-test/busybox:1", "cmd": ["sleep", "1000"]})
            resources = Resources(cpu=CPU(cores=0.5), ram=RAM(size=64 << 20))
            try:
                await found.start(ExecutionRequest("job", "e", spec, resources, tmp_path / "results"))
                yield found
            finally:
                with trio.move_on_after(20, shield=True):
                    await found.cleanup()
            nursery.cancel_scope.cancel()


async def said(session: ExecSession) -> dict[str, bytes]:
    heard = {"stdout": b"", "stderr": b""}
    while (piece := await session.receive()) is not None:
        heard[piece[0]] += piece[1]
    return heard


async def test_a_command_reads_its_input_to_the_end_and_tells_how_it_ended(executor: DockerExecutor) -> None:
    session = await executor.open_exec(ExecRequest("e", ("sh", "-c", "cat; echo oops >&2; exit 7"), has_input=True))
    data = bytes(range(256)) * 1000
    heard: dict[str, bytes] = {}

    async def listen() -> None:
        heard.update(await said(session))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await session.send(data)
        await session.end_input()
    assert heard == {"stdout": data, "stderr": b"oops\n"}
    assert await session.exit_code() == 7
    await session.aclose()


async def test_a_terminal_has_the_size_that_was_asked_for_and_takes_another(executor: DockerExecutor) -> None:
    argv = ("sh", "-c", "[ -t 0 ] && [ -t 1 ] && echo terminal; read line; echo got $line")
    session = await executor.open_exec(ExecRequest("e", argv, has_input=True, tty=True, rows=33, columns=77))
    await session.resize(40, 100)
    await session.send(b"word\n")
    heard = await said(session)
    assert heard["stderr"] == b""
    assert heard["stdout"].replace(b"\r", b"").splitlines()[0] in (b"terminal", b"word")
    assert b"got word" in heard["stdout"]
    assert await session.exit_code() == 0
    await session.aclose()


async def test_a_session_that_is_closed_ends_its_command(executor: DockerExecutor) -> None:
    session = await executor.open_exec(ExecRequest("e", ("sh", "-c", "echo up; exec sleep 777"), has_input=True))
    assert await session.receive() == ("stdout", b"up\n")
    await session.aclose()
    await session.send(b"late")  # nobody is there; that is no error
    session = await executor.open_exec(ExecRequest("e", ("sh", "-c", "cat /proc/[0-9]*/cmdline")))
    assert b"777" not in (await said(session))["stdout"]
    await session.aclose()


async def test_a_command_that_is_not_there_is_told_by_the_engine(executor: DockerExecutor) -> None:
    try:
        session = await executor.open_exec(ExecRequest("e", ("nothing-of-this-name",)))
    except EngineRefused as exc:
        assert "nothing-of-this-name" in exc.message  # noqa: PT017  engines differ in when they say it
        return
    heard = await said(session)
    assert b"nothing-of-this-name" in heard["stdout"] + heard["stderr"]
    assert await session.exit_code() in (126, 127)
    await session.aclose()
