"""What can go wrong with machines, on a Firecracker whose guests are played: everything but the guest is real."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
import trio

from dms.executor.detached import log_parts
from dms.executor.errors import AlreadyStarted, InvalidEngineSpec, NotRunning, StartFailed, Unsupported
from dms.executor.firecracker import FirecrackerExecutor
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus, LogStreamRequest, Mount, PortBinding
from dms.testing.vms import make_firecracker, make_jailer
from dms.types.resources import GPU, RAM, Disk, Resources, SpecConfig

DESCRIPTION = Path(__file__).parents[2] / "data" / "firecracker-openapi.yaml"
LOG_LIMIT_BYTES = 40_000
ID = "job_node.machine"


@dataclass
class Bench:
    nursery: trio.Nursery
    path: Path
    images: Path
    program: Path
    executor: FirecrackerExecutor = field(init=False)

    def open(self, program: Path | None = None) -> FirecrackerExecutor:
        return FirecrackerExecutor(
            self.nursery,
            self.path / "state",
            image_dirs=[self.images],
            binary=program or self.program,
            uses_kvm=False,
            has_own_users=False,
            log_limit_bytes=LOG_LIMIT_BYTES,
        )

    def request(self, command: str = "", **params: object) -> ExecutionRequest:
        spec: dict[str, object] = {"kernel_image": "vmlinuz", "root_file_system": "root"}
        if command:
            spec["cmd"] = ["sh", "-c", command]
        return ExecutionRequest(
            "job",
            ID,
            SpecConfig(type="firecracker", params=spec | params),
            Resources(ram=RAM(size=100 << 20), disk=Disk(size=1 << 20)),
            self.path / "results",
        )

    @property
    def run_dir(self) -> Path:
        (found,) = (self.path / "state" / "runs").iterdir()
        return found

    def pid(self, name: str) -> int:
        return int((self.run_dir / name).read_text().split()[0])

    def asked(self) -> list[list[object]]:
        """The requests that Firecracker got: method, path, body."""
        lines = (self.run_dir / "machine" / "requests.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def log(self, name: str = "stdout") -> bytes:
        return (self.path / "results" / f"{name}.log").read_bytes()

    async def until_logged(self, text: bytes) -> None:
        async for chunk in self.executor.logs(LogStreamRequest(ID, follow=True)):
            if text in chunk:
                return
        raise AssertionError("it never came")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_firecracker(tmp_path_factory.mktemp("firecracker"), DESCRIPTION)


@pytest.fixture
async def bench(program: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    images = tmp_path / "images"
    (images / "root").mkdir(parents=True)
    for name in ("vmlinuz", "image", "initrd"):
        (images / name).write_bytes(b"x" * 1000)
    async with trio.open_nursery() as nursery:
        made = Bench(nursery, tmp_path, images, program)
        made.executor = made.open()
        try:
            yield made
        finally:
            with trio.CancelScope(shield=True):
                await made.executor.cleanup()
        nursery.cancel_scope.cancel()


async def test_a_machine_is_made_as_the_request_asks(bench: Bench) -> None:
    request = bench.request("true", kernel_args="extra=1")
    await bench.executor.start(replace(request, resources=Resources(ram=RAM(size=(100 << 20) + 5))))
    asked = {path: body for _, path, body in bench.asked() if body is not None}
    assert asked["/machine-config"] == {"vcpu_count": 1, "mem_size_mib": 100}
    assert asked["/logger"] == {"log_path": "firecracker.log", "level": "Error", "show_level": True}
    assert asked["/metrics"] == {"metrics_path": "metrics.json"}
    boot = asked["/boot-source"]
    assert isinstance(boot, dict)
    assert boot["initrd_path"] == "initrd"
    assert boot["boot_args"].endswith("rdinit=/.nunet/init extra=1")
    assert asked["/actions"] == {"action_type": "InstanceStart"}


async def test_an_odd_number_of_processors_is_rounded_up(bench: Bench) -> None:
    request = bench.request("true")
    cpu = request.resources.cpu.__class__(cores=2.5)
    await bench.executor.start(replace(request, resources=Resources(cpu=cpu, ram=request.resources.ram)))
    assert ["PUT", "/machine-config", {"vcpu_count": 4, "mem_size_mib": 100}] in bench.asked()


async def test_an_image_boots_its_own_init_and_the_console_is_its_output(bench: Bench) -> None:
    await bench.executor.start(bench.request(root_file_system="image", kernel_args="init=/bin/own"))
    result = await bench.executor.wait(ID)
    assert result.ok
    assert b"no agent here" in bench.log()
    with pytest.raises(Unsupported, match="nothing of ours runs"):
        await bench.executor.exec(ID, ("ls",))


async def test_images_are_cloned_and_drives_are_in_order(bench: Bench) -> None:
    source, results = bench.path / "volume", bench.path / "left"
    source.mkdir()
    results.mkdir()
    request = bench.request("sleep 100", root_file_system="image")
    request = replace(request, inputs=(Mount(source, "/data", read_only=True),), outputs=(Mount(results, "/out"),))
    await bench.executor.start(request)
    drives = [body for _, path, body in bench.asked() if str(path).startswith("/drives/")]
    assert [(d["drive_id"], d["is_read_only"]) for d in drives] == [  # type: ignore[index]
        ("root", False),
        ("input_0", True),
        ("output_1", False),
    ]
    assert (bench.run_dir / "machine" / "root").read_bytes() == b"x" * 1000
    assert (bench.run_dir / "machine" / "output-1").stat().st_size == 1 << 20


async def test_an_output_directory_that_the_guest_left_untouched_is_told_of(bench: Bench) -> None:
    results = bench.path / "left"
    results.mkdir()
    request = replace(bench.request("true"), outputs=(Mount(results, "/out"),))
    await bench.executor.start(request)
    result = await bench.executor.wait(ID)  # the played guest writes no archive
    assert (result.ok, list(results.iterdir())) == (True, [])


async def test_an_endless_output_fills_neither_disk_nor_memory(bench: Bench) -> None:
    await bench.executor.start(bench.request("yes"))
    await until(lambda: max(log_parts(str(bench.path / "results" / "stdout.log")), default=0) > 1.2 * LOG_LIMIT_BYTES)
    await bench.executor.cancel(ID)
    total = sum(file.stat().st_size for file in (bench.path / "results").glob("stdout*.log"))
    assert total < LOG_LIMIT_BYTES * 1.5
    assert b"output cut here: the limit is 40000 bytes" in bench.log()


async def test_a_machine_that_is_killed_from_outside_is_told_of(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    os.kill(bench.pid("machine.pid"), signal.SIGKILL)
    result = await bench.executor.wait(ID)
    assert (result.exit_code, result.reason) == (137, EndReason.KILLED)
    assert result.killed
    assert "killed from outside by signal 9" in result.error_msg
    with pytest.raises(NotRunning, match="has ended"):
        await bench.executor.exec(ID, ("true",))


async def test_when_what_stands_beside_a_machine_is_killed_the_machine_ends_too(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    machine = psutil.Process(bench.pid("machine.pid"))
    os.kill(bench.pid("pid"), signal.SIGKILL)
    assert (await bench.executor.wait(ID)).reason is EndReason.KILLED
    await until_gone(machine.pid)


async def test_a_program_killed_inside_is_told_apart_from_one_that_ended(bench: Bench) -> None:
    await bench.executor.start(bench.request("kill -9 $$"))
    result = await bench.executor.wait(ID)
    assert (result.exit_code, result.reason) == (137, EndReason.KILLED)
    assert "inside the machine by SIGKILL" in result.error_msg


async def test_a_daemon_that_comes_back_finds_its_machines(bench: Bench) -> None:
    await bench.executor.start(bench.request("echo begun; sleep 1000"))
    await bench.until_logged(b"begun")
    pid = bench.pid("machine.pid")
    bench.executor = bench.open()
    (info,) = await bench.executor.list()
    assert (info.status, info.detail) == (ExecutionStatus.RUNNING, {"pid": str(pid)})
    await bench.executor.start(bench.request("another program altogether"))
    assert bench.pid("machine.pid") == pid
    assert (await bench.executor.exec(ID, ("echo", "still here"))).stdout == b"still here\n"
    await bench.executor.pause(ID)
    assert await bench.executor.status(ID) is ExecutionStatus.PAUSED


async def test_a_machine_whose_daemon_ended_while_it_started_is_ended(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    machine = psutil.Process(bench.pid("machine.pid"))
    (bench.run_dir / "started").unlink()
    bench.executor = bench.open()
    assert not (await bench.executor.wait(ID)).ok
    await until_gone(machine.pid)


async def test_nothing_is_left_of_a_machine_that_is_removed(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    pids = [bench.pid("machine.pid"), bench.pid("pid")]
    await bench.executor.remove(ID, grace_s=0.2)
    assert list((bench.path / "state" / "runs").iterdir()) == []
    for pid in pids:
        await until_gone(pid)
    assert bench.log() == b""


async def test_a_program_that_does_not_stop_when_asked_is_ended(bench: Bench) -> None:
    await bench.executor.start(bench.request("trap '' TERM; echo deaf; while true; do sleep 0.1; done"))
    await bench.until_logged(b"deaf")
    await bench.executor.cancel(ID, grace_s=0.3)
    assert (await bench.executor.wait(ID)).reason is EndReason.CANCELLED


async def test_a_machine_has_its_time(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000", timeout="3s"))
    result = await bench.executor.wait(ID)
    assert (result.exit_code, result.reason) == (124, EndReason.TIMED_OUT)
    assert result.error_msg == "it ran longer than 3 s"


async def test_a_double_start_is_refused(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    with pytest.raises(AlreadyStarted):
        await bench.executor.start(bench.request("sleep 1000"))


async def test_an_image_that_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(InvalidEngineSpec, match="root_file_system: there is no file none"):
        await bench.executor.start(bench.request("true", root_file_system="none"))
    with pytest.raises(InvalidEngineSpec, match="kernel_image is not allowed here: /etc/hostname"):
        await bench.executor.validate(bench.request("true", kernel_image="/etc/hostname").engine)
    assert await bench.executor.list() == ()


async def test_a_folder_needs_a_command(bench: Bench) -> None:
    with pytest.raises(InvalidEngineSpec, match="cmd must tell what to run"):
        await bench.executor.start(bench.request())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resources": Resources(gpus=(GPU(),))}, "cannot give GPUs"),
        ({"ports": (PortBinding("127.0.0.1", 1, 1),)}, "cannot bind ports"),
        ({"resources": Resources(ram=RAM(size=1 << 20))}, "at least 32 MiB"),
    ],
)
async def test_what_a_machine_cannot_have_is_refused(bench: Bench, change: dict[str, object], reason: str) -> None:
    with pytest.raises((Unsupported, InvalidEngineSpec), match=reason):
        await bench.executor.start(replace(bench.request("true"), **change))  # type: ignore[arg-type]
    assert await bench.executor.list() == ()


async def test_a_program_that_cannot_be_started_leaves_nothing(bench: Bench) -> None:
    broken = bench.path / "broken"
    broken.write_text("#!/bin/sh\necho 'no machine today' >&2\nexit 5\n")
    broken.chmod(0o755)
    for program, reason in ((broken, "exit code 5: no machine today"), (bench.path / "none", "No such file")):
        bench.executor = bench.open(program)
        with pytest.raises(StartFailed, match=reason):
            await bench.executor.start(bench.request("true"))
        assert await bench.executor.list() == ()
        assert list((bench.path / "state" / "runs").iterdir()) == []


async def test_a_refusal_by_firecracker_is_told_with_its_reason(bench: Bench) -> None:
    with pytest.raises(StartFailed, match=r"PUT /network-interfaces|there is no TAP device nowhere0"):
        await bench.executor.start(bench.request("true", tap_device="nowhere0", ip_address="10.0.0.2/24"))
    assert await bench.executor.list() == ()


async def test_provision_scripts_run_first_and_their_failure_ends_it(bench: Bench) -> None:
    scripts = (("one", b"#!/bin/sh\necho one\n"), ("two", b"#!/bin/sh\necho two; exit 9\n"))
    await bench.executor.start(replace(bench.request("echo never"), provision_scripts=scripts))
    result = await bench.executor.wait(ID)
    assert (result.exit_code, bench.log()) == (9, b"one\ntwo\n")


async def test_output_is_what_was_written_byte_by_byte(bench: Bench) -> None:
    await bench.executor.start(bench.request(r"printf 'a\000b\036x 5\n\377 no end'"))
    assert (await bench.executor.wait(ID)).ok
    assert bench.log() == b"a\0b\x1ex 5\n\xff no end"


async def test_commands_at_once_get_their_own_outputs(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    outputs: dict[int, bytes] = {}

    async def ask(number: int) -> None:
        outputs[number] = (await bench.executor.exec(ID, ("sh", "-c", f"sleep 0.1; echo {number}"))).stdout

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(ask, number)
    assert outputs == {number: b"%d\n" % number for number in range(5)}


async def test_the_output_of_a_command_is_bounded(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    output = await bench.executor.exec(ID, ("sh", "-c", "yes | head -c 3000000"))
    assert (output.exit_code, len(output.stdout)) == (0, 1 << 20)


async def test_who_waits_for_a_command_learns_of_the_end(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    asked = bench.path / "asked"
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(NotRunning, match="the machine has ended"):
                await bench.executor.exec(ID, ("sh", "-c", f"touch {asked}; exec sleep 20"))

        nursery.start_soon(ask)
        await until(asked.exists)
        await bench.executor.cancel(ID, grace_s=5)


async def test_garbage_on_the_control_socket_is_answered(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 1000"))
    for garbage in (b"nonsense\n", b'{"argv": 5}\n', b"[]\n"):
        fd = os.open(bench.run_dir, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{fd}/control.sock")
            client.sendall(garbage)
            reply = await trio.to_thread.run_sync(client.recv, 1000)
            assert json.loads(reply) == {"error": "the request is garbled"}
        os.close(fd)
    assert await bench.executor.status(ID) is ExecutionStatus.RUNNING


async def test_with_a_jailer_the_machine_works_in_its_jail(bench: Bench) -> None:
    jailer = make_jailer(bench.path)
    executor = FirecrackerExecutor(
        bench.nursery,
        bench.path / "state",
        image_dirs=[bench.images],
        binary=bench.program,
        jailer=jailer,
        uses_kvm=False,
        has_own_users=False,
    )
    bench.executor = executor
    await executor.start(bench.request("echo jailed"))
    assert (await executor.wait(ID)).ok
    assert bench.log() == b"jailed\n"
    number = bench.run_dir.name
    words = (bench.path / "jailer.args").read_text().split()
    assert words[:8] == ["--id", number, "--exec-file", str(bench.program), "--uid", "0", "--gid", "0"]
    assert words[8:] == ["--chroot-base-dir", str(bench.run_dir / "jail"), "--", "--api-sock", "api.sock"]
    assert (bench.run_dir / "jail" / "firecracker" / number / "root" / "initrd").exists()


async def until_gone(pid: int) -> None:
    def is_gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(is_gone)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  neither files nor processes of others tell anybody
        await trio.sleep(0.01)
