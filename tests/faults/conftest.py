from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from dms.executor.docker.api import DockerApi
from dms.testing.dockerd import TestEngine, busybox_image, docker_engine
from dms.testing.vms import make_firecracker, make_images


@pytest.fixture(scope="session")
def docker() -> Iterator[TestEngine]:
    """An engine that may be frozen and ended, which has the image ``dms-test/busybox:1``."""

    async def give_image(host: str) -> None:
        api = DockerApi(host)
        await api.describe()
        await api.import_image("dms-test/busybox:1", busybox_image())

    with docker_engine() as engine:
        trio.run(give_image, engine.host)
        yield engine


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What machines boot."""
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def firecracker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Firecracker whose guests are only played."""
    description = Path(__file__).parents[1] / "data" / "firecracker-openapi.yaml"
    return make_firecracker(tmp_path_factory.mktemp("firecracker"), description)


@pytest.fixture
def where(kind: str, request: pytest.FixtureRequest) -> str:
    """What an executor of that kind needs, see :func:`tests.faults.daemon.make`."""
    get = request.getfixturevalue
    match kind:
        case "docker":
            return str(get("docker").host)
        case "qemu":
            return str(get("images"))
        case "firecracker":
            return f"{get('images')}:{get('firecracker')}"
    return ""
