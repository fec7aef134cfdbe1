"""The WebAssembly executor: limits, isolation, the truth about every end."""

from __future__ import annotations

import base64
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
import wasmtime

from dms.executor.errors import InvalidEngineSpec, StartFailed, Unsupported
from dms.executor.process import RunDirectory, boot_id
from dms.executor.protocol import (
    EndReason,
    ExecutionRequest,
    ExecutionResult,
    ExecutionStatus,
    LogStreamRequest,
    Mount,
    PortBinding,
)
from dms.executor.wasm import WasmExecutor
from dms.types.resources import CPU, GPU, RAM, Disk, Resources, SpecConfig

PROGRAMS = Path(__file__).parents[2] / "programs"
PROBE = (PROGRAMS / "probe.wasm").read_bytes()
PROBE_COMPONENT = (PROGRAMS / "probe.component.wasm").read_bytes()
MIB = 1024 * 1024
WASM = b"\0asm\1\0\0\0"
NO_START = WASM  # the empty module
UNKNOWN_IMPORT = WASM + bytes.fromhex("01 04 01 60 00 00  02 0a 01 03 656e76 02 666f 00 00")
BROKEN = WASM + b"\x01\x7fgarbage"
COMPONENT = b"\0asm\x0d\0\1\0"


def compiled(program: bytes | str) -> bytes:
    """Of text, the module or component that it describes."""
    return program if isinstance(program, bytes) else bytes(wasmtime.wat2wasm(program))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Bench:
    executor: WasmExecutor
    nursery: trio.Nursery
    path: Path
    probe: bytes = PROBE

    def request(
        self, *args: str, id_: str = "e", ram: int = 64 * MIB, disk: int = 0, **params: object
    ) -> ExecutionRequest:
        if "module" not in params and "module_path" not in params:
            params["module"] = b64(self.probe)
        return ExecutionRequest(
            "job",
            id_,
            SpecConfig(type="wasm", params={"args": list(args), **params}),
            Resources(ram=RAM(size=ram), disk=Disk(size=disk)),
            self.path / "results" / id_,
        )

    async def run(self, request: ExecutionRequest) -> ExecutionResult:
        await self.executor.start(request)
        return await self.executor.wait(request.execution_id)

    async def output(self, request: ExecutionRequest) -> str:
        result = await self.run(request)
        assert result.stdout_path is not None
        return result.stdout_path.read_text()

    async def until_logged(self, id_: str, text: bytes) -> None:
        async for chunk in self.executor.logs(LogStreamRequest(id_, follow=True)):
            if text in chunk:
                return
        raise AssertionError("it ended before")


@pytest.fixture(scope="module")
def modules_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled once for all tests."""
    return tmp_path_factory.mktemp("modules")


@pytest.fixture
async def bench(tmp_path: Path, modules_dir: Path) -> AsyncIterator[Bench]:
    """Runs the probe, as a module."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            executor = WasmExecutor(nursery, tmp_path / "state", modules_dir=modules_dir, log_limit_bytes=100_000)
            try:
                yield Bench(executor, nursery, tmp_path)
            finally:
                with trio.CancelScope(shield=True):  # after a test that took too long, too
                    await executor.cleanup()
            nursery.cancel_scope.cancel()


