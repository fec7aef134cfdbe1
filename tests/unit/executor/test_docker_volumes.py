"""An allocation's volumes in a container, on a real engine: seen, confined to what was granted, and bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from dms.allocation.allocation import Allocation
from dms.allocation.hooks.disk_limit import DiskLimitHook
from dms.allocation.hooks.results_dir import ResultsDirHook
from dms.allocation.hooks.volumes import VolumesHook
from dms.allocation.machine import AllocationState
from dms.allocation.spec import AllocationSpec, Surroundings
from dms.ensemble.config import VolumeConfig
from dms.executor.docker import DockerExecutor
from dms.executor.errors import InvalidEngineSpec
from dms.executor.protocol import ExecutionRequest, Mount
from dms.storage.prepare import Volumes
from dms.storage.service import StorageOptions, open_volumes, volume_dirs
from dms.store import Store
from dms.testing.actors import World
from dms.types.ids import AllocationID, EnsembleID
from dms.types.resources import CPU, RAM, Disk, Resources, SpecConfig

pytestmark = pytest.mark.docker

IMAGE = "dms-test/busybox:1"
MIB = 1 << 20
ENSEMBLE = EnsembleID("e" * 64)
RESULTS = VolumeConfig(type="local", src="results", mount_destination="/results")


@dataclass
class Machine:
    """An engine, its volumes, and allocations that end."""

    executor: DockerExecutor
    volumes: Volumes
    directory: Path
    number: int = 0

    async def run(self, command: str, *volumes: VolumeConfig, disk_bytes: int = 0) -> tuple[Allocation, str]:
        """One allocation to its end; what it said."""
        self.number += 1
        id_ = AllocationID(f"{ENSEMBLE}_n1.a{self.number}")
        results_dir = self.directory / "jobs" / id_
        async with World().node("host") as root:
            spec = AllocationSpec(
                id=id_,
                ensemble_id=ENSEMBLE,
                node_id="n1",
                type="task",
                executor="docker",
                resources=Resources(cpu=CPU(cores=1), ram=RAM(size=64 * MIB), disk=Disk(size=disk_bytes)),
                execution=SpecConfig(type="docker", params={"image": IMAGE, "cmd": ["sh", "-c", command]}),
                orchestrator=root.handle,
                created_ns=1,
                volumes=volumes,
            )
            child = root.prepare_child(id_)
            surroundings = Surroundings(
                executor=self.executor,
                results_dir=results_dir,
                hooks=[
                    ResultsDirHook(results_dir),
                    DiskLimitHook(self.volumes, interval_s=0.2),
                    VolumesHook(self.volumes),
                ],
                save=_nothing,
                report=_nothing,
                release=lambda allocation: self.volumes.release(allocation.spec.id),
            )
            allocation = Allocation(spec, child, surroundings)
            await root.start_child(child, supervisor=root.handle, body=allocation.attend)
            await allocation.start()
            await allocation.over.wait()
            said = (results_dir / "stdout.log").read_text()
            await child.aclose()
            return allocation, said


async def _nothing(*_args: object) -> None:
    await trio.lowlevel.checkpoint()


@asynccontextmanager
async def opened(docker_host: str, directory: Path, options: StorageOptions) -> AsyncIterator[Machine]:
    with trio.fail_after(60):
        async with (
            await Store.open(None) as store,
            open_volumes(store, directory, options) as volumes,
            trio.open_nursery() as nursery,
        ):
            executor = await DockerExecutor.open(
                nursery,
                directory / "executors/docker",
                executor_id="volumes",
                host=docker_host,
                volume_dirs=volume_dirs(directory, options),
            )
            try:
                yield Machine(executor, volumes, directory)
            finally:
                with trio.move_on_after(20, shield=True):
                    await executor.cleanup()
            nursery.cancel_scope.cancel()


async def test_a_container_sees_the_volumes_of_its_allocation_and_what_the_owner_opened(
    docker_host: str, tmp_path: Path
) -> None:
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    (datasets / "input").write_text("from the owner")
    async with opened(docker_host, tmp_path / "work", StorageOptions(local_roots=(datasets,))) as machine:
        data = VolumeConfig(type="local", src=str(datasets), mount_destination="/data", read_only=True)
        allocation, said = await machine.run(
            "cat /data/input; cp /data/input /results/kept && echo; touch /data/x || echo read-only", RESULTS, data
        )
        assert (allocation.view.state, allocation.view.error) == (AllocationState.COMPLETED, "")
        assert said == "from the owner\nread-only\n"
        _, said = await machine.run("cat /results/kept", RESULTS)
        assert said == "from the owner"


async def test_nothing_but_what_is_granted_is_mounted_whoever_asks(docker_host: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with opened(docker_host, tmp_path / "work", StorageOptions()) as machine:
        engine = SpecConfig(type="docker", params={"image": IMAGE, "cmd": ["true"]})
        for source in (tmp_path / "elsewhere", tmp_path / "work", tmp_path / "work/jobs"):
            source.mkdir(exist_ok=True)
            asked = ExecutionRequest(
                "job", "e", engine, Resources(), tmp_path / "results", inputs=(Mount(source, "/in", read_only=True),)
            )
            with pytest.raises(InvalidEngineSpec, match="leads out of the granted volumes"):
                await machine.executor.start(asked)


async def test_a_container_that_writes_more_than_its_disk_into_a_volume_is_ended_while_it_writes(
    docker_host: str, tmp_path: Path
) -> None:
    async with opened(docker_host, tmp_path / "work", StorageOptions()) as machine:
        allocation, _ = await machine.run(
            "head -c 8000000 /dev/urandom > /results/large; sleep 300", RESULTS, disk_bytes=4 * MIB
        )
        assert (allocation.view.state, allocation.view.reason) == (AllocationState.FAILED, "disk_limit")
        assert allocation.view.error == f"it takes more than its {4 * MIB} bytes of disk"
