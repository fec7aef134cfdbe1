"""Before a container runs: its image, its directory of scripts, its making and its start; nothing is left on failure.

An image that was pulled with somebody's credentials is theirs although every container of the engine could have it. Its
repository is remembered, and whoever names it afterwards, by whatever tag or digest, must be let in by the registry too.

Under ``state_dir`` (mode 0700): ``private-images``; by digest of the execution's id ``<digest>/scripts/`` for
provisioning and ``<digest>/cancelled``, which tells our own stop from somebody else's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

from dms.executor.detached import write_file
from dms.executor.docker.api import DockerApi, Json
from dms.executor.docker.container import (
    DEFAULT_DISK_BYTES,
    LABEL_EXECUTION,
    LABEL_HOLDER,
    LABEL_JOB,
    LABEL_NETWORK,
    Names,
    container_config,
    has_volumes,
    limit_disk,
    resolver_file,
    watch_disk,
)
from dms.executor.docker.engine import Engine
from dms.executor.docker.execution import DockerExecution
from dms.executor.docker.holder import Holders
from dms.executor.docker.images import ImageName, PullProgress
from dms.executor.docker.mounts import mount_config
from dms.executor.docker.networks import TenantNetworks
from dms.executor.docker.params import DockerParams
from dms.executor.docker.provision import provision_files
from dms.executor.docker.shapes import CREATED
from dms.executor.docker.watch import Watcher
from dms.executor.errors import EngineRefused, StartFailed
from dms.executor.protocol import ExecutionRequest
from dms.observe.log import get_logger
from dms.types.errors import DMSError

log = get_logger(__name__)

PROXY_VARIABLE = "ALL_PROXY"
MAX_PRIVATE_IMAGES = 10_000


@dataclass(frozen=True, slots=True)
class Owned:
    """What an executor has to itself: its name, its directory, and where volumes lie (empty: anywhere without links)."""

    executor_id: str
    state_dir: Path
    volume_dirs: tuple[Path, ...] = ()
    network_mode: str = ""


class Launcher:
    """Makes and starts containers on one engine."""

    def __init__(
        self,
        api: DockerApi,
        engine: Engine,
        owned: Owned,
        watcher: Watcher,
        networks: TenantNetworks,
        nursery: trio.Nursery,
    ) -> None:
        self._networks, self._holders = networks, Holders(api, owned.executor_id)
        self._api, self._engine, self._owned, self._watcher, self._nursery = api, engine, owned, watcher, nursery
        self._private: set[str] | None = None
        self._limits_disk = True
        """Until the engine refuses that; most storage drivers do."""

    def directory(self, execution_id: str) -> Path:
        """Of one execution."""
        return self._owned.state_dir / hashlib.sha256(execution_id.encode()).hexdigest()[:32]

    async def image(self, params: DockerParams) -> Json | None:
        """The image, if it is here and may be had without asking its registry."""
        if params.registry_auth is not None or ImageName.parse(params.image).repository in await self._private_images():
            return None
        return await self._api.image(params.image)

    async def pull(self, execution: DockerExecution, params: DockerParams) -> Json:
        """Fetch the image.

        :raises EngineRefused: with the registry's reason.
        """
        if params.registry_auth is not None:
            await self._make_private(ImageName.parse(params.image).repository)

        def tell(progress: PullProgress) -> None:
            execution.progress = str(progress)

        log.info("pull_began", execution=execution.execution_id, image=params.image)
        done = await self._api.pull(params.image, params.registry_auth, tell)
        log.info("pull_done", execution=execution.execution_id, image=params.image, digest=done.digest)
        image = await self._api.image(params.image)
        if image is None:
            raise EngineRefused(f"the image {params.image} was pulled, but the engine does not have it")
        return image

    async def launch(
        self,
        execution: DockerExecution,
        request: ExecutionRequest,
        params: DockerParams,
        image: Json,
        written: Sequence[Path],
    ) -> None:
        """Create the container and start it; nothing is left when that fails. ``written`` is what other workloads can
        write."""
        names = Names(self._owned.executor_id, request.job_id, request.execution_id)
        scripts_dir = self.directory(request.execution_id) / "scripts"
        mounts = await trio.to_thread.run_sync(self._mounts, request, written)
        if execution.network:
            await self._networks.ensure(execution.network)
        network_mode = self._owned.network_mode or execution.network
        execution.written = tuple(Path(mount["Source"]) for mount in mounts if not mount["ReadOnly"])
        try:
            request = await self._joined(execution, request, names, network_mode)
            request = await self._proxied(execution, request)
            config = container_config(
                request,
                params,
                names,
                image,
                mounts=mounts,
                scripts_dir=scripts_dir,
                engine=self._engine,
                network_mode=network_mode,
                holder=execution.holder_id,
            )
            if execution.network:
                config["Labels"][LABEL_NETWORK] = execution.network
            await trio.to_thread.run_sync(self._prepare, request, scripts_dir)
            disk_bytes = request.resources.disk.size or DEFAULT_DISK_BYTES
            if has_volumes(image):
                config, execution.disk_bytes = watch_disk(config, disk_bytes), disk_bytes
            created = await self._create(execution, names, config, disk_bytes)
            execution.container_id = created
            if execution.logs and params.restart_policy == "no":  # otherwise the output ends and begins again
                await self._nursery.start(self._watcher.attach, execution)
            try:
                await self._api.call("POST", f"/containers/{created}/start")
            except EngineRefused:
                await self._api.remove_container(created)
                raise
        except BaseException as exc:
            execution.container_id = ""
            if not isinstance(exc, EngineRefused):  # interrupted: it may be there although we do not know its id
                await self._remove_interrupted(names)
            await self._remove_holder(execution, names)
            delete(self.directory(request.execution_id))
            raise
        execution.settled.set()

    async def _remove_interrupted(self, names: Names) -> None:
        """By its labels: another one may have its name."""
        labels = {LABEL_JOB: names.job_label, LABEL_EXECUTION: names.execution_label}
        with trio.CancelScope(shield=True):
            for container in await self._api.containers(labels):
                await self._api.remove_container(container["Id"])

    async def _joined(
        self, execution: DockerExecution, request: ExecutionRequest, names: Names, network_mode: str
    ) -> ExecutionRequest:
        """Have the network ready before the workload. Where that cannot be done it runs without, unless it must not: it is
        reached at its public ports, and what it needs of others it finds out by itself."""
        if request.join is None:
            return request
        try:
            execution.holder_id = await self._holders.start(request, names, network_mode)
            await request.join(await self._holders.namespace(execution.holder_id))
        except EngineRefused:
            raise
        except DMSError as exc:
            await self._remove_holder(execution, names)
            if request.must_join:
                raise StartFailed(f"no private address: {exc.message}") from exc
            tell(request, exc)
            return replace(request, join=None, gateway_ip="")
        return request

    async def _proxied(self, execution: DockerExecution, request: ExecutionRequest) -> ExecutionRequest:
        """Tell it of the proxy that leads to the other members; where there is none it runs without."""
        if request.proxy is None:
            return request
        try:
            variables = await request.proxy(await self._networks.gateway(execution.network), 0)
        except DMSError as exc:
            log.warning("proxy_not_opened", execution=execution.execution_id, reason=exc.message)
            return request
        return replace(request, environment=request.environment + variables)

    async def reproxy(self, execution: DockerExecution, request: ExecutionRequest) -> None:
        """What was adopted goes on to use the proxy that it was told of.

        :raises DMSError: that cannot be had again.
        """
        if request.proxy is None or execution.result is not None:
            return
        container = await self._api.container(execution.container_id) or {}
        port = told_port((container.get("Config") or {}).get("Env") or ())
        if port:
            await request.proxy(await self._networks.gateway(execution.network), port)

    async def rejoin(self, execution: DockerExecution, request: ExecutionRequest) -> None:
        """Devices of a private network end with the process that made them; one that was adopted gets another.

        :raises DMSError: it cannot become a member again.
        """
        if request.join is None or execution.result is not None:
            return
        await request.join(await self._holders.namespace(execution.container_id))
        if not execution.holder_id:
            await self._show_names(execution.container_id, request.gateway_ip)

    async def _show_names(self, container_id: str, gateway: str) -> None:
        """To a workload that began before it had a private network: its resolver's file is the engine's, outside of it."""
        container = await self._api.container(container_id)
        path = Path(str((container or {}).get("ResolvConfPath") or ""))
        if path.is_absolute():
            await trio.to_thread.run_sync(_resolve_at, path, gateway)

    async def _remove_holder(self, execution: DockerExecution, names: Names) -> None:
        execution.holder_id = ""
        with trio.CancelScope(shield=True):
            for container in await self._api.containers({LABEL_HOLDER: names.execution_label}):
                await self._api.remove_container(container["Id"])

    def mark_cancelled(self, execution_id: str) -> None:
        """So that a later process knows too that it was us."""
        directory = self.directory(execution_id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "cancelled").touch()

    def is_cancelled(self, execution: DockerExecution) -> bool:
        """Whether it was us."""
        return execution.is_cancelled or (self.directory(execution.execution_id) / "cancelled").exists()

    async def _create(self, execution: DockerExecution, names: Names, config: dict[str, Any], disk_bytes: int) -> str:
        query = {"name": names.container}
        if self._limits_disk:
            try:
                answer = await self._api.call(
                    "POST", "/containers/create", query=query, body=limit_disk(config, disk_bytes), shape=CREATED
                )
                return _created(answer, execution)
            except EngineRefused as exc:
                if not _is_about_disk(exc.message):
                    raise
                self._limits_disk = False
                log.warning("disk_not_limited_by_engine", driver=self._engine.storage_driver, reason=exc.message)
        config, execution.disk_bytes = watch_disk(config, disk_bytes), disk_bytes
        answer = await self._api.call("POST", "/containers/create", query=query, body=config, shape=CREATED)
        return _created(answer, execution)

    def _mounts(self, request: ExecutionRequest, written: Sequence[Path]) -> list[dict[str, Any]]:
        private = [self._owned.state_dir, self._api.socket]
        if self._engine.root_dir:
            private.append(Path(self._engine.root_dir))
        made = mount_config(
            (*request.inputs, *request.outputs), granted=self._owned.volume_dirs, private=private, written=written
        )
        if self._engine.mapped_owner is not None and os.geteuid() == 0:
            for mount in made:  # otherwise nobody in the container could write there
                if not mount["ReadOnly"]:
                    os.chown(mount["Source"], *self._engine.mapped_owner)
        return made

    def _prepare(self, request: ExecutionRequest, scripts_dir: Path) -> None:
        request.results_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owned.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        delete(scripts_dir.parent)
        if not request.provision_scripts:
            return
        scripts_dir.mkdir(parents=True)
        for name, body in provision_files(request.provision_scripts).items():
            (scripts_dir / name).write_bytes(body)
            (scripts_dir / name).chmod(0o755)  # read by the image's user; on the host, state_dir keeps others out

    async def _private_images(self) -> set[str]:
        if self._private is None:
            lines = await trio.to_thread.run_sync(_read_lines, self._owned.state_dir / "private-images")
            self._private = {ImageName.parse(line).repository for line in lines}
        return self._private

    async def _make_private(self, name: str) -> None:
        private = await self._private_images()
        if name in private:
            return
        private.add(name)
        text = "".join(f"{one}\n" for one in sorted(private)[:MAX_PRIVATE_IMAGES]).encode()

        def write() -> None:
            self._owned.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(str(self._owned.state_dir / "private-images"), text)

        await trio.to_thread.run_sync(write)


def tell(request: ExecutionRequest, problem: DMSError) -> None:
    """Why a workload has no address in a private network."""
    log.error("private_network_not_joined", execution=request.execution_id, reason=problem.message)
    if request.unjoined is not None:
        request.unjoined(problem.message)


def told_port(environment: Iterable[object]) -> int:
    """Of the proxy that a container was told of; 0: none."""
    for item in environment:
        name, _, value = str(item).partition("=")
        if name == PROXY_VARIABLE:
            try:
                return urlsplit(value).port or 0
            except ValueError:
                return 0
    return 0


def delete(directory: Path) -> None:
    """Remove a directory and everything in it; absent is fine."""
    shutil.rmtree(directory, ignore_errors=True)


def _created(answer: Json, execution: DockerExecution) -> str:
    for warning in answer.get("Warnings") or ():
        log.warning("engine_warns", execution=execution.execution_id, warning=str(warning)[:300])
    return str(answer["Id"])


def _resolve_at(path: Path, gateway: str) -> None:
    """In place, as what is mounted into a container is this very file."""
    with suppress(OSError), path.open("r+", encoding="utf-8") as file:
        file.truncate()
        file.write(resolver_file(gateway))


def _is_about_disk(reason: str) -> bool:
    lowered = reason.lower()
    return any(word in lowered for word in ("storage-opt", "storage opt", "storageopt", "quota", "option size"))


def _read_lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text("utf-8").split("\n")[:-1]
    return []