@pytest.fixture(params=[PROBE, PROBE_COMPONENT], ids=["module", "component"])
def either(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """Runs the probe, once as a module and once as a component."""
    bench.probe = request.param
    return bench


async def test_a_trap_is_told_with_its_message(either: Bench) -> None:
    result = await either.run(either.request("trap"))
    assert (result.reason, result.exit_code) == (EndReason.TRAPPED, 134)
    assert "unreachable" in result.error_msg
    assert "\n" not in result.error_msg
    assert result.stderr_path is not None
    assert "unreachable" in result.stderr_path.read_text()


async def test_endless_recursion_is_a_trap(either: Bench) -> None:
    result = await either.run(either.request("recurse"))
    assert result.reason is EndReason.TRAPPED


async def test_an_endless_loop_ends_when_its_fuel_is_used_up(either: Bench) -> None:
    result = await either.run(either.request("spin", fuel=10_000_000))
    assert (result.reason, result.exit_code) == (EndReason.CPU_LIMIT, 152)
    assert "fuel" in result.error_msg


async def test_fuel_is_enough_for_a_program_that_ends(either: Bench) -> None:
    assert (await either.run(either.request("hello", fuel=10_000_000))).ok


async def test_an_endless_loop_ends_at_its_processor_time(either: Bench) -> None:
    result = await either.run(either.request("spin", max_cpu_s=0.2))
    assert (result.reason, result.exit_code) == (EndReason.CPU_LIMIT, 152)
    assert await either.output(either.request("hello", id_="after")) == "hello\n"


@pytest.mark.parametrize("args", [("spin",), ("sleep", "3600000")])
async def test_a_program_that_computes_or_sleeps_too_long_is_timed_out(either: Bench, args: Sequence[str]) -> None:
    result = await either.run(either.request(*args, timeout="300ms"))
    assert (result.reason, result.exit_code) == (EndReason.TIMED_OUT, 124)
    assert result.stdout_path is not None
    assert "ing\n" in result.stdout_path.read_text(), "what it wrote before must be in the log"


@pytest.mark.parametrize("step", [100_000, 500_000_000])
async def test_a_program_that_wants_more_memory_than_it_may_have(either: Bench, step: int) -> None:
    result = await either.run(either.request("hog", str(step), ram=16 * MIB))
    assert (result.reason, result.exit_code) == (EndReason.OUT_OF_MEMORY, 137)
    assert str(16 * MIB) in result.error_msg
    assert result.stdout_path is not None
    if either.probe is PROBE or step > 16 * MIB:  # without any memory left a component cannot even write
        assert int(result.stdout_path.read_text().split()[-1]) <= 16 * MIB


async def test_a_program_that_copes_with_refused_memory_succeeds(bench: Bench) -> None:
    assert (await bench.run(bench.request("hog", "100000", "polite", ram=16 * MIB))).ok


async def test_a_program_that_needs_more_memory_than_it_may_have_from_the_start(either: Bench) -> None:
    result = await either.run(either.request("hello", ram=64 * 1024))
    assert result.reason is EndReason.OUT_OF_MEMORY


async def test_a_trap_with_enough_memory_is_no_memory_problem(bench: Bench) -> None:
    assert (await bench.run(bench.request("trap", ram=64 * MIB))).reason is EndReason.TRAPPED


@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup", os.W_OK) or os.geteuid() != 0,
    reason="only root makes control groups; enable with: sudo make test",
)
async def test_a_program_has_the_share_of_the_processors_that_it_asked_for(bench: Bench) -> None:
    share = Resources(cpu=CPU(cores=0.5), ram=RAM(size=64 * MIB))
    await bench.executor.start(replace(bench.request("tick", "0"), resources=share))
    await bench.until_logged("e", b"tick")
    (info,) = await bench.executor.list()
    groups = groups_of(int(info.detail["pid"]))
    assert {quota for group in groups for quota in quotas(group)} == {"50000"}
    await bench.executor.cancel("e", grace_s=0)
    await bench.executor.wait("e")
    await bench.executor.remove("e")
    assert not any(map(Path.exists, groups))


