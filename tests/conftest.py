"""What holds for every test: a home of its own, property tests that repeat, markers that say how to enable them.

Nothing here replaces a part of the product. Twins of the seams are shipped in :mod:`dms.testing`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

# Every process that a test starts inherits this variable, however it detaches itself: that is how leaks are found.
RUN_VARIABLE = "NUNET_TEST_RUN"

_LEAKED = pytest.StashKey[list[str]]()
_HOMES = pytest.StashKey[Path]()

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config: pytest.Config) -> None:
    """Moves the whole run away from the home, the settings and the keys of whoever runs it."""
    if not hasattr(config, "workerinput"):
        os.environ[RUN_VARIABLE] = uuid.uuid4().hex
    homes = Path(tempfile.mkdtemp(prefix="nunet-test-"))
    config.stash[_HOMES] = homes
    config.add_cleanup(lambda: shutil.rmtree(homes, ignore_errors=True))
    for name in _personal_variables():
        del os.environ[name]
    os.environ["HOME"] = str(homes)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is not enabled, and keeps what shares one engine or one set of namespaces in one process."""
    for item in items:
        for marker, missing in _missing().items():
            if item.get_closest_marker(marker) is None:
                continue
            item.add_marker(pytest.mark.xdist_group(marker))
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(autouse=True)
def _own_home(request: pytest.FixtureRequest) -> Iterator[None]:
    """Gives each test an empty home, and undoes what it did to the environment variables that the product reads."""
    home = request.config.stash[_HOMES] / uuid.uuid4().hex
    home.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        for name in _personal_variables():
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        yield


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run, and ends the process, where a test left a process behind."""
    if hasattr(session.config, "workerinput"):
        return
    leaked = [_end(process) for process in _left_processes()]
    session.config.stash[_LEAKED] = leaked
    if leaked and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Names the processes that were left behind."""
    for line in config.stash.get(_LEAKED, []):
        terminalreporter.write_line(f"LEAKED process, ended now: {line}", red=True)


def _personal_variables() -> list[str]:
    """Variables that steer the product, less those that steer its tests."""
    return [
        name
        for name in os.environ
        if (name.startswith(("DMS_", "XDG_")) and not name.startswith("DMS_TEST_")) or name == "BOOTSTRAP_PEERS"
    ]


def _missing() -> dict[str, str]:
    """Per marker, why its tests cannot run here and what would let them; empty where they can."""
    docker = netns = ""
    if not os.environ.get("DMS_TEST_DOCKER"):
        docker = "starts a Docker engine; enable with: sudo DMS_TEST_DOCKER=1 make test"
    elif os.geteuid() != 0 or shutil.which("dockerd") is None:
        docker = "needs root and dockerd: apt-get install docker.io, then sudo DMS_TEST_DOCKER=1 make test"
    if not os.environ.get("DMS_TEST_NETNS"):
        netns = "makes network namespaces; enable with: sudo DMS_TEST_NETNS=1 make test"
    elif os.geteuid() != 0 or shutil.which("ip") is None:
        netns = "needs root and iproute2: apt-get install iproute2, then sudo DMS_TEST_NETNS=1 make test"
    return {"docker": docker, "netns": netns}


def _left_processes() -> Iterator[psutil.Process]:
    """Processes that carry this run's mark and are neither this one nor one of the test runner's own."""
    mark = os.environ[RUN_VARIABLE]
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            is_ours = process.environ().get(RUN_VARIABLE) == mark
            if is_ours and process.status() != psutil.STATUS_ZOMBIE and not _is_runner(process):
                yield process
        except psutil.Error:
            continue


def _is_runner(process: psutil.Process) -> bool:
    command = " ".join(process.cmdline())
    return "execnet" in command or "multiprocessing.resource_tracker" in command


def _end(process: psutil.Process) -> str:
    line = f"{process.pid} {' '.join(process.cmdline())[:200]}"
    process.send_signal(signal.SIGKILL)
    return line
