"""What every executor promises, checked on each of them: the real ones and the twins."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import wasmtime

from dms.executor.docker import DockerExecutor
from dms.executor.errors import (
    AlreadyStarted,
    ExecutionNotFound,
    ExecutorError,
    InvalidEngineSpec,
    StatusNotReached,
    Unsupported,
)
from dms.executor.firecracker import FirecrackerExecutor
from dms.executor.null import NullExecutor
from dms.executor.protocol import (
    EndReason,
    ExecutionRequest,
    ExecutionResult,
    ExecutionStatus,
    Executor,
    LogStreamRequest,
)
from dms.executor.qemu import QemuExecutor
from dms.executor.wasm import WasmExecutor
from dms.testing.executor import Script, ScriptedExecutor
from dms.testing.vms import missing_for_firecracker
from dms.types.resources import RAM, Resources, SpecConfig

PROGRAMS = Path(__file__).parents[2] / "programs"
PATIENCE_S = 60
WORKLOADS = ("hello", "fails", "runs", "ticks")
"""hello: "hello" and "oops" on its two outputs, exit code 0; fails: exit code 3; runs: writes "tick <n>" until it is
stopped; ticks: the same, five times, then ends."""


@dataclass
class Subject:
    """One executor, how to ask it for a workload, and what it cannot do."""

    executor: Executor
    engine: Callable[[str], SpecConfig]
    directory: Path
    restart: Callable[[], Awaitable[Executor]] | None = None
    has_logs: bool = True
    has_failures: bool = True
    has_exec: bool = True
    ram_bytes: int = 64 * 1024 * 1024

    def request(self, workload: str, execution_id: str | None = None) -> ExecutionRequest:
        execution_id = execution_id or f"job_node.{workload}"
        return ExecutionRequest(
            "job",
            execution_id,
            self.engine(workload),
            Resources(ram=RAM(size=self.ram_bytes)),
            self.directory / "results" / execution_id,
        )

    async def start(self, workload: str, execution_id: str | None = None) -> str:
        request = self.request(workload, execution_id)
        await self.executor.start(request)
        return request.execution_id

    async def run(self, workload: str) -> ExecutionResult:
        return await self.executor.wait(await self.start(workload))

    async def log(self, execution_id: str, stream: str = "stdout", **more: bool | int) -> bytes:
        request = LogStreamRequest(execution_id, stream, **more)  # type: ignore[arg-type]
        return b"".join([chunk async for chunk in self.executor.logs(request)])

    async def until_logged(self, execution_id: str, text: bytes) -> None:
        seen = b""
        async for chunk in self.executor.logs(LogStreamRequest(execution_id, follow=True)):
            seen += chunk
            if text in seen:
                return
        raise AssertionError(f"ended without {text!r}: {seen!r}")


Factory = Callable[[trio.Nursery, Path], Awaitable[Subject]]


async def make_null(nursery: trio.Nursery, directory: Path) -> Subject:
    def engine(workload: str) -> SpecConfig:
        durations = {"runs": "1000h", "ticks": "50ms"}
        params: dict[str, object] = {"duration": durations[workload]} if workload in durations else {}
        return SpecConfig(type="null", params=params)

    return Subject(NullExecutor(nursery), engine, directory, has_logs=False, has_failures=False)


async def make_scripted(nursery: trio.Nursery, directory: Path) -> Subject:
    executor = ScriptedExecutor(nursery, "wasm")
    ticks = [(0.02 * n, b"tick %d\n" % (n + 1)) for n in range(1000)]
    executor.on("hello", Script(stdout=[(0, b"hello\n")], stderr=[(0, b"oops\n")]))
    executor.on("fails", Script(exit_code=3))
    executor.on("runs", Script(duration_s=None, stdout=ticks))
    executor.on("ticks", Script(duration_s=0.1, stdout=ticks[:5]))
    subject = Subject(executor, lambda _: SpecConfig(type="wasm"), directory)

    async def restart() -> Executor:
        nonlocal executor
        executor = executor.restarted(nursery)
        return executor

    subject.restart = restart
    return subject


def make_wasm(probe: str) -> Factory:
    """``probe`` is the program's file: a module, or a component."""
    arguments = {"hello": ["hello"], "fails": ["exit", "3"], "runs": ["tick", "0"], "ticks": ["tick", "5"]}

    def engine(workload: str) -> SpecConfig:
        module = (PROGRAMS / probe).read_bytes()
        if workload == "fails" and "component" in probe:  # what it is made with knows success and failure only
            module = bytes(wasmtime.wat2wasm((PROGRAMS / "exit.wat").read_text()))
        params: dict[str, object] = {"module": base64.b64encode(module).decode(), "args": arguments[workload]}
        return SpecConfig(type="wasm", params=params)

    async def make(nursery: trio.Nursery, directory: Path) -> Subject:
        async def restart() -> Executor:
            return WasmExecutor(nursery, directory / "state", modules_dir=directory.parent / "modules")

        return Subject(await restart(), engine, directory, restart, has_exec=False)

    return make


