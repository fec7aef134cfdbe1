"""What goes wrong with containers: registries, engines, greedy programs. On a real engine."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.errors import EngineRefused, ExecutorUnavailable
from dms.executor.protocol import EndReason, ExecutionRequest, ExecutionStatus, LogStreamRequest
from dms.testing.dockerd import TestEngine, busybox_image, docker_engine
from dms.types.resources import CPU, RAM, Disk, Resources, SpecConfig

pytestmark = pytest.mark.docker

IMAGE = "dms-test/busybox:1"
MIB = 1024 * 1024


@asynccontextmanager
async def opened(host: str, path: Path, **more: object) -> AsyncIterator[DockerExecutor]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            api = DockerApi(host)
            made = DockerExecutor(
                nursery,
                path / "state",
                api,
                executor_id="exe",
                engine=await api.describe(),
                **more,  # type: ignore[arg-type]
            )
            try:
                yield made
            finally:
                with trio.move_on_after(20, shield=True):
                    await made.cleanup()
            nursery.cancel_scope.cancel()


@pytest.fixture
async def executor(docker_host: str, tmp_path: Path) -> AsyncIterator[DockerExecutor]:
    async with opened(docker_host, tmp_path) as made:
        yield made


def request(path: Path, command: str, id_: str = "e", *, disk_bytes: int = 0, **params: object) -> ExecutionRequest:
    engine = SpecConfig(type="docker", params={"image": IMAGE, "cmd": ["sh", "-c", command], **params})
    resources = Resources(cpu=CPU(cores=1), ram=RAM(size=64 * MIB), disk=Disk(size=disk_bytes))
    return ExecutionRequest("job", id_, engine, resources, path / "results" / id_)


async def until_logged(executor: DockerExecutor, text: bytes) -> None:
    async for chunk in executor.logs(LogStreamRequest("e", follow=True)):
        if text in chunk:
            return


async def test_a_registry_that_refuses_is_told_and_its_password_is_not(
    executor: DockerExecutor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    auth = {"username": "ann", "password": "s3cr3t-s3cr3t"}
    asked = request(tmp_path, "true", image="127.0.0.1:1/team/app:1", registry_auth=auth)
    await executor.start(asked)
    result = await executor.wait("e")
    assert (result.reason, result.exit_code) == (EndReason.INFRASTRUCTURE, -1)
    assert "refused" in result.error_msg
    told = result.error_msg + caplog.text + str(await executor.info("e")) + str(caplog.records)
    assert "s3cr3t" not in told


async def test_an_image_that_was_had_with_credentials_is_not_given_to_others(
    executor: DockerExecutor, docker_host: str, tmp_path: Path
) -> None:
    api = DockerApi(docker_host)
    await api.describe()
    await api.import_image("127.0.0.1:1/team/private:1", busybox_image())  # as if it had been pulled before
    await executor.start(request(tmp_path, "true", "before", image="127.0.0.1:1/team/private:1"))
    assert (await executor.wait("before")).ok
    auth = {"username": "ann", "password": "s3cr3t"}
    await executor.start(request(tmp_path, "true", "owner", image="127.0.0.1:1/team/private:1", registry_auth=auth))
    await executor.wait("owner")
    await executor.start(request(tmp_path, "true", "other", image="127.0.0.1:1/team/private:1"))
    assert (await executor.wait("other")).reason is EndReason.INFRASTRUCTURE
    async with opened(docker_host, tmp_path) as again:  # remembered after a restart
        await again.start(request(tmp_path, "true", "later", image="127.0.0.1:1/team/private:1"))
        assert (await again.wait("later")).reason is EndReason.INFRASTRUCTURE


async def test_an_image_cannot_be_named_by_its_id(executor: DockerExecutor, docker_host: str, tmp_path: Path) -> None:
    api = DockerApi(docker_host)
    await api.describe()
    known = await api.image(IMAGE)
    assert known is not None
    for name in (str(known["Id"]), str(known["Id"]).removeprefix("sha256:")[:12]):
        assert await api.image(name) is None


async def test_a_pull_without_a_word_ends(docker_host: str) -> None:
    silent = trio.socket.socket()
    await silent.bind(("127.0.0.1", 0))
    silent.listen()
    api = DockerApi(docker_host)
    await api.describe()
    with pytest.raises(EngineRefused, match=r"nothing came for 0\.3 s"):
        await api.pull(f"127.0.0.1:{silent.getsockname()[1]}/app:1", stall_s=0.3)
    silent.close()


async def test_a_fork_bomb_is_stopped_by_the_limit_of_processes(executor: DockerExecutor, tmp_path: Path) -> None:
    bomb = "n=0; while [ $n -lt 100 ]; do sleep 5 & n=$((n + 1)); done; echo all"
    await executor.start(request(tmp_path, bomb, pids_limit=20))
    result = await executor.wait("e")
    assert result.exit_code != 0
    assert result.stderr_path is not None
    assert "fork" in result.stderr_path.read_text()


async def test_what_writes_more_than_its_disk_is_ended(docker_host: str, tmp_path: Path) -> None:
    async with opened(docker_host, tmp_path, disk_check_s=0.2) as executor:
        await executor.start(request(tmp_path, "head -c 8000000 /dev/zero > /big; sleep 60", disk_bytes=4_000_000))
        result = await executor.wait("e")
        assert result.reason is EndReason.DISK_LIMIT
        assert "4000000 bytes of disk" in result.error_msg


async def test_a_read_only_root_can_be_written_in_its_tmpfs_only(executor: DockerExecutor, tmp_path: Path) -> None:
    command = "touch /a || echo refused; echo kept > /tmp/a; cat /tmp/a; head -c 2000000 /dev/zero > /c/a || echo full"
    await executor.start(request(tmp_path, command, read_only=True, tmpfs={"/c": "1MiB"}))
    result = await executor.wait("e")
    assert result.stdout_path is not None
    assert result.stdout_path.read_text() == "refused\nkept\nfull\n"


async def test_a_large_output_is_kept_at_both_ends_whoever_reads_it_slowly(docker_host: str, tmp_path: Path) -> None:
    """A five-hundredth of a gigabyte, with a five-hundredth of the usual limit."""
    async with opened(docker_host, tmp_path, log_limit_bytes=128_000) as executor:
        await executor.start(request(tmp_path, "echo first; seq 1 300000; echo last"))
        read = b""
        async for chunk in executor.logs(LogStreamRequest("e", follow=True)):
            read += chunk
            await trio.sleep(0.005)  # slower than it is written
        assert (await executor.wait("e")).ok
    assert read.startswith(b"first\n1\n2\n")
    assert b"output cut here" in read
    assert read.endswith(b"299999\n300000\nlast\n")
    assert sum(path.stat().st_size for path in (tmp_path / "results/e").iterdir()) < 200_000


async def test_what_fails_is_started_again_where_that_was_asked_for(executor: DockerExecutor, tmp_path: Path) -> None:
    count = "echo run; [ -e /tmp/second ] && exit 0; touch /tmp/second; exit 1"
    await executor.start(request(tmp_path, count, restart_policy="on-failure"))
    result = await executor.wait("e")
    assert result.ok
    assert result.stdout_path is not None
    assert result.stdout_path.read_text() == "run\nrun\n"


@pytest.fixture
def own_engine() -> Iterator[TestEngine]:
    """One that may be killed."""

    async def give_image(host: str) -> None:
        api = DockerApi(host)
        await api.describe()
        await api.import_image(IMAGE, busybox_image())

    with docker_engine() as engine:
        trio.run(give_image, engine.host)
        yield engine


async def test_an_engine_that_is_killed_and_comes_back_ends_what_ran_and_that_is_told_truly(
    own_engine: TestEngine, tmp_path: Path
) -> None:
    async with opened(own_engine.host, tmp_path) as executor:
        await executor.start(request(tmp_path, "echo up; sleep 100"))
        await until_logged(executor, b"up")
        await trio.to_thread.run_sync(own_engine.kill)
        with pytest.raises(ExecutorUnavailable):
            await executor.status("e")
        with pytest.raises(ExecutorUnavailable):
            await executor.start(request(tmp_path, "true", "while-down"))
        await trio.to_thread.run_sync(own_engine.start)
        result = await executor.wait("e")
        assert (result.reason, result.exit_code) == (EndReason.INFRASTRUCTURE, -1)
        assert "the engine was stopped while it ran" in result.error_msg
        assert result.stdout_path is not None
        assert result.stdout_path.read_text() == "up\n"
        await executor.remove("e")
        await executor.start(request(tmp_path, "echo again"))  # and it can be used as before
        assert (await executor.wait("e")).ok
        assert await executor.status("e") is ExecutionStatus.SUCCESS
