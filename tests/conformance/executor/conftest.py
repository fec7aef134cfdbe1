from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import trio

from dms.executor.docker.api import DockerApi
from dms.testing.dockerd import busybox_image, docker_engine, podman_service
from dms.testing.vms import (
    FIRECRACKER_KERNEL_VARIABLE,
    make_firecracker,
    make_images,
    make_jailer,
    make_root,
)


@pytest.fixture(scope="session")
def docker_host() -> Iterator[str]:
    """A Docker engine that has the image ``dms-test/busybox:1``."""
    with with_image(docker_host_of_its_own()) as host:
        yield host


@pytest.fixture(scope="session")
def podman_host() -> Iterator[str]:
    """The same of Podman."""
    if shutil.which("podman") is None:
        pytest.skip("needs podman: apt-get install podman crun")
    with with_image(podman_service()) as host:
        yield host


@contextmanager
def with_image(engine: AbstractContextManager[str]) -> Iterator[str]:
    async def give_image(host: str) -> None:
        api = DockerApi(host)
        await api.describe()
        await api.import_image("dms-test/busybox:1", busybox_image())

    with engine as host:
        trio.run(give_image, host)
        yield host


@contextmanager
def docker_host_of_its_own() -> Iterator[str]:
    with docker_engine() as engine:
        yield engine.host


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What machines boot."""
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def firecracker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Firecracker held to its published description, whose guests are only played."""
    description = Path(__file__).parents[2] / "data" / "firecracker-openapi.yaml"
    return make_firecracker(tmp_path_factory.mktemp("firecracker"), description)


@pytest.fixture(scope="session")
def jailer(firecracker: Path) -> Path:
    """What goes before that Firecracker."""
    return make_jailer(firecracker.parent)


@pytest.fixture(scope="session")
def images_for_firecracker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the real one boots."""
    directory = tmp_path_factory.mktemp("images")
    shutil.copy(os.environ[FIRECRACKER_KERNEL_VARIABLE], directory / "vmlinuz")
    make_root(directory / "root")
    return directory
