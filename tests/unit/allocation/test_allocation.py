"""The allocation actor: it carries out its state machine whatever hooks, executor and callers do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.allocation import messages
from dms.allocation.allocation import Allocation
from dms.allocation.errors import AlreadyEnded, HookFailed
from dms.allocation.hooks.hook import Hook
from dms.allocation.hooks.liveness import LivenessHook
from dms.allocation.hooks.results_dir import ResultsDirHook
from dms.allocation.machine import AllocationState, AllocationView
from dms.allocation.spec import AllocationSpec, Surroundings
from dms.executor.errors import ExecutorUnavailable, StartFailed
from dms.executor.protocol import EndReason, ExecutionResult, ExecutorStats
from dms.storage.errors import TransferFailed
from dms.testing.actors import World
from dms.testing.executor import Script, ScriptedExecutor
from dms.types.errors import DMSError
from dms.types.ids import AllocationID, EnsembleID
from dms.types.resources import Resources, SpecConfig

ENSEMBLE = EnsembleID("e" * 64)
ID = AllocationID(f"{ENSEMBLE}_n1.a")


class Recorder(Hook):
    """Writes down every call."""

    def __init__(self, fail_at: str = "", error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._fail_at, self._error = fail_at, error or HookFailed("no room")

    def _note(self, phase: str) -> None:
        self.calls.append(phase)
        if phase == self._fail_at:
            raise self._error

    async def prerun(self, allocation: Allocation) -> None:
        self._note("prerun")

    async def poststart(self, allocation: Allocation) -> None:
        self._note("poststart")

    async def prekill(self, allocation: Allocation) -> None:
        self._note("prekill")

    async def postrun(self, allocation: Allocation) -> None:
        self._note("postrun")

    async def destroy(self, allocation: Allocation) -> None:
        self._note("destroy")


class BrokenExecutor(ScriptedExecutor):
    """Its backend does not answer any more."""

    async def remove(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        raise ExecutorUnavailable


class Desk:
    """An allocation and everything that it asks of its node, written down."""

    def __init__(self, root: Actor, nursery: trio.Nursery, directory: Path) -> None:
        self.root, self.nursery, self.directory = root, nursery, directory
        self.executor = ScriptedExecutor(nursery, "null")
        self.saved: list[AllocationState] = []
        self.reported: list[tuple[str, str]] = []
        self.released = 0

    async def make(
        self,
        script: Script | None = None,
        *,
        hooks: Sequence[Hook] = (),
        executor: ScriptedExecutor | None = None,
        view: AllocationView | None = None,
        has_executor: bool = True,
        recoverable: bool = False,
    ) -> Allocation:
        self.executor = executor or self.executor
        self.executor.on("-1", script or Script(None))
        self.executor.on("-2", script or Script(None))
        child = self.root.prepare_child(ID)
        spec = AllocationSpec(
            id=ID,
            ensemble_id=ENSEMBLE,
            node_id="n1",
            type="service",
            executor="null",
            resources=Resources(),
            execution=SpecConfig(type="null"),
            orchestrator=self.root.handle,
            created_ns=1,
            recoverable=recoverable,
        )
        surroundings = Surroundings(
            executor=self.executor if has_executor else None,
            results_dir=self.directory / "jobs" / ID,
            hooks=hooks,
            save=self._save,
            report=self._report,
            release=self._release,
        )
        allocation = Allocation(spec, child, surroundings, view=view)
        await self.root.start_child(child, supervisor=self.root.handle, body=allocation.attend)
        return allocation

    async def _save(self, allocation: Allocation) -> None:
        await trio.lowlevel.checkpoint()
        self.saved.append(allocation.view.state)

    async def _report(self, allocation: Allocation, before: AllocationState) -> None:
        self.reported.append((before.value, allocation.view.state.value))

    async def _release(self, allocation: Allocation) -> None:
        self.released += 1


@pytest.fixture
async def desk(autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Desk]:
    """The test itself must ask for ``autojump_clock``: pytest-trio looks nowhere else."""
    assert trio.lowlevel.current_clock() is autojump_clock
    async with World().node("host") as root:
        yield Desk(root, nursery, tmp_path)


async def invoke(desk: Desk, allocation: Allocation, behaviour: str, reply: type[Any]) -> Any:
    return await desk.root.invoke(allocation.actor.handle, behaviour, {}, reply)


class Unforeseen(ScriptedExecutor):
    """Whoever waits for an end meets a defect, twice."""

    defects = 2

    async def wait(self, execution_id: str) -> ExecutionResult:
        if self.defects:
            self.defects -= 1
            await trio.sleep(1)
            raise ZeroDivisionError
        return await super().wait(execution_id)


async def test_an_unforeseen_failure_while_it_runs_does_not_make_it_deaf(autojump_clock: MockClock, desk: Desk) -> None:
    executor, pushes = Unforeseen(desk.nursery, "null"), list[int]()

    async def push(_allocation: Allocation, number: int) -> bool | None:
        pushes.append(number)
        return True

    allocation = await desk.make(Script(100), executor=executor, hooks=[LivenessHook(push, interval_s=10)])
    await allocation.start()
    await trio.sleep(50)
    assert executor.defects == 0
    assert desk.saved[-1] is AllocationState.RUNNING
    assert len(pushes) >= 5, "the tasks of hooks run again"
    assert (await invoke(desk, allocation, messages.STATS, messages.StatsReply)).ok
    await allocation.over.wait()
    assert allocation.view.state is AllocationState.COMPLETED
    assert desk.reported[-1] == ("running", "completed")
    assert desk.released == 1


async def test_it_runs_to_its_end(autojump_clock: MockClock, desk: Desk) -> None:
    hook = Recorder()
    allocation = await desk.make(Script(5), hooks=[hook])
    await allocation.start()
    assert desk.saved == [AllocationState.RUNNING], "on disk before anything runs"
    assert allocation.started_ns > 0
    await allocation.over.wait()
    assert (allocation.view.state, allocation.view.exit_code) == (AllocationState.COMPLETED, 0)
    assert desk.reported == [("pending", "running"), ("running", "completed")]
    assert desk.released == 1
    assert hook.calls == ["prerun", "poststart", "postrun"]
    await allocation.destroy()
    assert hook.calls[-1] == "destroy"
    assert await desk.executor.list() == ()


async def test_twice_started_is_started_once_also_while_it_starts(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make(Script(None, start_takes_s=5))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(allocation.start)
    await allocation.start()
    assert len(desk.executor.started) == 1


async def test_a_start_of_what_has_run_is_fine_and_of_what_could_not_is_not(
    autojump_clock: MockClock, desk: Desk
) -> None:
    allocation = await desk.make(Script(1, exit_code=3))
    await allocation.start()
    await allocation.over.wait()
    await allocation.start()
    await allocation.actor.aclose()
    other = await Desk(desk.root, desk.nursery, desk.directory).make(Script(start_error=StartFailed("disk")))
    with pytest.raises(StartFailed, match="disk"):
        await other.start()
    with pytest.raises(AlreadyEnded, match="the allocation is failed: disk"):
        await other.start()
    assert (other.view.state, other.view.reason) == (AllocationState.FAILED, "infrastructure")


@pytest.mark.parametrize("error", [HookFailed("no room"), OSError("no room"), ZeroDivisionError()])
async def test_a_preparation_that_fails_fails_the_allocation_and_frees_everything(
    autojump_clock: MockClock, desk: Desk, error: Exception
) -> None:
    allocation = await desk.make(hooks=[Recorder("prerun", error)])
    with pytest.raises(DMSError):
        await allocation.start()
    assert desk.saved == [AllocationState.RUNNING, AllocationState.FAILED]
    assert desk.reported == [("running", "failed")]
    assert (desk.released, desk.executor.started) == (1, [])


@pytest.mark.parametrize("phase", ["poststart", "prekill", "postrun", "destroy"])
async def test_a_later_hook_that_fails_harms_nothing(autojump_clock: MockClock, desk: Desk, phase: str) -> None:
    after = Recorder()
    allocation = await desk.make(hooks=[Recorder(phase, ZeroDivisionError()), after])
    await allocation.start()
    await allocation.shutdown("asked")
    await allocation.destroy()
    assert list(dict.fromkeys(after.calls)) == ["prerun", "poststart", "prekill", "postrun", "destroy"]
    assert (allocation.view.state, desk.released) == (AllocationState.TERMINATED, 1)


async def test_a_backend_that_fails_cannot_keep_what_was_reserved(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make(executor=BrokenExecutor(desk.nursery, "null"))
    await allocation.start()
    await allocation.shutdown("asked")
    await allocation.destroy()
    assert (allocation.view.state, desk.released) == (AllocationState.TERMINATED, 1)


async def test_a_shutdown_interrupts_a_start(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make(Script(None, start_takes_s=1000))
    outcome: list[DMSError] = []

    async def start() -> None:
        try:
            await allocation.start()
        except DMSError as exc:
            outcome.append(exc)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await trio.sleep(10)
        await allocation.shutdown("asked", quiet=True)
    assert trio.current_time() < 20
    assert [exc.message for exc in outcome] == ["shut down while it was being started"]
    assert (allocation.view.state, allocation.view.error) == (AllocationState.TERMINATED, "asked")
    assert (desk.released, desk.reported, desk.executor.started) == (1, [], [])


async def test_a_stop_keeps_the_reservation_and_a_restart_runs_anew(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make()
    refused = await invoke(desk, allocation, messages.RESTART, messages.StartReply)
    assert (refused.ok, refused.error) == (False, "the allocation is pending: it cannot be restarted")
    await allocation.start()
    await allocation.stop()
    assert (allocation.view.state, desk.released) == (AllocationState.STOPPED, 0)
    assert (await invoke(desk, allocation, messages.RESTART, messages.StartReply)).ok
    assert [r.execution_id for r in desk.executor.started] == [f"{ID}-1", f"{ID}-2"]
    await trio.sleep(10)
    assert allocation.view.state is AllocationState.RUNNING, "the end of the first run is not that of the second"
    await allocation.shutdown()
    refused = await invoke(desk, allocation, messages.RESTART, messages.StartReply)
    assert (refused.ok, refused.code) == (False, "already_ended")


async def test_a_restart_that_is_asked_for_twice_happens_once(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make()
    await allocation.start()
    for _ in range(2):
        reply = await desk.root.invoke(
            allocation.actor.handle, messages.RESTART, messages.RestartRequest(number=2), messages.StartReply
        )
        assert (reply.ok, reply.execution) == (True, 2)
    assert [r.execution_id for r in desk.executor.started] == [f"{ID}-1", f"{ID}-2"]
    await allocation.restart(1)
    assert allocation.number == 3, "who knows less than we do is told the next number"
    await allocation.shutdown()


async def test_what_fails_and_may_be_restarted_holds_its_place(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make(Script(1, exit_code=3), recoverable=True)
    await allocation.start()
    await trio.sleep(5)
    assert (allocation.view.state, allocation.view.error) == (AllocationState.STOPPED, "exit code 3")
    assert (desk.released, allocation.over.is_set()) == (0, False)
    assert desk.reported[-1] == ("running", "stopped")
    await allocation.restart(2)
    await trio.sleep(5)
    assert allocation.view.is_held, "it fails again"
    desk.executor.on("-3", Script(start_error=ExecutorUnavailable("no disk")))
    reply = await invoke(desk, allocation, messages.RESTART, messages.StartReply)
    assert (reply.ok, reply.error, reply.execution) == (False, "no disk", 3)
    assert allocation.view.is_held
    desk.executor.on("-4", Script(None))
    await allocation.restart(4)
    assert allocation.view.state is AllocationState.RUNNING
    await allocation.shutdown()
    assert (desk.released, await desk.executor.list()) == (1, ())


async def test_what_was_abandoned_has_failed_and_does_not_run(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make()
    await allocation.start()
    await allocation.abandon("given up")
    assert (allocation.view.state, allocation.view.error) == (AllocationState.FAILED, "lost: given up")
    assert await desk.executor.list() == ()


async def test_what_is_killed_from_outside_has_failed(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make()
    await allocation.start()
    desk.executor.end(f"{ID}-1", exit_code=0, reason=EndReason.KILLED, error_msg="execution possibly killed")
    await allocation.over.wait()
    assert (allocation.view.state, allocation.view.error) == (AllocationState.FAILED, "execution possibly killed")
    assert allocation.view.killed


async def test_what_breaks_a_rule_is_ended_and_has_failed_for_that_reason(
    autojump_clock: MockClock, desk: Desk
) -> None:
    hook = Recorder()
    allocation = await desk.make(hooks=[hook])
    await allocation.start()
    await allocation.end(EndReason.DISK_LIMIT, "it wrote too much")
    await allocation.over.wait()
    view = allocation.view
    assert (view.state, view.error, view.reason) == (AllocationState.FAILED, "it wrote too much", "disk_limit")
    assert (view.killed, hook.calls) == (False, ["prerun", "poststart", "postrun"])
    await allocation.actor.aclose()
    desk.executor = ScriptedExecutor(desk.nursery, "null")
    ended_by_itself = await desk.make()
    await ended_by_itself.start()
    desk.executor.end(ended_by_itself.execution_id, exit_code=0, reason=EndReason.EXITED, error_msg="")
    await ended_by_itself.end(EndReason.DISK_LIMIT, "it wrote too much")
    await ended_by_itself.over.wait()
    assert ended_by_itself.view.state is AllocationState.COMPLETED, "an end of its own is told as it was"


@pytest.mark.parametrize(
    ("script", "error", "reason"),
    [
        (Script(1), "its outputs are lost: the bucket is gone", "outputs_lost"),
        (Script(1, exit_code=3), "exit code 3; its outputs are lost: the bucket is gone", "exited"),
    ],
)
async def test_an_end_whose_outputs_are_lost_is_a_failure_and_says_so(
    autojump_clock: MockClock, desk: Desk, script: Script, error: str, reason: str
) -> None:
    allocation = await desk.make(script, hooks=[Recorder("postrun", TransferFailed("the bucket is gone"))])
    await allocation.start()
    await allocation.over.wait()
    view = allocation.view
    assert (view.state, view.error, view.reason) == (AllocationState.FAILED, error, reason)
    assert (view.exit_code, allocation.lost) == (script.exit_code, "the bucket is gone")
    assert desk.reported[-1] == ("running", "failed")


async def test_outputs_that_are_lost_in_a_shutdown_are_kept_with_the_end(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make(hooks=[Recorder("postrun", TransferFailed("the bucket is gone"))])
    await allocation.start()
    await allocation.shutdown("asked", quiet=True)
    view = allocation.view
    assert (view.state, view.error) == (
        AllocationState.TERMINATED,
        "asked; its outputs are lost: the bucket is gone",
    )
    assert desk.saved[-2:] == [AllocationState.TERMINATED] * 2, "what was learnt after the end is on disk, too"


async def test_after_a_restart_of_the_node_it_adopts_what_runs(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make(Script(50))
    await allocation.start()
    await allocation.actor.aclose()
    again = Desk(desk.root, desk.nursery, desk.directory)
    executor = desk.executor.restarted(desk.nursery)
    adopted = await again.make(executor=executor, view=AllocationView(AllocationState.RUNNING))
    await adopted.resume()
    assert executor.started == []
    await adopted.over.wait()
    assert adopted.view.state is AllocationState.COMPLETED


async def test_after_a_restart_without_its_executor_it_has_failed(autojump_clock: MockClock, desk: Desk) -> None:
    view = AllocationView(AllocationState.RUNNING)
    allocation = await desk.make(view=view, has_executor=False)
    await allocation.resume()
    assert allocation.view.state is AllocationState.FAILED
    assert allocation.view.error == "lost: this machine has no executor null any more"
    assert (desk.released, desk.reported) == (1, [("running", "failed")])


@pytest.mark.parametrize("state", [AllocationState.PENDING, AllocationState.STOPPED, AllocationState.COMPLETED])
async def test_after_a_restart_only_what_ran_is_run(
    autojump_clock: MockClock, desk: Desk, state: AllocationState
) -> None:
    allocation = await desk.make(view=AllocationView(state))
    await allocation.resume()
    assert (desk.executor.started, desk.saved) == ([], [])


async def test_stats_are_those_of_the_workload(autojump_clock: MockClock, desk: Desk) -> None:
    allocation = await desk.make(Script(None, stats=ExecutorStats(cpu_percent=12.5, memory_used_bytes=5)))
    idle = await invoke(desk, allocation, messages.STATS, messages.StatsReply)
    assert (idle.ok, idle.stats.memory) == (True, messages.MemoryStats())
    await allocation.start()
    busy = await invoke(desk, allocation, messages.STATS, messages.StatsReply)
    assert (busy.ok, busy.stats.memory.usage, busy.stats.cpu_usage.percent) == (True, 5, 12.5)


async def test_signs_of_life_come_while_it_runs(autojump_clock: MockClock, desk: Desk) -> None:
    signs: list[tuple[int, float]] = []

    async def push(_allocation: Allocation, number: int) -> bool | None:
        signs.append((number, trio.current_time() - begun))
        return True

    begun = trio.current_time()
    allocation = await desk.make(Script(100), hooks=[LivenessHook(push, interval_s=30)])
    await allocation.start()
    await trio.sleep(500)
    assert [number for number, _ in signs] == [1, 2, 3, 4]
    assert [round(at) for _, at in signs] == [0, 30, 60, 90]


@pytest.mark.parametrize(
    ("answer", "after_s", "reason"),
    [
        (False, 1, "the orchestrator does not know this allocation any more"),
        (None, 3600 + 31, "the orchestrator cannot be reached"),
    ],
)
async def test_what_nobody_owns_is_ended(
    autojump_clock: MockClock, desk: Desk, answer: bool | None, after_s: float, reason: str
) -> None:
    async def push(_allocation: Allocation, _number: int) -> bool | None:
        return answer

    allocation = await desk.make(hooks=[LivenessHook(push, interval_s=30, orphan_grace_s=3600)])
    await allocation.start()
    begun = trio.current_time()
    await allocation.over.wait()
    assert (allocation.view.state, allocation.view.error) == (AllocationState.TERMINATED, reason)
    assert trio.current_time() - begun <= after_s


async def test_the_directory_is_private_and_goes_with_the_allocation(tmp_path: Path) -> None:
    directory = tmp_path / "jobs" / "x"
    hook = ResultsDirHook(directory)
    nobody: Any = None
    for _ in range(2):
        await hook.prerun(nobody)
    assert oct(directory.stat().st_mode)[-3:] == oct(directory.parent.stat().st_mode)[-3:] == "700"
    (directory / "stdout.log").write_text("x")
    for _ in range(2):
        await hook.destroy(nobody)
    assert not directory.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(HookFailed, match="cannot make"):
        await ResultsDirHook(tmp_path / "file" / "x").prerun(nobody)
