"""What workloads need: volumes, executors, and the plugins that bring more of both."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import trio

from dms.app.options import storage_options
from dms.config import Settings
from dms.executor.protocol import Executor
from dms.executor.registry import available_executors
from dms.observe import get_logger
from dms.plugins.finding import find_plugins
from dms.plugins.running import RunningPlugins
from dms.storage.prepare import Volumes
from dms.storage.service import open_volumes, volume_dirs
from dms.store import Store
from dms.types.ids import PeerID

EXECUTORS = ("wasm", "docker", "qemu", "firecracker", "null")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """``missing`` maps executors that are not there to the reason."""

    volumes: Volumes
    executors: Mapping[str, Executor]
    missing: Mapping[str, str]
    plugins: RunningPlugins


def find_parts(settings: Settings) -> RunningPlugins:
    """The parts that other packages bring; imports them."""
    return RunningPlugins(find_plugins(settings.plugins.disabled))


def volumes_of(settings: Settings, store: Store, plugins: RunningPlugins) -> AbstractAsyncContextManager[Volumes]:
    """The volumes of the node, while the context is open.

    :raises DMSError: they cannot be had here.
    """
    general = settings.general
    return open_volumes(
        store,
        general.work_dir,
        storage_options(settings.storage),
        closed=(general.user_dir,),
        more=plugins.providers(),
    )


async def open_work(
    background: trio.Nursery, settings: Settings, volumes: Volumes, plugins: RunningPlugins, node: PeerID
) -> Work:
    """Open the executors; ``background`` holds their tasks, ``node`` tells our containers from those of others."""
    general = settings.general
    directory = general.work_dir / "executors"
    found = await available_executors(
        background,
        directory,
        executor_id=str(node),
        enabled=EXECUTORS,
        allow_privileged_docker=settings.job.allow_privileged_docker,
        image_dirs=settings.machines.image_dirs or None,
        with_jailer=settings.machines.firecracker_jailer,
        fetch_file=volumes.read_file,
        volume_dirs=volume_dirs(general.work_dir, storage_options(settings.storage)),
    )
    for executor, reason in found.missing.items():
        log.info("executor_missing", executor=executor, reason=reason)
    brought = await plugins.open_executors(background, directory, str(node))
    return Work(volumes, {**found.executors, **brought}, found.missing, plugins)
