"""A daemon for the command line to talk to, and a way to run command lines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dms.cli.main import invoke
from dms.testing.commandline import Done, Nunet
from dms.testing.daemon import ScriptedDaemon, scripted_daemon


@pytest.fixture(scope="session")
def running_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedDaemon]:
    with scripted_daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


@pytest.fixture
def node(running_node: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch) -> ScriptedDaemon:
    """The node, with nothing scripted and nothing asked; the environment addresses it."""
    monkeypatch.setenv("DMS_PASSPHRASE", running_node.passphrase)
    monkeypatch.setenv("DMS_REST_PORT", str(running_node.port))
    monkeypatch.setenv("DMS_GENERAL_USER_DIR", str(running_node.user_dir))
    running_node.reset()
    return running_node


@pytest.fixture
def nunet(capfdbinary: pytest.CaptureFixture[bytes]) -> Nunet:
    """Runs a command line in this process, as :func:`dms.cli.main.main` would."""

    def run(*args: object) -> Done:
        capfdbinary.readouterr()
        code = invoke([str(arg) for arg in args])
        out, err = capfdbinary.readouterr()
        return Done(code, out.decode("utf-8", "replace"), err.decode())

    return run
