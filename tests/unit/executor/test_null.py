"""The null executor, on the virtual clock."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dms.executor.errors import InvalidEngineSpec
from dms.executor.null import NullExecutor
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus
from dms.types.resources import Resources, SpecConfig


def request(**params: object) -> ExecutionRequest:
    return ExecutionRequest("job", "e", SpecConfig(type="null", params=params), Resources(), Path("/nowhere"))


async def test_it_succeeds_at_once(nursery: trio.Nursery) -> None:
    executor = NullExecutor(nursery)
    await executor.start(request())
    assert await executor.status("e") is ExecutionStatus.SUCCESS
    assert (await executor.wait("e")).stdout_path is None


async def test_it_lasts_as_long_as_asked(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    executor = NullExecutor(nursery)
    await executor.start(request(duration="2h"))
    began = trio.current_time()
    assert (await executor.wait("e")).ok
    assert trio.current_time() - began == pytest.approx(7200)


async def test_cancelling_ends_it_before_its_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    executor = NullExecutor(nursery)
    await executor.start(request(duration="2h"))
    await trio.sleep(60)
    await executor.cancel("e")
    assert (await executor.wait("e")).reason is EndReason.CANCELLED
    assert trio.current_time() == pytest.approx(60)


async def test_a_duration_must_be_one(nursery: trio.Nursery) -> None:
    with pytest.raises(InvalidEngineSpec, match="invalid duration"):
        await NullExecutor(nursery).validate(SpecConfig(type="null", params={"duration": "long"}))


async def test_every_command_inside_succeeds(nursery: trio.Nursery) -> None:
    executor = NullExecutor(nursery)
    await executor.start(request())
    assert (await executor.exec("e", ("false",))).exit_code == 0