SHELL = {
    "hello": "echo hello; echo oops >&2",
    "fails": "exit 3",
    "runs": "n=0; while true; do n=$((n + 1)); echo tick $n; sleep 0.02; done",
    "ticks": "for n in 1 2 3 4 5; do echo tick $n; sleep 0.02; done",
}


def machine_engine(type_: str) -> Callable[[str], SpecConfig]:
    def engine(workload: str) -> SpecConfig:
        files: dict[str, object] = {"kernel_image": "vmlinuz", "root_file_system": "root"}
        return SpecConfig(type=type_, params=files | {"cmd": ["sh", "-c", SHELL[workload]]})

    return engine


def make_qemu(images: Path) -> Factory:
    """Machines that boot. That KVM does not work where it does not is found out elsewhere: it takes two seconds."""

    async def make(nursery: trio.Nursery, directory: Path) -> Subject:
        binary = Path(shutil.which("qemu-system-x86_64") or "")

        async def restart() -> Executor:
            return QemuExecutor(nursery, directory / "state", image_dirs=[images], binary=binary, uses_kvm=False)

        return Subject(await restart(), machine_engine("qemu"), directory, restart, ram_bytes=192 * 1024 * 1024)

    return make


def make_firecracker(images: Path, program: Path, jailer: Path | None = None) -> Factory:
    """Machines whose guests are played, over the real protocol."""

    async def make(nursery: trio.Nursery, directory: Path) -> Subject:
        async def restart() -> Executor:
            return FirecrackerExecutor(
                nursery,
                directory / "state",
                image_dirs=[images],
                binary=program,
                jailer=jailer,
                uses_kvm=False,
                has_own_users=False,
            )

        return Subject(await restart(), machine_engine("firecracker"), directory, restart)

    return make


def make_real_firecracker(images: Path) -> Factory:
    """Machines that boot in the real one."""

    async def make(nursery: trio.Nursery, directory: Path) -> Subject:
        async def restart() -> Executor:
            return await FirecrackerExecutor.open(nursery, directory / "state", image_dirs=[images])

        return Subject(await restart(), machine_engine("firecracker"), directory, restart, ram_bytes=192 * 1024 * 1024)

    return make


def make_docker(host: str, network_mode: str = "", before: str = "") -> Factory:
    def engine(workload: str) -> SpecConfig:
        params: dict[str, object] = {"image": "dms-test/busybox:1", "cmd": ["sh", "-c", before + SHELL[workload]]}
        return SpecConfig(type="docker", params=params)

    async def make(nursery: trio.Nursery, directory: Path) -> Subject:
        async def restart() -> Executor:
            return await DockerExecutor.open(
                nursery, directory / "state", executor_id="tests", host=host, network_mode=network_mode
            )

        return Subject(await restart(), engine, directory, restart)

    return make


FACTORIES: dict[str, Factory] = {"null": make_null, "scripted": make_scripted, "wasm": make_wasm("probe.wasm")}
FACTORIES["component"] = make_wasm("probe.component.wasm")
REAL = () if missing_for_firecracker() else ("real firecracker",)


@pytest.fixture(
    params=[
        *FACTORIES,
        "firecracker",
        "jailed-firecracker",
        *REAL,
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("podman", marks=pytest.mark.docker),
        pytest.param("qemu", marks=pytest.mark.vm),
    ]
)
def factory(request: pytest.FixtureRequest) -> Factory:
    get = request.getfixturevalue
    match request.param:
        case "docker":
            return make_docker(get("docker_host"))
        case "podman":
            # a network would be one of this machine's; without an init of its own nothing ends a shell that is asked to
            return make_docker(get("podman_host"), network_mode="none", before="trap 'exit 143' TERM; ")
        case "qemu":
            return make_qemu(get("images"))
        case "firecracker":
            return make_firecracker(get("images"), get("firecracker"))
        case "jailed-firecracker":
            return make_firecracker(get("images"), get("firecracker"), get("jailer"))
        case "real firecracker":
            return make_real_firecracker(get("images_for_firecracker"))
    return FACTORIES[request.param]


