"""What holds for every test: a home of its own, property tests that repeat, markers that say how to enable them.

Nothing here replaces a part of the product. Twins of the seams are shipped in :mod:`dms.testing`.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import logging
import math
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType

import hypothesis
import psutil
import pytest
import trio
from tests.scheduling import Forgetting
from xdist.remote import Producer
from xdist.scheduler import Scheduling

from dms.testing.postgres import missing_for_postgres
from dms.testing.vms import missing_for_qemu

# Every process that a test starts inherits this variable, however it detaches itself: that is how leaks are found.
RUN_VARIABLE = "NUNET_TEST_RUN"

# Wall-clock time that a test may take before it is ended and fails: a net below everything, not a measure.
TEST_LIMIT_S = 7200.0 if os.environ.get("DMS_TEST_HEAVY") else 120.0
TEST_GRACE_S = 20.0

# Everything is tried by CI, and by whoever asks for it. Otherwise one of so many: of the random examples of a property test,
# which are others each time, and of the cases of a test that is marked as a matrix.
IS_THOROUGH = bool(os.environ.get("CI") or os.environ.get("DMS_TEST_HEAVY"))
ONE_OF = 4

_JAVASCRIPT = Path(__file__).parent / "interop" / "node_modules"
_JAVASCRIPT_HINT = "npm ci --prefix tests/interop --ignore-scripts, then DMS_TEST_INTEROP=1 make test"

_shortened: list[object] = []
_LEAKED = pytest.StashKey[list[str]]()
_HOMES = pytest.StashKey[Path]()

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config: pytest.Config) -> None:
    """Moves the whole run away from the home, the settings and the keys of whoever runs it."""
    # Compiled code is kept whatever the shell says: without it each start of a node, and each run, costs seconds.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    gc.disable()  # while everything is imported and nothing is freed; see pytest_collection_finish
    if not hasattr(config, "workerinput"):
        os.environ[RUN_VARIABLE] = uuid.uuid4().hex
    homes = Path(tempfile.mkdtemp(prefix="nunet-test-"))
    config.stash[_HOMES] = homes
    config.add_cleanup(lambda: shutil.rmtree(homes, ignore_errors=True))
    for name in _personal_variables():
        del os.environ[name]
    os.environ["HOME"] = str(homes)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is not enabled, and keeps what shares one engine or one set of namespaces in one process."""
    all_missing = _missing()
    for item in items:
        if not IS_THOROUGH:
            _try_fewer(item)
        for marker, missing in all_missing.items():
            if item.get_closest_marker(marker) is None:
                continue
            item.add_marker(pytest.mark.xdist_group(marker))
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuses to go on where groups are silently split: each part would make the engine or the network anew."""
    gc.freeze()  # what stands now stands to the end: looking through all of it again and again costs a tenth of the run
    gc.enable()
    if not session.config.getoption("loadgroup", default=False):
        return
    if any("@" not in item.nodeid for item in session.items if item.get_closest_marker("xdist_group")):
        raise pytest.UsageError("this pytest-xdist does not keep xdist_group together: see pytest in pyproject.toml")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Deals the tests out; ``None``: as the command line says."""
    return Forgetting(config, log) if config.getoption("dist") == "loadgroup" else None


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
    for handler in [h for h in logging.getLogger().handlers if getattr(h, "installed_by_dms", False)]:
        logging.getLogger().removeHandler(handler)  # of a node in this process; its console has gone with the test
        handler.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Ends a fixture that hangs."""
    with _limited(trio.CancelScope()):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Ends a test that hangs."""
    scope = trio.CancelScope()
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = _cancellable(item.obj, scope)
    with _limited(scope):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Ends a clean-up that hangs."""
    with _limited(trio.CancelScope()):
        return (yield)


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


def _try_fewer(item: pytest.Item) -> None:
    """Shortens a property test, and skips most cases of a matrix and what is long."""
    test = getattr(getattr(item, "obj", None), "__func__", getattr(item, "obj", None))
    place: object = getattr(item, "cls", None) if hasattr(getattr(item, "cls", None), "settings") else test
    name = "settings" if place is not test else "_hypothesis_internal_use_settings"  # where the library looks them up
    if hypothesis.is_hypothesis_test(test) and place not in _shortened:
        settings: hypothesis.settings = getattr(place, name, None) or hypothesis.settings()
        setattr(place, name, hypothesis.settings(settings, max_examples=math.ceil(settings.max_examples / ONE_OF)))
        _shortened.append(place)
    long = item.get_closest_marker("long")
    if long is not None:
        reason = f"at length what {', '.join(long.args)} holds; this one, too: DMS_TEST_HEAVY=1 make test"
        item.add_marker(pytest.mark.skip(reason=reason))
    if item.get_closest_marker("matrix") and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        index = sum(item.callspec.indices.values())
        if index % ONE_OF:
            item.add_marker(pytest.mark.skip(reason="one of many like it; all of them: DMS_TEST_HEAVY=1 make test"))


def _cancellable(test: Callable[..., Awaitable[None]], scope: trio.CancelScope) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def inside(*args: object, **kwargs: object) -> None:
        with scope:
            await test(*args, **kwargs)

    return inside


@contextlib.contextmanager
def _limited(scope: trio.CancelScope) -> Iterator[None]:
    """Cancels ``scope`` when the time is up, so that the test still cleans up; then its fixtures; then raises."""
    story: list[str] = []

    def end(_signal: int, _frame: FrameType | None) -> None:
        story.append(f"still not done after {TEST_LIMIT_S:.0f} s; waiting in:\n{_waiting_tasks()}")
        if len(story) > len(remedies) or not trio.lowlevel.in_trio_run():
            pytest.fail(story[0])
        trio.lowlevel.current_trio_token().run_sync_soon(remedies[len(story) - 1])

    remedies = (scope.cancel, _cancel_everything)
    previous = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT_S, TEST_GRACE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if story:
        pytest.fail(story[0])


def _waiting_tasks() -> str:
    """One line per trio task: its name and the line of ours, or else of anybody, at which it waits."""
    if not trio.lowlevel.in_trio_run():
        return "  no task: trio does not run"
    lines = []
    for task in _tasks():
        frames = [f"{frame.f_code.co_filename}:{line}" for frame, line in task.iter_await_frames()]
        ours = [frame for frame in frames if "site-packages" not in frame]
        lines.append(f"  {task.name}: {(ours or frames or ['not started'])[-1]}")
    return "\n".join(lines)


def _cancel_everything() -> None:
    for task in _tasks():
        for nursery in task.child_nurseries:
            nursery.cancel_scope.cancel()


def _tasks() -> list[trio.lowlevel.Task]:
    """All tasks that are not trio's own."""
    root = trio.lowlevel.current_root_task()
    found: list[trio.lowlevel.Task] = [] if root is None else [root]
    for task in found:
        found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return [task for task in found if not task.name.startswith(("<init>", "<TrioToken"))]


