from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import trio

from dms.executor.errors import ExecutionNotFound, ExecutorError, ExecutorUnavailable
from dms.executor.null import NullExecutor
from dms.executor.protocol import ExecutionRequest, Executor, LogStreamRequest
from dms.plugins.guard import guarded_executor, guarded_provider
from dms.storage.errors import StorageError
from dms.storage.transfer import Provider
from dms.types.resources import Resources, SpecConfig


class Faulty:
    """Raises in every way there is."""

    type = "else"

    async def cleanup(self) -> None:
        raise KeyError("planted")

    async def list(self) -> None:
        raise ExceptionGroup("several", [ExecutionNotFound("x"), ExecutionNotFound("y")])

    async def status(self, execution_id: str) -> None:
        raise ExecutionNotFound(execution_id)

    async def logs(self, request: LogStreamRequest) -> AsyncIterator[bytes]:
        yield b"first"
        raise ZeroDivisionError

    def check(self, spec: SpecConfig) -> None:
        raise TypeError(spec.type)


EXECUTOR = guarded_executor(cast("Executor", Faulty()), "mine.faulty")


async def test_a_defect_is_an_error_that_names_the_plugin() -> None:
    with pytest.raises(ExecutorError, match=r"mine\.faulty failed in cleanup: KeyError: 'planted'"):
        await EXECUTOR.cleanup()
    with pytest.raises(ExecutorError, match=r"mine\.faulty has no pause"):
        await EXECUTOR.pause("x")
    provider = guarded_provider(cast("Provider", Faulty()), "mine.storage")
    with pytest.raises(StorageError, match=r"mine\.storage failed in check"):
        provider.check(SpecConfig(type="t"))


async def test_errors_of_ours_come_through_as_they_are() -> None:
    with pytest.raises(ExecutionNotFound, match=r"^e1$"):
        await EXECUTOR.status("e1")
    with pytest.raises(ExecutionNotFound, match=r"^x$"):
        await EXECUTOR.list()


async def test_logs_come_until_they_break() -> None:
    chunks = EXECUTOR.logs(LogStreamRequest("e1"))
    assert await anext(chunks) == b"first"
    with pytest.raises(ExecutorError, match="ZeroDivisionError"):
        await anext(chunks)


async def test_a_sound_plugin_is_as_without_a_guard(nursery: trio.Nursery, tmp_path: Path) -> None:
    executor = guarded_executor(NullExecutor(nursery), "mine.null")
    assert executor.type == "mine.null"
    engine = SpecConfig(type="null", params={"duration": "1h"})
    await executor.start(ExecutionRequest("job", "e1", engine, Resources(), tmp_path))
    with trio.move_on_after(0) as scope:
        await executor.wait("e1")
    assert scope.cancelled_caught
    assert [each.execution_id for each in await executor.list()] == ["e1"]
    await executor.cleanup()
    assert await executor.list() == ()


async def test_one_that_has_failed_is_asked_nothing_any_more(nursery: trio.Nursery) -> None:
    executor = guarded_executor(NullExecutor(nursery), "mine.null", lambda: "it died")
    with pytest.raises(ExecutorUnavailable, match="it died"):
        await executor.list()
