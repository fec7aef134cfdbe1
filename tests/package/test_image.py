"""The container image that `make image` builds, on a real engine, out of a base that needs no registry."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dms.testing.dockerd import docker_engine
from dms.testing.looking import look_until

pytestmark = [pytest.mark.docker, pytest.mark.package]

ROOT = Path(__file__).resolve().parents[2]
READY_S = 90.0
PASSPHRASE = "only for this container"

Docker = Callable[..., str]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with docker_engine() as engine:
        environ = os.environ | {"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0"}

        def call(*command: str) -> str:
            done = subprocess.run(
                command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert done.returncode == 0, f"{command}: {done.stdout}"
            return done.stdout.strip()

        call("docker", "import", os.environ["DMS_TEST_DEBIAN"], "base:1")
        package = os.environ["DMS_TEST_PACKAGE"]
        call("env", "BASE=base:1", "TAG=nunet-test:1", f"PACKAGE={package}", "scripts/image.sh")
        yield call


def test_the_image_runs_a_node_as_an_ordinary_user(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    secret = f"{tmp_path}/passphrase:/run/secrets/passphrase:ro"
    container = docker("docker", "run", "--detach", "--network=none", "--volume", secret, "nunet-test:1")
    try:

        def logs() -> str:
            return docker("docker", "logs", container)

        look_until(lambda: " started " in logs(), logs, timeout_s=READY_S, every_s=0.5)
        assert docker("docker", "exec", container, "id", "-un") == "nunet"
        docker("docker", "stop", "--time=60", container)
        assert docker("docker", "inspect", "--format={{.State.ExitCode}}", container) == "0"
    finally:
        docker("docker", "rm", "--force", "--volumes", container)


def test_no_secret_is_in_the_image(docker: Docker) -> None:
    look = ["docker", "run", "--rm", "--network=none", "--entrypoint=ls", "nunet-test:1"]
    assert docker(*look, "/etc/nunet") == "service.json"
    assert docker(*look, "-A", "/var/lib/nunet") == ""