def _personal_variables() -> list[str]:
    """Variables that steer the product, less those that steer its tests."""
    return [
        name
        for name in os.environ
        if (name.startswith(("DMS_", "XDG_")) and not name.startswith("DMS_TEST_")) or name == "BOOTSTRAP_PEERS"
    ]


def _missing() -> dict[str, str]:
    """Per marker, why its tests cannot run here and what would let them; empty where they can."""
    docker = netns = mounts = ""
    if not os.environ.get("DMS_TEST_DOCKER"):
        docker = "starts a Docker engine; enable with: sudo DMS_TEST_DOCKER=1 make test"
    elif os.geteuid() != 0 or shutil.which("dockerd") is None:
        docker = "needs root and dockerd: apt-get install docker.io, then sudo DMS_TEST_DOCKER=1 make test"
    if not os.environ.get("DMS_TEST_NETNS"):
        netns = "makes network namespaces; enable with: sudo DMS_TEST_NETNS=1 make test"
    elif os.geteuid() != 0 or shutil.which("ip") is None:
        netns = "needs root and iproute2: apt-get install iproute2, then sudo DMS_TEST_NETNS=1 make test"
    if not os.environ.get("DMS_TEST_MOUNTS"):
        mounts = "mounts file systems; enable with: sudo DMS_TEST_MOUNTS=1 make test"
    elif os.geteuid() != 0 or shutil.which("mount") is None:
        mounts = "needs root and mount; enable with: sudo DMS_TEST_MOUNTS=1 make test"
    postgres = "starts a PostgreSQL server; enable with: DMS_TEST_POSTGRES=1 make test"
    if os.environ.get("DMS_TEST_POSTGRES"):
        postgres = missing_for_postgres()
    vm = missing_for_qemu() if os.environ.get("DMS_TEST_VM") else "boots machines; enable with: DMS_TEST_VM=1 make test"
    package = ""
    if not os.environ.get("DMS_TEST_PACKAGE") or not os.environ.get("DMS_TEST_DEBIAN"):
        package = "installs a package; .ci/run shows how: DMS_TEST_PACKAGE=….deb DMS_TEST_DEBIAN=….tar make test"
    elif os.geteuid() != 0:
        package = "needs root: sudo DMS_TEST_PACKAGE=….deb DMS_TEST_DEBIAN=….tar make test"
    interop = "starts nodes of js-libp2p; enable with: DMS_TEST_INTEROP=1 make test"
    if os.environ.get("DMS_TEST_INTEROP"):
        interop = "" if shutil.which("node") and _JAVASCRIPT.is_dir() else f"needs Node.js, and {_JAVASCRIPT_HINT}"
    found = {"docker": docker, "netns": netns, "mounts": mounts, "package": package, "postgres": postgres, "vm": vm}
    return found | {"interop": interop}


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