@pytest.fixture
async def subject(factory: Factory, tmp_path: Path) -> AsyncIterator[Subject]:
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            made = await factory(nursery, tmp_path)
            try:
                yield made
            finally:
                with trio.move_on_after(PATIENCE_S, shield=True):  # after a test that took too long, too
                    await made.executor.cleanup()
            nursery.cancel_scope.cancel()


def test_the_real_firecracker_is_one_of_them() -> None:
    if missing := missing_for_firecracker():
        pytest.skip(missing)
    assert REAL


async def test_a_program_that_ends_well_succeeds(subject: Subject) -> None:
    result = await subject.run("hello")
    assert result.ok
    assert (result.exit_code, result.reason, result.error_msg, result.killed) == (0, EndReason.EXITED, "", False)
    assert await subject.executor.status("job_node.hello") is ExecutionStatus.SUCCESS


async def test_the_exit_code_of_a_program_is_reported(subject: Subject) -> None:
    if not subject.has_failures:
        pytest.skip("this executor's programs never fail")
    result = await subject.run("fails")
    assert not result.ok
    assert (result.exit_code, result.reason) == (3, EndReason.EXITED)
    assert await subject.executor.status("job_node.fails") is ExecutionStatus.FAILED


async def test_any_number_of_callers_may_wait_also_after_the_end(subject: Subject) -> None:
    execution_id = await subject.start("ticks")
    results = []

    async def wait() -> None:
        results.append(await subject.executor.wait(execution_id))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
    results.append(await subject.executor.wait(execution_id))
    assert len(results) == 4
    assert len(set(results)) == 1


