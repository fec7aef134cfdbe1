"""What listens at the engine's socket answers slowly, garbage, or refuses: that concerns one execution at a time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.faults.engine import CONTAINER_ID, ENDPOINTS, PlayedEngine, played_engine

from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.docker.watch import MAX_REFUSALS
from dms.executor.errors import ExecutorError, ExecutorUnavailable
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus
from dms.types.resources import RAM, Resources, SpecConfig

GARBAGE: dict[str, bytes] = {
    "page": b"<html>no engine</html>" + bytes(range(256)),
    "object": b'{"Id": "../../x", "State": {"ExitCode": "1"}, "RepoTags": {}, "blkio_stats": [], "networks": 1, "ExitCode": ""}',
    "deep": b"[" * 100_000,
}
THREADS_S = 0.05
"""Real time that threads are given before the clock jumps."""
ITEMS = b'["a", 1e999, null, {"Id": 1, "State": 1, "Labels": 1, "Mounts": 1}]'
ASKED = [name for name in ENDPOINTS if name not in ("version", "info", "logs", "events")]
STARTED, FINISHED = "2026-01-01T00:00:00.000000001Z", "2026-01-01T00:00:01Z"


@asynccontextmanager
async def opened(engine: PlayedEngine, path: Path) -> AsyncIterator[DockerExecutor]:
    """An executor on it; its nursery fails the test if anything escapes."""
    async with trio.open_nursery() as nursery:
        api = DockerApi(f"unix://{engine.socket}")
        await api.negotiate()
        yield DockerExecutor(nursery, path / "state", api, executor_id="exe")
        nursery.cancel_scope.cancel()


def request(path: Path) -> ExecutionRequest:
    engine = SpecConfig(type="docker", params={"image": "app:1"})
    return ExecutionRequest("job", "e", engine, Resources(ram=RAM(size=64 << 20)), path / "results")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[PlayedEngine]:
    async with played_engine(tmp_path) as made:
        yield made


async def everything(executor: DockerExecutor, path: Path) -> None:
    """A life with all that can be asked; refusals of one line are fine, anything else is not."""
    said = []
    for step in (
        lambda: executor.start(request(path)),
        lambda: executor.status("e"),
        lambda: executor.info("e"),
        lambda: executor.stats("e"),
        lambda: executor.exec("e", ("true",)),
        lambda: executor.pause("e"),
        lambda: executor.resume("e"),
        executor.list,
        lambda: executor.cancel("e", grace_s=0.01),
        lambda: executor.wait("e"),
        lambda: executor.remove("e"),
        executor.cleanup,
    ):
        with trio.move_on_after(3):
            try:
                await step()
            except ExecutorError as exc:
                said.append(exc.message)
    assert all(one.isprintable() and len(one) < 1000 for one in said)


@pytest.mark.matrix
@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("kind", GARBAGE)
async def test_whatever_an_engine_answers_is_an_error_of_one_execution(
    engine: PlayedEngine, tmp_path: Path, name: str, kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = THREADS_S
    if name == "pull":
        engine.instead["image"] = 404, b"{}"
    async with opened(engine, tmp_path) as executor:
        engine.instead[name] = 200, ITEMS if (name, kind) == ("list", "object") else GARBAGE[kind]
        await everything(executor, tmp_path)
    assert name in engine.asked


@pytest.mark.parametrize("kind", GARBAGE)
async def test_whatever_an_engine_tells_of_an_end_it_is_an_end(
    engine: PlayedEngine, tmp_path: Path, kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = THREADS_S
    about = {"Id": CONTAINER_ID, "State": {"ExitCode": 0, "StartedAt": STARTED, "FinishedAt": FINISHED}}
    engine.instead |= {"attach": (500, b""), "inspect": (200, json.dumps(about).encode())}
    engine.instead |= {"logs": (200, GARBAGE[kind]), "events": (200, GARBAGE[kind])}
    async with opened(engine, tmp_path) as executor:
        await executor.start(request(tmp_path))
        engine.ended.set()
        result = await executor.wait("e")
        assert result.reason in (EndReason.EXITED, EndReason.KILLED)
    assert {"logs", "events"} <= set(engine.asked)


@pytest.mark.parametrize("name", ["version", "info"])
@pytest.mark.parametrize("kind", GARBAGE)
async def test_what_is_no_engine_is_unavailable_or_without_abilities(
    engine: PlayedEngine, name: str, kind: str
) -> None:
    engine.instead[name] = 200, GARBAGE[kind]
    try:
        described = await DockerApi(f"unix://{engine.socket}").describe()
    except ExecutorError:
        return
    assert described.weaknesses() or name == "version"


REFUSAL = b'{"message": "\\u001b]0;x\\u0007\\u001b[2J\\r\\nok \\u202e' + b"x" * 100_000 + b'"}'


@pytest.mark.parametrize("name", ASKED)
async def test_whatever_an_engine_refuses_is_told_in_one_line(
    engine: PlayedEngine, tmp_path: Path, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = THREADS_S
    if name == "pull":
        engine.instead["image"] = 404, b"{}"
    async with opened(engine, tmp_path) as executor:
        engine.instead[name] = 500, REFUSAL
        await everything(executor, tmp_path)
    assert name in engine.asked


async def test_an_engine_that_refuses_for_a_while_loses_no_container(
    engine: PlayedEngine, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = THREADS_S
    engine.instead["wait"] = 500, b'{"message": "too many open files"}'
    async with opened(engine, tmp_path) as executor:
        await executor.start(request(tmp_path))
        await trio.sleep(10)
        assert await executor.status("e") is ExecutionStatus.RUNNING
        del engine.instead["wait"]
        engine.ended.set()
        assert (await executor.wait("e")).ok


async def test_an_engine_that_only_refuses_is_given_up_with_its_reason(
    engine: PlayedEngine, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = THREADS_S
    engine.instead["wait"] = 500, b'{"message": "too many open files"}'
    async with opened(engine, tmp_path) as executor:
        await executor.start(request(tmp_path))
        result = await executor.wait("e")
        assert (result.reason, result.error_msg) == (EndReason.INFRASTRUCTURE, "too many open files")
    assert engine.asked.count("wait") == MAX_REFUSALS


SILENT: dict[str, Callable[[DockerExecutor], Awaitable[object]]] = {
    "inspect": lambda executor: executor.status("e"),
    "stats": lambda executor: executor.stats("e"),
    "exec": lambda executor: executor.exec("e", ("true",)),
    "stop": lambda executor: executor.cancel("e"),
}


@pytest.mark.parametrize("name", SILENT)
async def test_an_engine_that_falls_silent_is_not_waited_for(
    engine: PlayedEngine, tmp_path: Path, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = THREADS_S
    async with opened(engine, tmp_path) as executor:
        await executor.start(request(tmp_path))
        engine.instead[name] = None
        with pytest.raises(ExecutorUnavailable, match="does not answer"):
            await SILENT[name](executor)


@pytest.mark.parametrize("name", ["image", "create", "start"])
async def test_a_start_that_an_engine_does_not_answer_leaves_the_id_free(
    engine: PlayedEngine, tmp_path: Path, name: str, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = THREADS_S
    async with opened(engine, tmp_path) as executor:
        engine.instead[name] = None
        with pytest.raises(ExecutorUnavailable, match="does not answer"):
            await executor.start(request(tmp_path))
        del engine.instead[name]
        engine.ended = trio.Event()
        await executor.start(request(tmp_path))
        assert await executor.status("e") is ExecutionStatus.RUNNING
