"""What only some engines can: limits of the disk by the storage driver, and user namespaces. On real engines that can."""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from dms.executor.docker import DockerExecutor
from dms.executor.docker.api import DockerApi
from dms.executor.errors import StartFailed
from dms.executor.protocol import EndReason, ExecutionRequest, Mount
from dms.testing.dockerd import MAPPED_ROOT, busybox_image, docker_engine
from dms.types.resources import CPU, RAM, Disk, Resources, SpecConfig

pytestmark = pytest.mark.docker

IMAGE = "dms-test/busybox:1"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def with_quotas() -> Iterator[str]:
    """An engine on btrfs, which can limit what a container writes."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("needs btrfs: apt-get install btrfs-progs")
    with docker_engine(file_system=["mkfs.btrfs", "--quiet"], options=["--storage-driver=btrfs"]) as engine:
        give_image(engine.host)
        yield engine.host


@pytest.fixture(scope="module")
def with_user_namespaces() -> Iterator[str]:
    """An engine whose containers' root is nobody on the machine."""
    with docker_engine(maps_users=True) as engine:
        give_image(engine.host)
        yield engine.host


def give_image(host: str) -> None:
    async def give() -> None:
        api = DockerApi(host)
        await api.describe()
        await api.import_image(IMAGE, busybox_image())

    trio.run(give)


@asynccontextmanager
async def opened(host: str, path: Path, *, allow_privileged: bool = False) -> AsyncIterator[DockerExecutor]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            made = await DockerExecutor.open(
                nursery,
                path / "state",
                executor_id="exe",
                host=host,
                volume_dirs=(path,),
                allow_privileged=allow_privileged,
            )
            try:
                yield made
            finally:
                with trio.move_on_after(20, shield=True):
                    await made.cleanup()
            nursery.cancel_scope.cancel()


def request(path: Path, command: str, id_: str = "e", **params: object) -> ExecutionRequest:
    engine = SpecConfig(type="docker", params={"image": IMAGE, "cmd": ["sh", "-c", command], **params})
    resources = Resources(cpu=CPU(cores=1), ram=RAM(size=64 * MIB), disk=Disk(size=16 * MIB))
    return ExecutionRequest("job", id_, engine, resources, path / "results" / id_, allow_privileged=True)


async def text(executor: DockerExecutor, id_: str = "e") -> str:
    result = await executor.wait(id_)
    assert result.stdout_path is not None
    assert result.stderr_path is not None
    return result.stdout_path.read_text() + result.stderr_path.read_text()


async def test_a_storage_driver_that_can_refuses_what_is_beyond_the_disk(
    with_quotas: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with opened(with_quotas, tmp_path) as executor:
        await executor.start(request(tmp_path, "dd if=/dev/zero of=/big bs=1M count=40; sync; wc -c < /big; exit 5"))
        told = await text(executor)
    assert "quota exceeded" in told.lower()
    assert int(told.splitlines()[0]) <= 16 * MIB
    assert "disk_not_limited_by_engine" not in caplog.text


async def test_root_of_a_container_is_nobody_on_the_machine_where_the_engine_maps_users(
    with_user_namespaces: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    volume = tmp_path / "volume"
    volume.mkdir()
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o711)  # the way to the volume
    asked = request(tmp_path, "cat /proc/self/uid_map; id -u; echo mine > /volume/file")
    async with opened(with_user_namespaces, tmp_path) as executor:
        await executor.start(
            ExecutionRequest(
                asked.job_id, "e", asked.engine, asked.resources, asked.results_dir, outputs=(Mount(volume, "/volume"),)
            )
        )
        told = await text(executor)
    assert told.split() == ["0", str(MAPPED_ROOT), "65536", "0"]
    assert (volume / "file").read_text() == "mine\n"
    assert (volume / "file").stat().st_uid == MAPPED_ROOT
    assert "no user namespace" not in caplog.text


async def test_scripts_and_keys_reach_a_container_whose_users_are_mapped(
    with_user_namespaces: str, tmp_path: Path
) -> None:
    asked = request(tmp_path, "cat /tmp/said")
    async with opened(with_user_namespaces, tmp_path) as executor:
        await executor.start(
            ExecutionRequest(
                asked.job_id,
                "e",
                asked.engine,
                asked.resources,
                asked.results_dir,
                provision_scripts=(("one", b"echo prepared > /tmp/said\n"),),
            )
        )
        assert "prepared" in await text(executor)
        assert (await executor.wait("e")).ok


async def test_privileges_are_refused_in_one_line_where_users_are_mapped(
    with_user_namespaces: str, tmp_path: Path
) -> None:
    async with opened(with_user_namespaces, tmp_path, allow_privileged=True) as executor:
        with pytest.raises(StartFailed, match="user namespaces"):
            await executor.start(request(tmp_path, "true", privileged=True))
        await executor.start(request(tmp_path, "exit 4"))
        result = await executor.wait("e")
        assert (result.exit_code, result.reason) == (4, EndReason.EXITED)