async def test_an_id_is_started_once_only(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    with pytest.raises(AlreadyStarted, match="already started"):
        await subject.start("runs")
    await subject.executor.cancel(execution_id)
    with pytest.raises(AlreadyStarted, match="already completed"):
        await subject.start("runs")


async def test_of_two_starts_at_once_one_is_refused(subject: Subject) -> None:
    outcomes = []

    async def start() -> None:
        try:
            await subject.start("runs")
            outcomes.append("started")
        except AlreadyStarted:
            outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(start)
    assert sorted(outcomes) == ["refused", "started"]


async def test_an_unknown_id_is_not_found(subject: Subject) -> None:
    executor = subject.executor
    for call in (executor.wait, executor.cancel, executor.pause, executor.resume, executor.status, executor.stats):
        with pytest.raises(ExecutionNotFound, match=r"execution \(nobody\) not found"):
            await call("nobody")
    with pytest.raises(ExecutionNotFound):
        await executor.exec("nobody", ("true",))
    with pytest.raises(ExecutionNotFound):
        await subject.log("nobody")
    await executor.remove("nobody")


async def test_cancel_ends_it_and_says_so(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    assert await subject.executor.status(execution_id) is ExecutionStatus.RUNNING
    await subject.executor.cancel(execution_id)
    assert await subject.executor.status(execution_id) is ExecutionStatus.FAILED  # it returns when it has ended
    result = await subject.executor.wait(execution_id)
    assert result.reason is EndReason.CANCELLED
    assert result.killed
    assert result.exit_code != 0


async def test_cancel_leaves_an_ended_execution_as_it_is(subject: Subject) -> None:
    result = await subject.run("hello")
    await subject.executor.cancel("job_node.hello")
    await subject.executor.cancel("job_node.hello")
    assert await subject.executor.wait("job_node.hello") == result


async def test_two_may_cancel_at_once(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subject.executor.cancel, execution_id)
        nursery.start_soon(subject.executor.cancel, execution_id)
    assert (await subject.executor.wait(execution_id)).reason is EndReason.CANCELLED


async def test_remove_cancels_forgets_and_may_come_twice(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    await subject.executor.remove(execution_id)
    await subject.executor.remove(execution_id)
    assert await subject.executor.list() == ()
    with pytest.raises(ExecutionNotFound):
        await subject.executor.status(execution_id)


async def test_a_removed_id_may_be_used_again(subject: Subject) -> None:
    await subject.run("hello")
    await subject.executor.remove("job_node.hello")
    assert (await subject.run("hello")).ok


async def test_removing_leaves_the_results(subject: Subject) -> None:
    if not subject.has_logs:
        pytest.skip("this executor writes no logs")
    result = await subject.run("hello")
    await subject.executor.remove("job_node.hello")
    assert result.stdout_path is not None
    assert result.stdout_path.read_bytes() == b"hello\n"


async def test_list_tells_what_there_is(subject: Subject) -> None:
    await subject.run("hello")
    await subject.start("runs")
    infos = {info.execution_id: info for info in await subject.executor.list()}
    assert set(infos) == {"job_node.hello", "job_node.runs"}
    assert infos["job_node.hello"].status is ExecutionStatus.SUCCESS
    assert infos["job_node.runs"].status is ExecutionStatus.RUNNING
    assert {(info.job_id, info.engine) for info in infos.values()} == {("job", subject.executor.type)}


async def test_pause_and_resume(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    await subject.executor.pause(execution_id)
    assert await subject.executor.status(execution_id) is ExecutionStatus.PAUSED
    await subject.executor.resume(execution_id)
    assert await subject.executor.status(execution_id) is ExecutionStatus.RUNNING


async def test_a_paused_execution_can_be_cancelled(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    await subject.executor.pause(execution_id)
    await subject.executor.cancel(execution_id)
    assert (await subject.executor.wait(execution_id)).reason is EndReason.CANCELLED


async def test_stats_are_zero_after_the_end(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    assert (await subject.executor.stats(execution_id)).memory_used_bytes >= 0
    await subject.executor.cancel(execution_id)
    stats = await subject.executor.stats(execution_id)
    assert (stats.cpu_percent, stats.cpu_total_ns, stats.memory_used_bytes) == (0, 0, 0)


async def test_both_outputs_are_in_their_files(subject: Subject) -> None:
    if not subject.has_logs:
        pytest.skip("this executor writes no logs")
    result = await subject.run("hello")
    assert result.stdout_path == subject.directory / "results" / "job_node.hello" / "stdout.log"
    assert result.stderr_path == subject.directory / "results" / "job_node.hello" / "stderr.log"
    assert await subject.log("job_node.hello") == b"hello\n"
    assert await subject.log("job_node.hello", "stderr") == b"oops\n"


async def test_a_followed_log_comes_while_it_is_written_and_ends_with_the_execution(subject: Subject) -> None:
    if not subject.has_logs:
        pytest.skip("this executor writes no logs")
    await subject.start("ticks")
    log = await subject.log("job_node.ticks", follow=True)
    assert log == b"".join(b"tick %d\n" % n for n in range(1, 6))
    assert (await subject.executor.wait("job_node.ticks")).ok


async def test_a_log_can_be_followed_while_the_program_runs(subject: Subject) -> None:
    if not subject.has_logs:
        pytest.skip("this executor writes no logs")
    execution_id = await subject.start("runs")
    await subject.until_logged(execution_id, b"tick 3\n")
    assert await subject.executor.status(execution_id) is ExecutionStatus.RUNNING


async def test_a_log_that_is_not_followed_ends_at_once(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    assert isinstance(await subject.log(execution_id), bytes)
    assert await subject.executor.status(execution_id) is ExecutionStatus.RUNNING


async def test_a_tail_is_the_end_of_the_log(subject: Subject) -> None:
    if not subject.has_logs:
        pytest.skip("this executor writes no logs")
    await subject.run("ticks")
    assert await subject.log("job_node.ticks", tail_bytes=7) == b"tick 5\n"
    assert await subject.log("job_node.ticks", tail_bytes=0, follow=True) == b""
    assert len(await subject.log("job_node.ticks", tail_bytes=10_000)) == 35


async def test_there_are_two_logs_only(subject: Subject) -> None:
    await subject.run("hello")
    with pytest.raises(InvalidEngineSpec, match="there is no log"):
        await subject.log("job_node.hello", "../secret")


async def test_parameters_of_its_own_kind_are_valid(subject: Subject) -> None:
    for workload in WORKLOADS:
        await subject.executor.validate(subject.engine(workload))


async def test_what_still_runs_is_adopted_after_a_restart(subject: Subject) -> None:
    if subject.restart is None:
        pytest.skip("this executor's programs end with it")
    await subject.start("runs")
    await subject.until_logged("job_node.runs", b"tick 1\n")
    subject.executor = await subject.restart()
    assert [(info.execution_id, info.job_id, info.status) for info in await subject.executor.list()] == [
        ("job_node.runs", "job", ExecutionStatus.RUNNING)
    ]
    await subject.start("runs")
    with pytest.raises(AlreadyStarted):
        await subject.start("runs")
    written = len(await subject.log("job_node.runs"))
    await subject.until_logged("job_node.runs", b"tick %d\n" % (written // 7 + 2))
    await subject.executor.cancel("job_node.runs")
    assert (await subject.executor.wait("job_node.runs")).reason is EndReason.CANCELLED


async def test_what_ended_before_or_after_a_restart_is_told_truly(subject: Subject) -> None:
    if subject.restart is None:
        pytest.skip("this executor's programs end with it")
    await subject.run("fails")
    await subject.start("ticks")
    subject.executor = await subject.restart()
    assert (await subject.executor.wait("job_node.ticks")).ok
    assert (await subject.executor.wait("job_node.fails")).exit_code == 3
    await subject.start("fails")
    assert await subject.executor.status("job_node.fails") is ExecutionStatus.FAILED


async def test_cleanup_removes_everything_also_of_an_earlier_process(subject: Subject) -> None:
    await subject.start("runs")
    await subject.start("runs", "job_node.other-runs")
    if subject.restart is not None:
        subject.executor = await subject.restart()
    await subject.executor.cleanup()
    assert await subject.executor.list() == ()
    if subject.restart is not None:
        subject.executor = await subject.restart()
        assert await subject.executor.list() == ()


async def test_run_is_start_and_wait(subject: Subject) -> None:
    result = await subject.executor.run(subject.request("hello"))
    assert result.ok
    assert await subject.executor.wait("job_node.hello") == result


async def test_who_is_cancelled_while_running_something_cancels_it(subject: Subject) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subject.executor.run, subject.request("runs"))
        await until_there(subject)
        await subject.executor.wait_for_status("job_node.runs", ExecutionStatus.RUNNING)
        nursery.cancel_scope.cancel()
    assert (await subject.executor.wait("job_node.runs")).reason is EndReason.CANCELLED


async def until_there(subject: Subject) -> None:
    while not await subject.executor.list():  # noqa: ASYNC110  no executor tells when a start has begun
        await trio.sleep(0.01)


async def test_a_status_can_be_waited_for(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    await subject.executor.wait_for_status(execution_id, ExecutionStatus.RUNNING)
    with pytest.raises(StatusNotReached, match="did not reach status success"):
        await subject.executor.wait_for_status(execution_id, ExecutionStatus.SUCCESS, timeout_s=0.05)
    await subject.executor.cancel(execution_id)
    with pytest.raises(StatusNotReached, match="did not reach status running"):
        await subject.executor.wait_for_status(execution_id, ExecutionStatus.RUNNING)


async def test_info_tells_of_one(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    info = await subject.executor.info(execution_id)
    assert (info,) == await subject.executor.list()
    assert (info.execution_id, info.status) == (execution_id, ExecutionStatus.RUNNING)
    with pytest.raises(ExecutionNotFound):
        await subject.executor.info("nobody")


async def test_a_command_runs_inside(subject: Subject) -> None:
    execution_id = await subject.start("runs")
    if not subject.has_exec:
        with pytest.raises(Unsupported):
            await subject.executor.exec(execution_id, ("true",))
        return
    if not subject.has_failures or isinstance(subject.executor, ScriptedExecutor):
        assert (await subject.executor.exec(execution_id, ("true",))).exit_code == 0
        return
    words = ("sh", "-c", 'echo "$1"; echo err >&2; exit 7', "sh", "it's $HOME")
    output = await subject.executor.exec(execution_id, words)
    assert (output.exit_code, output.stdout, output.stderr) == (7, b"it's $HOME\n", b"err\n")
    await subject.executor.cancel(execution_id)
    with pytest.raises(ExecutorError):
        await subject.executor.exec(execution_id, ("true",))


async def test_a_log_can_be_read_from_a_moment_on(subject: Subject) -> None:
    if not subject.has_logs:
        pytest.skip("this executor writes no logs")
    await subject.run("ticks")
    assert len(await subject.log("job_node.ticks", since_s=0)) == 35
    assert await subject.log("job_node.ticks", since_s=int(time.time()) + 3600) == b""
