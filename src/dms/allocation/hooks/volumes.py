"""Storage that a workload sees: made ready before it starts, uploaded after it (``spec/ensemble.md`` 2.7).

What it holds is let go when the node frees the allocation, not when one execution ends: a restart finds it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from dms.allocation.hooks.hook import Hook
from dms.ensemble.config import VolumeConfig
from dms.executor.protocol import Mount
from dms.storage.errors import TransferFailed
from dms.storage.prepare import VolumeRequest, Volumes
from dms.storage.transfer import OnProgress, Progress
from dms.types.units import format_bytes

if TYPE_CHECKING:
    from dms.allocation.allocation import Allocation

UPLOAD_TIMEOUT_S = 3600.0
KILLED_UPLOAD_TIMEOUT_S = 60.0
"""When the workload was shut down: whoever did that waits, and other things wait for them."""


class VolumesHook(Hook):
    """Prepares and uploads what the allocation's description asks for."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._mounts: tuple[Mount, ...] = ()
        self._is_ended_by_us = False

    async def prerun(self, allocation: Allocation) -> None:
        """Mount and download; what is downloaded counts against the allocation's disk."""
        spec = allocation.spec
        self._is_ended_by_us = False
        try:
            binds = await self._volumes.prepare(
                spec.id,
                str(spec.orchestrator.did),
                requests_of(spec.volumes),
                max_bytes=spec.resources.disk.size or None,
                on_progress=_telling(allocation, "fetching its volumes"),
            )
        finally:
            allocation.progress = ""
        self._mounts = tuple(Mount(bind.source, bind.target, bind.read_only) for bind in binds)

    def mounts(self) -> tuple[Mount, ...]:
        """What was prepared."""
        return self._mounts

    async def prekill(self, allocation: Allocation) -> None:
        """Somebody waits for it to be over."""
        self._is_ended_by_us = True

    async def postrun(self, allocation: Allocation) -> None:
        """Upload, for as long as that may keep the end waiting.

        :raises StorageError: it is not where it should be.
        """
        timeout_s = KILLED_UPLOAD_TIMEOUT_S if self._is_ended_by_us else UPLOAD_TIMEOUT_S
        try:
            with trio.move_on_after(timeout_s) as scope:
                await self._volumes.upload(
                    allocation.spec.id,
                    requests_of(allocation.spec.volumes),
                    on_progress=_telling(allocation, "uploading its results"),
                )
        finally:
            allocation.progress = ""
        if scope.cancelled_caught:
            raise TransferFailed(f"the upload took longer than {timeout_s:g} s")


def _telling(allocation: Allocation, what: str) -> OnProgress:
    def tell(progress: Progress) -> None:
        done, total = format_bytes(progress.done_bytes), progress.total_bytes
        allocation.progress = f"{what}: {done} of {format_bytes(total)}" if total else f"{what}: {done}"

    return tell


def requests_of(volumes: Sequence[VolumeConfig]) -> tuple[VolumeRequest, ...]:
    """A description's volumes as storage understands them."""
    return tuple(
        VolumeRequest(
            type=volume.type,
            target=volume.mount_destination or f"/{volume.name}",
            read_only=volume.read_only,
            src=volume.src,
            name=volume.name,
            servers=volume.servers,
            client_private_key=volume.client_private_key,
            client_pem=volume.client_pem,
            client_ca=volume.client_ca,
            params=volume.params,
            upload=volume.upload,
        )
        for volume in volumes
    )
