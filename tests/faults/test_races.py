"""Everything at once, on a real engine: whatever the order, one truthful end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from tests.faults.containers import opened, request, until_logged

from dms.executor.docker import DockerExecutor
from dms.executor.errors import AlreadyStarted, ExecutorError
from dms.executor.protocol import EndReason
from dms.testing.dockerd import TestEngine

pytestmark = pytest.mark.docker


async def together(*calls: Callable[[], Awaitable[object]]) -> list[str]:
    """All of them at once; the names of the errors."""
    errors = []

    async def one(call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except ExecutorError as exc:
            errors.append(type(exc).__name__)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(one, call)
    return errors


async def test_pauses_resumes_and_a_cancellation_at_once_end_it(docker: TestEngine, tmp_path: Path) -> None:
    async with opened(docker.host, tmp_path) as executor:
        for number in range(2):
            id_ = f"e{number}"
            await executor.start(request(tmp_path, "echo up; sleep 100", id_))
            freezes = [partial(executor.pause, id_), partial(executor.resume, id_)] * 3
            errors = await together(*freezes, partial(executor.cancel, id_, grace_s=0.5), *freezes)
            assert errors == []
            assert (await executor.wait(id_)).reason is EndReason.CANCELLED
            await executor.pause(id_)  # changes nothing any more
            await executor.remove(id_)


async def test_commands_in_what_ends_meanwhile_are_answered_or_refused(docker: TestEngine, tmp_path: Path) -> None:
    async with opened(docker.host, tmp_path) as executor:
        await executor.start(request(tmp_path, "echo up; sleep 100"))
        await until_logged(executor, b"up")
        commands = [lambda: executor.exec("e", ("sleep", "0.2"))] * 4
        await together(*commands, lambda: executor.cancel("e", grace_s=0), *commands)
        with pytest.raises(ExecutorError, match="is not running"):
            await executor.exec("e", ("true",))
        await executor.remove("e")
        with pytest.raises(ExecutorError, match="not found"):
            await executor.exec("e", ("true",))


async def test_an_id_that_is_started_cancelled_and_removed_at_once_can_be_used_again(
    docker: TestEngine, tmp_path: Path
) -> None:
    async with opened(docker.host, tmp_path) as executor:
        for _ in range(2):
            errors = await together(
                lambda: executor.start(request(tmp_path, "sleep 100")),
                lambda: executor.start(request(tmp_path, "sleep 100")),
                lambda: executor.cancel("e", grace_s=0),
                lambda: executor.remove("e", grace_s=0),
            )
            assert errors.count(AlreadyStarted.__name__) <= 1
            await executor.remove("e", grace_s=0)
            assert await executor.list() == ()
            assert await containers_of(executor) == 0


async def containers_of(executor: DockerExecutor) -> int:
    return len(await executor._api.containers({"nunet-executor": "faults"}))
