"""Real processes over real libp2p: one network of three nodes for all who need no more than that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from dms.cli.main import invoke
from dms.testing.commandline import Done, Nunet
from dms.testing.dockerd import IMAGE, TestEngine, busybox_image, docker_engine
from dms.testing.localnet import LocalNet, run_nunet

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shared_net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNet]:
    """Three nodes, of which the first two offer resources. What a test deploys, it ends."""
    net = LocalNet(tmp_path_factory.mktemp("e2e") / "net")
    done = run_nunet("devnet", "up", "-n", 3, "--dir", net.directory)
    assert done.code == 0, done
    try:
        yield net
    finally:
        done = run_nunet("devnet", "down", "--dir", net.directory)
        net.reap()
    assert done.code == 0, done
    assert not net.directory.exists()


@pytest.fixture
def net(shared_net: LocalNet, monkeypatch: pytest.MonkeyPatch) -> LocalNet:
    """The shared network; the environment addresses it."""
    for name, value in shared_net.environment.items():
        monkeypatch.setenv(name, value)
    return shared_net


@pytest.fixture(scope="module")
def engine() -> Iterator[TestEngine]:
    """An engine of one's own, which has :data:`IMAGE`."""
    from dms.executor.docker.api import DockerApi

    async def prepare(host: str) -> None:
        api = DockerApi(host)
        await api.negotiate()
        await api.import_image(IMAGE, busybox_image())

    with docker_engine() as engine:
        trio.run(prepare, engine.host)
        yield engine


@pytest.fixture
def nunet(capfdbinary: pytest.CaptureFixture[bytes]) -> Nunet:
    """Runs a command line in this process, which spares the import that a process of its own would cost."""

    def run(*args: object) -> Done:
        capfdbinary.readouterr()
        code = invoke([str(arg) for arg in args])
        out, err = capfdbinary.readouterr()
        return Done(code, out.decode("utf-8", "replace"), err.decode())

    return run
