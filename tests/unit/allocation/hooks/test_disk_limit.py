"""A workload that writes too much into its volumes is ended, and its end says why."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.allocation.hooks.disk_limit import INTERVAL_S, MAX_INTERVAL_S, SHARE, DiskLimitHook
from dms.ensemble.config import VolumeConfig
from dms.executor.errors import ExecutorUnavailable
from dms.executor.protocol import EndReason
from dms.storage.errors import StorageError
from dms.storage.prepare import Volumes
from dms.storage.service import StorageOptions, open_volumes
from dms.store import Store
from dms.testing.clock import ThreadsFirst
from dms.types.resources import Disk, Resources

WRITABLE = VolumeConfig(type="local", src="results", mount_destination="/results")
READ_ONLY = VolumeConfig(type="local", src="results", mount_destination="/results", read_only=True)


class Workload:
    """What the hook asks of an allocation, written down."""

    def __init__(self, nursery: trio.Nursery, volume: VolumeConfig, disk_bytes: int) -> None:
        resources = Resources(disk=Disk(size=disk_bytes))
        self.spec = SimpleNamespace(id="job-1", resources=resources, volumes=(volume,))
        self.actor = nursery
        self.ended: list[tuple[EndReason, str]] = []
        self.failures = 0

    async def end(self, reason: EndReason, error: str) -> None:
        if self.failures:
            self.failures -= 1
            raise ExecutorUnavailable
        self.ended.append((reason, error))


@pytest.fixture
async def volumes(tmp_path: Path) -> AsyncIterator[Volumes]:
    trio.lowlevel.add_instrument(ThreadsFirst())
    async with await Store.open(None) as store, open_volumes(store, tmp_path, StorageOptions()) as volumes:
        yield volumes


async def test_it_is_ended_once_it_takes_more_than_its_disk_and_not_before(
    autojump_clock: MockClock, nursery: trio.Nursery, volumes: Volumes
) -> None:
    from dms.allocation.hooks.volumes import requests_of

    workload: Any = Workload(nursery, WRITABLE, 200_000)
    (bind,) = await volumes.prepare("job-1", "did:key:alice", requests_of([WRITABLE]))
    hook = DiskLimitHook(volumes)
    await hook.poststart(workload)
    (bind.source / "some").write_bytes(os.urandom(100_000))
    await trio.sleep(10 * INTERVAL_S)
    assert workload.ended == []
    workload.failures = 1
    (bind.source / "more").write_bytes(os.urandom(200_000))
    await trio.sleep(2.5 * INTERVAL_S)
    assert workload.ended[0] == (EndReason.DISK_LIMIT, "it takes more than its 200000 bytes of disk")
    await hook.postrun(workload)
    count = len(workload.ended)
    await trio.sleep(10 * INTERVAL_S)
    assert len(workload.ended) == count, "it looks no more once the workload has ended"


async def test_what_it_can_only_read_does_not_count(
    autojump_clock: MockClock, nursery: trio.Nursery, volumes: Volumes
) -> None:
    from dms.allocation.hooks.volumes import requests_of

    (bind,) = await volumes.prepare("job-0", "did:key:alice", requests_of([WRITABLE]))
    (bind.source / "large").write_bytes(os.urandom(500_000))
    await volumes.prepare("job-1", "did:key:alice", requests_of([READ_ONLY]))
    workload: Any = Workload(nursery, READ_ONLY, 1000)
    await DiskLimitHook(volumes).poststart(workload)
    await trio.testing.wait_all_tasks_blocked()
    assert nursery.child_tasks == frozenset()
    await volumes.check_room("job-1", 1000)


class Slow:
    """Volumes that take long to look at, and cannot be at first."""

    def __init__(self) -> None:
        self.looks: list[float] = []

    async def check_room(self, _owner: str, _limit_bytes: int) -> None:
        self.looks.append(trio.current_time())
        if len(self.looks) == 1:
            raise StorageError("the disk does not answer")
        await trio.sleep(1.0 if len(self.looks) < 4 else 1000.0)


async def test_the_longer_a_look_takes_the_more_seldom_it_looks(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    volumes: Any = Slow()
    workload: Any = Workload(nursery, WRITABLE, 1000)
    hook = DiskLimitHook(volumes)
    await hook.poststart(workload)
    await hook.poststart(workload)
    await trio.sleep(2000)
    await hook.postrun(workload)
    waits = [later - earlier for earlier, later in zip(volumes.looks, volumes.looks[1:], strict=False)]
    assert waits[:3] == pytest.approx([INTERVAL_S, 1 + 1 / SHARE, 1 + 1 / SHARE])
    assert waits[3] == pytest.approx(1000 + MAX_INTERVAL_S)