def groups_of(pid: int) -> list[Path]:
    """The control groups of ours that a process is in."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    names = [(line.split(":")[1], line.split(":", 2)[2].lstrip("/")) for line in lines if "/nunet/" in line]
    return [Path("/sys/fs/cgroup") / controller / group for controller, group in names]


def quotas(group: Path) -> list[str]:
    """Microseconds of a tenth of a second, in either version of the interface."""
    return [path.read_text().split()[0] for name in ("cpu.cfs_quota_us", "cpu.max") if (path := group / name).exists()]


async def test_an_endless_output_fills_the_log_to_its_limit_only(either: Bench) -> None:
    result = await either.run(either.request("flood", "5000000"))
    assert result.ok
    assert result.stdout_path is not None
    log = result.stdout_path.read_bytes()
    assert log.startswith(b"x" * 100_000 + b"\n[output cut here")
    assert len(log) < 100_100


async def test_an_output_of_exactly_the_limit_is_whole(bench: Bench) -> None:
    result = await bench.run(bench.request("flood", "100000"))
    assert result.stdout_path is not None
    assert result.stdout_path.read_bytes() == b"x" * 100_000


async def test_who_kills_it_from_outside_is_not_us(either: Bench) -> None:
    await either.executor.start(either.request("tick", "0"))
    await either.until_logged("e", b"tick")
    (info,) = await either.executor.list()
    os.kill(int(info.detail["pid"]), signal.SIGKILL)
    result = await either.executor.wait("e")
    assert (result.reason, result.exit_code) == (EndReason.KILLED, 137)
    assert "SIGKILL" in result.error_msg


async def test_a_sigterm_from_outside_is_a_kill_and_ours_is_a_cancellation(bench: Bench) -> None:
    await bench.executor.start(bench.request("tick", "0"))
    await bench.until_logged("e", b"tick")
    (info,) = await bench.executor.list()
    os.kill(int(info.detail["pid"]), signal.SIGTERM)
    assert (await bench.executor.wait("e")).reason is EndReason.KILLED


async def test_a_kill_that_nobody_saw_is_told_after_a_restart(bench: Bench) -> None:
    await bench.executor.start(bench.request("tick", "0"))
    await bench.until_logged("e", b"tick")
    (info,) = await bench.executor.list()
    os.kill(int(info.detail["pid"]), signal.SIGKILL)
    await bench.executor.wait("e")  # reaped here, so that the next one cannot ask for the signal
    result = await WasmExecutor(bench.nursery, bench.path / "state").wait("e")
    assert result.reason is EndReason.KILLED


DAEMON = """
import os, sys, trio
from pathlib import Path
from dms.executor.protocol import ExecutionRequest
from dms.executor.wasm import WasmExecutor
from dms.types.resources import Resources, SpecConfig

async def main(path, modules_dir, module):
    async with trio.open_nursery() as nursery:
        executor = WasmExecutor(nursery, path / "state", modules_dir=modules_dir)
        for id_, args in (("short", ["tick", "10", "20"]), ("long", ["tick", "0"])):
            params = {"module": module, "args": args}
            engine = SpecConfig(type="wasm", params=params)
            await executor.start(ExecutionRequest("job", id_, engine, Resources(), path / "results" / id_))
        os.kill(os.getpid(), 9)

trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), sys.stdin.read())
"""


async def test_programs_outlive_a_daemon_that_crashes(bench: Bench, modules_dir: Path) -> None:
    command = [sys.executable, "-c", DAEMON, str(bench.path), str(modules_dir)]
    crashed = await trio.run_process(command, stdin=b64(PROBE).encode(), check=False)
    assert crashed.returncode == -signal.SIGKILL
    infos = {info.execution_id: info.status for info in await bench.executor.list()}
    assert infos["long"] is ExecutionStatus.RUNNING
    assert (await bench.executor.wait("short")).ok
    log = [chunk async for chunk in bench.executor.logs(LogStreamRequest("short"))]
    assert b"".join(log) == b"".join(b"tick %d\n" % n for n in range(1, 11))
    await bench.executor.cancel("long")
    assert (await bench.executor.wait("long")).reason is EndReason.CANCELLED


async def test_after_a_restart_of_the_machine_what_ran_is_lost_and_not_mistaken_for_another(bench: Bench) -> None:
    await bench.executor.start(bench.request("tick", "0"))
    run = RunDirectory.of(bench.path / "state" / "runs", "e")
    record = run.path / "record.json"
    record.write_text(record.read_text().replace(boot_id(), "another-boot"))
    result = await WasmExecutor(bench.nursery, bench.path / "state").wait("e")
    assert result.reason is EndReason.KILLED
    assert "restarted" in result.error_msg


async def test_a_process_id_that_means_another_process_now_is_not_touched(bench: Bench) -> None:
    await bench.run(bench.request("hello"))
    run = RunDirectory.of(bench.path / "state" / "runs", "e")
    (run.path / "exit.json").unlink()
    (run.path / "pid").write_text(f"{os.getpid()} 1")
    result = await WasmExecutor(bench.nursery, bench.path / "state").wait("e")
    assert result.reason is EndReason.KILLED


async def test_records_that_cannot_be_read_are_dropped(bench: Bench) -> None:
    runs = bench.path / "state" / "runs"
    (runs / "rubbish").mkdir(parents=True)
    (runs / "rubbish" / "record.json").write_bytes(b"\xff{")
    assert await bench.executor.list() == ()
    assert not (runs / "rubbish").exists()


async def test_the_environment_of_the_daemon_does_not_leak(either: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_PASSPHRASE", "secret")
    assert await either.output(either.request("env", environment=["GREETING=hello = you"])) == "GREETING=hello = you\n"


async def test_no_file_of_the_daemon_is_open_in_the_process(bench: Bench) -> None:
    leak = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        await bench.executor.start(bench.request("tick", "0"))
        await bench.until_logged("e", b"tick")
        (info,) = await bench.executor.list()
        fds = Path(f"/proc/{info.detail['pid']}/fd")
        targets = {str(fd.readlink()) for fd in fds.iterdir()}  # noqa: ASYNC240
    finally:
        os.close(leak)
    assert not any("hostname" in target for target in targets)
    assert (await bench.executor.stats("e")).memory_used_bytes > MIB


async def test_nothing_of_the_job_shows_in_the_process_list(bench: Bench) -> None:
    await bench.executor.start(bench.request("tick", "0", "20", "secret-argument", environment=["TOKEN=hidden"]))
    await bench.until_logged("e", b"tick")
    (info,) = await bench.executor.list()
    process = Path(f"/proc/{info.detail['pid']}")
    assert b"secret-argument" not in (process / "cmdline").read_bytes()
    assert b"hidden" not in (process / "environ").read_bytes()


async def test_arguments_arrive_as_they_are(either: Bench) -> None:
    output = await either.output(either.request("args", "two words", '"quoted"', "ünïcode", "", "$HOME"))
    assert output.splitlines() == ["program.wasm", "args", "two words", '"quoted"', "ünïcode", "", "$HOME"]


async def test_standard_input_is_what_was_given_or_empty(either: Bench) -> None:
    assert await either.output(either.request("cat", stdin="one\ntwo\n")) == "one\ntwo\n"
    assert await either.output(either.request("cat", id_="without")) == ""


async def test_mounts_are_what_a_program_sees_and_read_only_ones_stay_as_they_are(either: Bench) -> None:
    inputs, outputs = either.path / "in", either.path / "out"
    inputs.mkdir()
    outputs.mkdir()
    (inputs / "a.txt").write_text("from outside")

    def mounted(id_: str, *args: str) -> ExecutionRequest:
        return replace(
            either.request(*args, id_=id_),
            inputs=(Mount(inputs, "/in", read_only=True),),
            outputs=(Mount(outputs, "/out"),),
        )

    assert await either.output(mounted("read", "cat", "/in/a.txt")) == "from outside"
    assert (await either.run(mounted("overwrite", "write", "/in/a.txt", "x"))).exit_code == 1
    assert (await either.run(mounted("create", "write", "/in/b.txt", "x"))).exit_code == 1
    assert (await either.run(mounted("out", "write", "/out/b.txt", "result"))).ok
    assert (await either.run(mounted("climb", "cat", "/in/../out/b.txt"))).exit_code == 1
    assert (await either.run(mounted("host", "cat", "/etc/hostname"))).exit_code == 1
    assert [path.name for path in inputs.iterdir()] == ["a.txt"]
    assert (inputs / "a.txt").read_text() == "from outside"
    assert (outputs / "b.txt").read_text() == "result"


async def test_a_link_in_a_mounted_directory_does_not_lead_out(either: Bench) -> None:
    inputs = either.path / "in"
    inputs.mkdir()
    (either.path / "secret").write_text("secret")
    (inputs / "link").symlink_to(either.path / "secret")
    (inputs / "relative").symlink_to("../secret")
    for name in ("link", "relative"):
        request = replace(either.request("cat", f"/in/{name}", id_=name), inputs=(Mount(inputs, "/in"),))
        assert (await either.run(request)).exit_code == 1


async def test_a_file_cannot_grow_beyond_the_disk_that_was_promised(either: Bench) -> None:
    outputs = either.path / "out"
    outputs.mkdir()
    request = replace(either.request("fill", "/out/big", "10000000", disk=MIB), outputs=(Mount(outputs, "/out"),))
    assert (await either.run(request)).exit_code == 1
    assert (outputs / "big").stat().st_size == MIB


async def test_files_travel_with_the_request(either: Bench) -> None:
    files = {"/data/a.txt": b64(b"alpha"), "/data/deep/b.txt": b64(b"beta"), "/other/c": b64(b"gamma")}
    for number, (path, content) in enumerate(
        (("/data/a.txt", "alpha"), ("/data/deep/b.txt", "beta"), ("/other/c", "gamma"))
    ):
        assert await either.output(either.request("cat", path, id_=f"cat-{number}", files=files)) == content
    listing = await either.output(either.request("list", "/data", id_="list", files=files))
    assert sorted(listing.split()) == ["a.txt", "deep"]
    assert (await either.run(either.request("write", "/data/a.txt", "x", id_="write", files=files))).exit_code == 1


async def test_files_cannot_hide_a_volume(bench: Bench) -> None:
    request = replace(bench.request("hello", files={"/data/a": ""}), inputs=(Mount(bench.path, "/data"),))
    with pytest.raises(InvalidEngineSpec, match="where a volume is mounted"):
        await bench.executor.start(request)


NO_PROGRAMS: dict[str, tuple[bytes | str, str]] = {
    "a library": (NO_START, "no function _start"),
    "an unknown import": (UNKNOWN_IMPORT, "unknown import"),
    "garbage": (BROKEN, "cannot be compiled"),
    "a component of garbage": (COMPONENT + b"\x01\x7fgarbage", "cannot be compiled"),
    "a component that is a library": ("(component)", "no wasi:cli/run@0.2"),
    "a component that wants something else": (
        '(component (import "a:b/c" (instance (export "f" (func)))))',
        "component imports instance `a:b/c`",
    ),
    "a component that wants the web": (
        '(component (import "wasi:http/types@0.2.0" (instance (export "fields" (type (sub resource))))))',
        "it needs wasi:http, which programs here do not have",
    ),
}


@pytest.mark.parametrize(("module", "reason"), NO_PROGRAMS.values(), ids=NO_PROGRAMS.keys())
async def test_a_module_that_is_no_program_fails_with_the_reason(
    bench: Bench, module: bytes | str, reason: str
) -> None:
    result = await bench.run(bench.request(module=b64(compiled(module))))
    assert (result.reason, result.exit_code) == (EndReason.INFRASTRUCTURE, -1)
    assert reason in result.error_msg
    assert "\n" not in result.error_msg


HOARDERS = {
    "a table": '(module (table 60000000 funcref) (func (export "_start")))',
    "many tables": f'(module {"(table 1 funcref)" * 20} (func (export "_start")))',
    "a memory": '(module (memory 4000) (func (export "_start")))',
    "many memories": f'(module {"(memory 1)" * 6} (func (export "_start")))',
    "collected objects": """(module (rec (type $s (struct (field (ref null $s))))) (func (export "_start")
        (local $x (ref null $s)) (loop $more (local.set $x (struct.new $s (local.get $x))) (br $more))))""",
    "exceptions": """(module (tag $e (param i64 i64 exnref)) (func (export "_start") (local $x exnref)
        (loop $more (block $caught (result exnref)
            (try_table (catch_all_ref $caught) (throw $e (i64.const 0) (i64.const 0) (local.get $x))) (unreachable))
        (local.set $x) (br $more))))""",
    "instances": f"""(component (core module $m (func (export "f")))
        {"(core instance (instantiate $m))" * 200})""",
}


@pytest.mark.parametrize("program", HOARDERS.values(), ids=HOARDERS.keys())
async def test_everything_that_holds_memory_is_limited(bench: Bench, program: str) -> None:
    result = await bench.run(bench.request(module=b64(compiled(program)), ram=4 * MIB, timeout="20s"))
    assert (result.reason, result.exit_code) == (EndReason.OUT_OF_MEMORY, 137)


async def test_a_table_that_may_not_grow_further_says_so_to_the_program(bench: Bench) -> None:
    program = """(module (table $t 1 funcref) (func (export "_start")
        (loop $more (br_if $more (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 10000)))))))"""
    assert (await bench.run(bench.request(module=b64(compiled(program)), ram=4 * MIB))).ok


async def test_a_component_is_given_no_socket(bench: Bench) -> None:
    program = (PROGRAMS / "socket.wat").read_text()
    assert (await bench.run(bench.request(module=b64(compiled(program))))).ok


async def test_a_module_by_path_must_lie_in_an_allowed_directory(bench: Bench) -> None:
    allowed = bench.path / "modules"
    allowed.mkdir()
    (allowed / "probe.wasm").write_bytes(PROBE)
    (allowed / "text.wasm").write_text("text")
    (bench.path / "outside.wasm").write_bytes(PROBE)
    (allowed / "link.wasm").symlink_to(bench.path / "outside.wasm")
    executor = WasmExecutor(bench.nursery, bench.path / "state", allowed_module_dirs=[allowed])
    bench.executor = executor
    assert (await bench.run(bench.request("hello", module_path=str(allowed / "probe.wasm")))).ok
    for name in ("../outside.wasm", "link.wasm"):
        with pytest.raises(InvalidEngineSpec, match="not allowed here"):
            await executor.start(bench.request(id_=name, module_path=f"{allowed}/{name}"))
    with pytest.raises(InvalidEngineSpec, match="cannot be read"):
        await executor.start(bench.request(id_="none", module_path=f"{allowed}/none.wasm"))
    with pytest.raises(InvalidEngineSpec, match="not a WebAssembly module"):
        await executor.start(bench.request(id_="text", module_path=f"{allowed}/text.wasm"))
    with pytest.raises(InvalidEngineSpec, match="not allowed here"):
        await executor.validate(SpecConfig(type="wasm", params={"module_path": "/etc/passwd"}))


async def test_what_a_program_cannot_have_is_refused_and_leaves_the_id_free(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="UDP"):
        await bench.executor.start(replace(bench.request(), ports=(PortBinding("127.0.0.1", 80, 80, "udp"),)))
    with pytest.raises(Unsupported, match="scripts"):
        await bench.executor.start(replace(bench.request(), provision_scripts=(("a", b"true"),)))
    with pytest.raises(Unsupported, match="GPUs"):
        await bench.executor.start(replace(bench.request(), resources=Resources(gpus=(GPU(index=0),))))
    with pytest.raises(StartFailed, match="not a directory"):
        await bench.executor.start(replace(bench.request(), inputs=(Mount(bench.path / "none", "/in"),)))
    with pytest.raises(InvalidEngineSpec):
        await bench.executor.start(bench.request(timeout="soon"))
    assert await bench.executor.list() == ()
    assert (await bench.run(bench.request("hello"))).ok


async def test_a_results_directory_that_cannot_be_made_is_a_failed_start(bench: Bench) -> None:
    (bench.path / "results").write_text("in the way")
    with pytest.raises(StartFailed):
        await bench.executor.start(bench.request("hello"))
    assert await bench.executor.list() == ()


async def test_what_was_compiled_is_kept_and_a_damaged_one_replaced(either: Bench) -> None:
    either.executor = WasmExecutor(either.nursery, either.path / "state")
    await either.run(either.request("hello"))
    (kept,) = (either.path / "state" / "modules").glob("*.cwasm")
    good, written = kept.read_bytes(), kept.stat().st_ino
    await either.run(either.request("hello", id_="again"))
    assert kept.stat().st_ino == written
    kept.write_bytes(good[:-1] + b"!")
    assert (await either.run(either.request("hello", id_="damaged"))).ok
    assert kept.read_bytes() == good
    assert (await either.run(either.request("hello", id_="fuel", fuel=10_000_000))).ok
    assert len(list(kept.parent.glob("*.cwasm"))) == 2, "with fuel it is compiled in another way"


async def test_private_directories_are_private(bench: Bench) -> None:
    result = await bench.run(bench.request("hello"))
    assert result.stdout_path is not None
    private = [bench.path / "state", result.stdout_path.parent, *(bench.path / "state" / "runs").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o700}
    assert result.stdout_path.stat().st_mode & 0o777 == 0o600


async def test_open_says_that_it_works(bench: Bench) -> None:
    executor = await WasmExecutor.open(bench.nursery, bench.path / "other")
    assert executor.type == "wasm"
