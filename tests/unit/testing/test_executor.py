"""The scripted executor, on the virtual clock."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dms.executor.errors import InvalidEngineSpec, StartFailed
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus, LogStreamRequest
from dms.testing.executor import Script, ScriptedExecutor
from dms.types.resources import Resources, SpecConfig


def request(tmp_path: Path, id_: str = "ens_node.task") -> ExecutionRequest:
    return ExecutionRequest("job", id_, SpecConfig(type="wasm"), Resources(), tmp_path / id_)


async def test_a_script_is_played_in_time(autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path) -> None:
    executor = ScriptedExecutor(nursery)
    script = Script(duration_s=10, exit_code=3, stdout=[(1, b"a"), (5, b"b"), (11, b"never")], stderr=[(2, b"x")])
    executor.on(".task", script)
    await executor.start(request(tmp_path))
    await trio.sleep(3)
    assert [chunk async for chunk in executor.logs(LogStreamRequest("ens_node.task"))] == [b"a"]
    followed = [chunk async for chunk in executor.logs(LogStreamRequest("ens_node.task", follow=True))]
    assert b"".join(followed) == b"ab"
    assert trio.current_time() == pytest.approx(10)
    assert (await executor.wait("ens_node.task")).exit_code == 3


async def test_what_was_said_last_about_an_id_wins(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    executor = ScriptedExecutor(nursery, default=Script(exit_code=1))
    executor.on("task", Script(exit_code=2))
    executor.on(".task", Script(exit_code=3))
    codes = []
    for id_ in ("a.task", "a-task", "other"):
        await executor.start(request(tmp_path, id_))
        codes.append((await executor.wait(id_)).exit_code)
    assert codes == [3, 2, 1]
    assert [started.execution_id for started in executor.started] == ["a.task", "a-task", "other"]


async def test_a_slow_stop_takes_its_time_and_a_slower_one_the_grace_period(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    executor = ScriptedExecutor(nursery)
    executor.on("slow", Script(duration_s=None, cancel_takes_s=3))
    executor.on("stubborn", Script(duration_s=None, cancel_takes_s=100))
    for id_, seconds, code in (("slow", 3, 143), ("stubborn", 10, 137)):
        await executor.start(request(tmp_path, id_))
        began = trio.current_time()
        await executor.cancel(id_)
        assert trio.current_time() - began == pytest.approx(seconds)
        assert (await executor.wait(id_)).exit_code == code
    assert executor.cancelled == ["slow", "stubborn"]


async def test_failures_before_the_start_leave_nothing(nursery: trio.Nursery, tmp_path: Path) -> None:
    executor = ScriptedExecutor(nursery, default=Script(invalid=InvalidEngineSpec("no")))
    executor.on("broken", Script(start_error=StartFailed("engine on fire")))
    with pytest.raises(StartFailed, match="on fire"):
        await executor.start(request(tmp_path, "broken"))
    with pytest.raises(InvalidEngineSpec):
        await executor.start(request(tmp_path, "other"))
    with pytest.raises(InvalidEngineSpec):
        await executor.validate(SpecConfig(type="wasm"))
    assert await executor.list() == ()
    assert executor.started == []


async def test_somebody_outside_can_end_it(autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path) -> None:
    executor = ScriptedExecutor(nursery, default=Script(duration_s=None))
    await executor.start(request(tmp_path))
    executor.end("ens_node.task", reason=EndReason.OUT_OF_MEMORY)
    assert (await executor.wait("ens_node.task")).reason is EndReason.OUT_OF_MEMORY


async def test_after_a_restart_the_script_goes_on_where_it_was(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    executor = ScriptedExecutor(nursery, default=Script(duration_s=10, stdout=[(1, b"a"), (8, b"b")]))
    await executor.start(request(tmp_path))
    await trio.sleep(4)
    after = executor.restarted(nursery)
    assert await after.status("ens_node.task") is ExecutionStatus.RUNNING
    await after.start(request(tmp_path))
    result = await after.wait("ens_node.task")
    assert result.ok
    assert trio.current_time() == pytest.approx(10)
    assert result.stdout_path is not None
    assert result.stdout_path.read_bytes() == b"ab"
