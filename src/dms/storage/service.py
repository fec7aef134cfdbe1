"""All of storage, put together for one node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dms.storage.controller import VolumeController
from dms.storage.egress import OWNER, Egress
from dms.storage.gluster import GlusterClient
from dms.storage.http import HttpProvider
from dms.storage.ipfs import IpfsProvider
from dms.storage.library import Library
from dms.storage.local import LocalDirectories
from dms.storage.mounts import SystemMounter
from dms.storage.prepare import Volumes
from dms.storage.s3 import S3Provider
from dms.storage.transfer import Limits, Provider
from dms.storage.web import WebClient
from dms.store import Store

VOLUMES, STORAGE = "volumes", "storage"
"""Directories in the work directory: what is mounted, and the volumes of the controller."""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """What jobs may do here; see the settings of the same names."""

    local_roots: tuple[Path, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    allow_glusterfs: bool = False
    ipfs_gateway: str = ""
    ipfs_api: str = ""
    max_download_bytes: int = 64 << 30
    max_volumes_bytes: int = 0


def volume_dirs(work_dir: Path, options: StorageOptions) -> tuple[Path, ...]:
    """Where all that lies which a workload may be shown: volumes, what is mounted for it, what the owner opened."""
    return (work_dir / VOLUMES, work_dir / STORAGE, *options.local_roots)


@asynccontextmanager
async def open_volumes(
    store: Store,
    work_dir: Path,
    options: StorageOptions,
    *,
    closed: tuple[Path, ...] = (),
    more: Iterable[Provider] = (),
) -> AsyncIterator[Volumes]:
    """The volumes of a node, for what jobs ask for, while the block runs. ``closed`` directories are never opened to
    jobs, nor is the work directory. ``more`` are providers of plugins.

    :raises InvalidStorageSpec: a network or address among the options is none.
    :raises StorageError: the directories cannot be made.
    """
    egress = Egress.of(options.allowed_networks)
    tenant, owner = WebClient(egress), WebClient(OWNER)
    try:
        controller = VolumeController(store, work_dir / STORAGE, limit_bytes=options.max_volumes_bytes)
        await controller.load()
        providers: tuple[Provider, ...] = (
            S3Provider(egress),
            HttpProvider(tenant),
            IpfsProvider(tenant, owner=owner, gateway=options.ipfs_gateway, api=options.ipfs_api),
            *more,
        )
        yield Volumes(
            work_dir / VOLUMES,
            controller,
            Library(controller, providers, Limits(max_bytes=options.max_download_bytes)),
            LocalDirectories(options.local_roots, closed=(work_dir, *closed)),
            GlusterClient(is_allowed=options.allow_glusterfs, egress=egress),
            SystemMounter(),
        )
    finally:
        await tenant.aclose()
        await owner.aclose()
