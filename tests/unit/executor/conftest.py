from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from dms.executor.docker.api import DockerApi
from dms.testing.dockerd import busybox_image, docker_engine


@pytest.fixture(scope="session")
def docker_host() -> Iterator[str]:
    """A Docker engine that has the image ``dms-test/busybox:1``."""

    async def give_image(host: str) -> None:
        api = DockerApi(host)
        await api.negotiate()
        await api.import_image("dms-test/busybox:1", busybox_image())

    with docker_engine() as engine:
        trio.run(give_image, engine.host)
        yield engine.host
