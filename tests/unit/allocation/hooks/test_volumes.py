from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.allocation.hooks.volumes import KILLED_UPLOAD_TIMEOUT_S, UPLOAD_TIMEOUT_S, VolumesHook, requests_of
from dms.ensemble.config import VolumeConfig
from dms.executor.protocol import Mount
from dms.storage.errors import TransferFailed
from dms.storage.prepare import Bind, VolumeRequest
from dms.storage.transfer import OnProgress, Progress
from dms.types.resources import Disk, Resources, SpecConfig

UPLOAD = SpecConfig(type="http", params={"url": "https://example.org/"})
VOLUME = VolumeConfig(type="local", src="results", mount_destination="/results", upload=UPLOAD)


class Slow:
    """Volumes whose uploads never end."""

    def __init__(self) -> None:
        self.prepared: list[tuple[str, str, int | None]] = []

    async def prepare(
        self,
        owner: str,
        tenant: str,
        requests: tuple[VolumeRequest, ...],
        *,
        max_bytes: int | None,
        on_progress: OnProgress,
    ) -> tuple[Bind, ...]:
        self.prepared.append((owner, tenant, max_bytes))
        return tuple(Bind(Path("/here"), request.target, request.read_only) for request in requests)

    async def upload(self, owner: str, requests: tuple[VolumeRequest, ...], *, on_progress: OnProgress) -> None:
        on_progress(Progress(5 << 20, 10 << 20))
        assert (owner, requests[0].upload) == ("job-1", UPLOAD)
        await trio.sleep_forever()


def allocation(disk_bytes: int = 0) -> Any:
    orchestrator = SimpleNamespace(did="did:key:alice")
    resources = Resources(disk=Disk(size=disk_bytes))
    return SimpleNamespace(
        spec=SimpleNamespace(id="job-1", orchestrator=orchestrator, resources=resources, volumes=(VOLUME,))
    )


async def test_what_was_prepared_is_mounted_and_bounded_by_the_disk_of_the_allocation() -> None:
    volumes: Any = Slow()
    hook = VolumesHook(volumes)
    assert hook.mounts() == ()
    await hook.prerun(allocation(1000))
    await hook.prerun(allocation())
    assert volumes.prepared == [("job-1", "did:key:alice", 1000), ("job-1", "did:key:alice", None)]
    assert hook.mounts() == (Mount(Path("/here"), "/results"),)


async def test_an_upload_that_stalls_does_not_keep_the_end_waiting_for_ever(autojump_clock: MockClock) -> None:
    volumes: Any = Slow()
    hook = VolumesHook(volumes)
    for is_killed, limit_s in ((False, UPLOAD_TIMEOUT_S), (True, KILLED_UPLOAD_TIMEOUT_S), (False, UPLOAD_TIMEOUT_S)):
        await hook.prerun(allocation())
        if is_killed:
            await hook.prekill(allocation())
        begun = trio.current_time()
        with pytest.raises(TransferFailed, match=f"the upload took longer than {limit_s:g} s"):
            await hook.postrun(allocation())
        assert trio.current_time() - begun == pytest.approx(limit_s)


def test_every_field_of_a_description_reaches_storage() -> None:
    described = VolumeConfig(
        type="glusterfs",
        mount_destination="",
        read_only=True,
        name="data",
        servers=("a", "b"),
        client_private_key="k",
        client_pem="p",
        client_ca="c",
        params={"x": 1},
    )
    expected = VolumeRequest("glusterfs", "/data", True, "", "data", ("a", "b"), "k", "p", "c", {"x": 1})
    assert requests_of([described]) == (expected,)
