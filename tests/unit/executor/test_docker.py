"""The Docker executor, on a real engine: limits, mounts, scripts, the truth about every end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from dms.ensemble.config import AllocationConfig, KeyConfig
from dms.ensemble.keys import key_scripts
from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.errors import ExecutorUnavailable, InvalidEngineSpec, StartFailed, Unsupported
from dms.executor.protocol import (
    EndReason,
    ExecutionRequest,
    ExecutionResult,
    ExecutionStatus,
    LogStreamRequest,
    Mount,
    PortBinding,
)
from dms.types.resources import CPU, GPU, RAM, Resources, SpecConfig

pytestmark = pytest.mark.docker

IMAGE = "dms-test/busybox:1"
MIB = 1024 * 1024


@dataclass
class Bench:
    executor: DockerExecutor
    api: DockerApi
    nursery: trio.Nursery
    path: Path

    def request(self, command: str = "", id_: str = "e", **params: object) -> ExecutionRequest:
        params = {"image": IMAGE} | ({"cmd": ["sh", "-c", command]} if command else {}) | params
        return ExecutionRequest(
            "job",
            id_,
            SpecConfig(type="docker", params=params),
            Resources(cpu=CPU(cores=0.5), ram=RAM(size=64 * MIB)),
            self.path / "results" / id_,
        )

    async def run(self, request: ExecutionRequest) -> ExecutionResult:
        await self.executor.start(request)
        return await self.executor.wait(request.execution_id)

    async def output(self, request: ExecutionRequest) -> str:
        result = await self.run(request)
        assert result.stdout_path is not None
        return result.stdout_path.read_text()

    async def container(self, name: str = "exe_job_e") -> dict[str, object]:
        container = await self.api.container(name)
        assert container is not None
        return container

    async def until_logged(self, text: bytes, id_: str = "e") -> None:
        async for chunk in self.executor.logs(LogStreamRequest(id_, follow=True)):
            if text in chunk:
                return
        raise AssertionError("it ended before")


@pytest.fixture
async def bench(tmp_path: Path, docker_host: str) -> AsyncIterator[Bench]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            api = DockerApi(docker_host)
            executor = DockerExecutor(
                nursery,
                tmp_path / "state",
                api,
                executor_id="exe",
                engine=await api.describe(),
                log_limit_bytes=100_000,
            )
            try:
                yield Bench(executor, api, nursery, tmp_path)
            finally:
                with trio.move_on_after(20, shield=True):  # after a test that took too long, too
                    await executor.cleanup()
            nursery.cancel_scope.cancel()


async def test_names_labels_and_limits_are_those_of_the_specification(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 100"))
    container = await bench.container("exe_job_e")
    config, host = container["Config"], container["HostConfig"]
    assert isinstance(config, dict)
    assert isinstance(host, dict)
    assert config["Labels"] == {
        "nunet-executor": "exe",
        "nunet-jobID": "exe_job",
        "nunet-executionID": "exe_job_e",
        "nunet-resultsDir": str(bench.path / "results" / "e"),
        "nunet-diskBytes": str(10 * 1024**3),
    }
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 64 * MIB, 64 * MIB)
    assert (host["PidsLimit"], host["Privileged"], host["CapDrop"]) == (1024, False, ["ALL"])
    assert "no-new-privileges:true" in host["SecurityOpt"]
    stats = await bench.executor.stats("e")
    assert stats.memory_limit_bytes == 64 * MIB
    assert 0 < stats.memory_used_bytes < 64 * MIB


async def test_a_program_that_wants_more_memory_than_it_may_have(bench: Bench) -> None:
    result = await bench.run(bench.request("exec dd if=/dev/zero of=/dev/null bs=200M count=1"))
    assert result.reason is EndReason.OUT_OF_MEMORY
    assert result.exit_code == 137
    assert str(64 * MIB) in result.error_msg


async def test_who_kills_it_from_outside_is_not_us(bench: Bench) -> None:
    await bench.executor.start(bench.request("echo up; sleep 100"))
    await bench.until_logged(b"up")
    await bench.api.call("POST", "/containers/exe_job_e/kill")
    result = await bench.executor.wait("e")
    assert (result.reason, result.exit_code) == (EndReason.KILLED, 137)


async def test_a_container_removed_from_outside_was_killed(bench: Bench) -> None:
    await bench.executor.start(bench.request("echo up; sleep 100"))
    await bench.until_logged(b"up")
    await bench.api.remove_container("exe_job_e")
    assert (await bench.executor.wait("e")).reason is EndReason.KILLED


async def test_a_program_that_ignores_the_request_to_stop_is_killed_after_the_grace_period(bench: Bench) -> None:
    await bench.executor.start(bench.request("trap '' TERM; echo up; while true; do sleep 1; done"))
    await bench.until_logged(b"up")
    await bench.executor.cancel("e", grace_s=0.5)
    assert (await bench.executor.wait("e")).reason is EndReason.CANCELLED


async def test_a_cancellation_is_remembered_after_a_restart(bench: Bench) -> None:
    await bench.executor.start(bench.request("echo up; sleep 100"))
    await bench.executor.cancel("e")
    again = DockerExecutor(bench.nursery, bench.path / "state", bench.api, executor_id="exe")
    assert (await again.wait("e")).reason is EndReason.CANCELLED


async def test_logs_are_whole_after_a_restart(bench: Bench) -> None:
    await bench.executor.start(bench.request("for n in 1 2 3; do echo $n; sleep 0.2; done; echo end >&2"))
    await bench.until_logged(b"1")
    again = DockerExecutor(bench.nursery, bench.path / "state", bench.api, executor_id="exe")
    result = await again.wait("e")
    assert result.stdout_path is not None
    assert result.stdout_path.read_text() == "1\n2\n3\n"
    assert result.stderr_path is not None
    assert result.stderr_path.read_text() == "end\n"


async def test_an_endless_output_fills_the_log_to_its_limit_only(bench: Bench) -> None:
    result = await bench.run(bench.request("head -c 300000 /dev/zero"))
    assert result.stdout_path is not None
    assert 100_000 < result.stdout_path.stat().st_size < 100_100
    assert b"output cut here" in result.stdout_path.read_bytes()


async def test_an_image_that_cannot_be_had_fails_with_the_reason(bench: Bench) -> None:
    result = await bench.run(bench.request("true", image="registry.invalid/none:1"))
    assert (result.reason, result.exit_code) == (EndReason.INFRASTRUCTURE, -1)
    assert "registry.invalid" in result.error_msg
    assert await bench.executor.status("e") is ExecutionStatus.FAILED


async def test_a_command_that_does_not_exist_is_a_failed_start_and_leaves_nothing(bench: Bench) -> None:
    bare = DockerExecutor(bench.nursery, bench.path / "state", bench.api, executor_id="exe")
    with pytest.raises(StartFailed, match="no-such-program"):
        await bare.start(bench.request(cmd=["no-such-program"]))
    assert await bench.api.containers({"nunet-executor": "exe"}) == []
    assert await bare.list() == ()
    # the engine's init process starts in any case, and then tells by its exit code
    result = await bench.run(bench.request(cmd=["no-such-program"]))
    assert (result.reason, result.exit_code) == (EndReason.EXITED, 127)
    assert "not found" in result.error_msg


async def test_mounts_are_read_only_where_asked(bench: Bench) -> None:
    inputs, outputs = bench.path / "in", bench.path / "out"
    inputs.mkdir()
    outputs.mkdir()
    (inputs / "a.txt").write_text("from outside")
    request = replace(
        bench.request("cat /in/a.txt; touch /in/b.txt || echo refused; echo result > /out/c.txt"),
        inputs=(Mount(inputs, "/in", read_only=True),),
        outputs=(Mount(outputs, "/out"),),
    )
    assert await bench.output(request) == "from outsiderefused\n"
    assert (outputs / "c.txt").read_text() == "result\n"
    with pytest.raises(InvalidEngineSpec, match="does not exist"):
        await bench.executor.start(
            replace(bench.request("true", id_="none"), inputs=(Mount(bench.path / "none", "/in"),))
        )


async def test_provision_scripts_run_in_order_and_arguments_stay_as_they_are(bench: Bench) -> None:
    request = replace(
        bench.request(entrypoint=["echo", "-n"], cmd=["two  words", "$HOME", "'q'", '"d"', ""]),
        provision_scripts=(
            ("z first; rm", b"#!/bin/sh\necho one\n"),
            ("a second", b"#!/bin/sh\necho two\n"),
        ),
    )
    assert (
        await bench.output(request)
        == "provision: z first- rm\none\nprovision: a second\ntwo\ntwo  words $HOME 'q' \"d\" "
    )
    failing = replace(bench.request("echo never", id_="f"), provision_scripts=(("bad", b"#!/bin/sh\nexit 7\n"),))
    result = await bench.run(failing)
    assert result.exit_code == 7
    assert result.stdout_path is not None
    assert "never" not in result.stdout_path.read_text()


async def test_keys_of_an_ensemble_are_where_they_belong_before_the_workload_runs(bench: Bench) -> None:
    request = bench.request("cat /r*t/.ssh/authorized_keys /srv/key.asc; ls -l /srv/key.asc")
    allocation = AllocationConfig(
        type="task",
        executor="docker",
        resources=request.resources,
        execution=request.engine,
        keys=(
            KeyConfig(type="ssh", file="ssh-ed25519 AAAA ann"),
            KeyConfig(type="gpg", file="secret", dest="/srv/key.asc"),
        ),
    )
    output = await bench.output(replace(request, provision_scripts=tuple(key_scripts(allocation).items())))
    assert "ssh-ed25519 AAAA ann\nsecret\n-rw-------" in output


async def test_a_command_inside_is_run(bench: Bench) -> None:
    await bench.executor.start(bench.request("sleep 100"))
    output = await bench.executor.exec("e", ("sh", "-c", "echo out; echo err >&2; exit 5"))
    assert (output.exit_code, output.stdout, output.stderr) == (5, b"out\n", b"err\n")


async def test_a_published_port_leads_into_the_container(bench: Bench) -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    request = replace(
        bench.request("echo up; echo hello | nc -l -p 8080"), ports=(PortBinding("127.0.0.1", port, 8080),)
    )
    await bench.executor.start(request)
    await bench.until_logged(b"up")
    received = b""
    while not received:  # until nc listens, the engine's proxy accepts and hangs up
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                received = await stream.receive_some()
            except trio.BrokenResourceError:
                received = b""
        await trio.sleep(0.05)
    assert received == b"hello\n"


async def test_the_environment_of_the_daemon_does_not_leak(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_PASSPHRASE", "secret")
    output = await bench.output(bench.request("env", environment=["GREETING=hello = you"]))
    assert "GREETING=hello = you\n" in output
    assert "secret" not in output


async def test_privileges_must_be_allowed_by_the_node_and_the_request(bench: Bench) -> None:
    request = bench.request("true", privileged=True)
    with pytest.raises(Unsupported, match="privileged"):
        await bench.executor.start(replace(request, allow_privileged=True))
    with pytest.raises(Unsupported):
        await bench.executor.validate(request.engine)
    allowing = DockerExecutor(bench.nursery, bench.path / "other", bench.api, executor_id="exe", allow_privileged=True)
    with pytest.raises(Unsupported):
        await allowing.start(request)
    await allowing.validate(request.engine)


async def test_gpus_are_refused_rather_than_forgotten(bench: Bench) -> None:
    request = bench.request("true")
    with pytest.raises(Unsupported, match="GPU"):
        await bench.executor.start(replace(request, resources=Resources(gpus=(GPU(index=0),))))


async def test_containers_of_others_are_left_alone(bench: Bench) -> None:
    other = DockerExecutor(bench.nursery, bench.path / "other", bench.api, executor_id="exe_2")
    await other.start(bench.request("sleep 100", id_="theirs"))
    await bench.executor.start(bench.request("sleep 100"))
    assert [info.execution_id for info in await bench.executor.list()] == ["e"]
    await bench.executor.cleanup()
    assert await other.status("theirs") is ExecutionStatus.RUNNING
    await other.cleanup()
    assert await bench.api.containers({"nunet-executor": "exe_2"}) == []


async def test_an_engine_that_does_not_answer_is_unavailable(bench: Bench) -> None:
    with pytest.raises(ExecutorUnavailable, match="does not answer"):
        await DockerExecutor.open(
            bench.nursery, bench.path / "x", executor_id="x", host=f"unix://{bench.path}/none.sock"
        )
    with pytest.raises(InvalidEngineSpec, match="image cannot be empty"):
        await bench.executor.start(bench.request("true", image=" "))
