"""What the interop tests share: nodes of js-libp2p, pairs that are connected, and the table of what works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from tests.interop.javascript import JavaScriptNode
from tests.interop.nodes import NodeMaker, Pair, connect, python_node
from tests.interop.table import COLUMNS, Verdicts

from dms.network.swarm_key import SwarmKey, new_swarm_key
from dms.network.swarm_key_file import write_swarm_key

_VERDICTS = pytest.StashKey[Verdicts]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(text): the row of the table of docs/interop.md that a test fills")
    config.stash[_VERDICTS] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fills the table."""
    report = yield
    row = item.get_closest_marker("row")
    column = (
        str(item.callspec.params.get("dialler"))
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else ""
    )
    if row is not None and report.when == "call" and not report.skipped:
        cells = item.config.stash[_VERDICTS].setdefault(row.args[0], {})
        cells[column] = "yes" if report.passed and cells.get(column) != "no" else "no"
    return report


@pytest.fixture(scope="session")
def verdicts(pytestconfig: pytest.Config) -> Verdicts:
    """What was found so far."""
    return pytestconfig.stash[_VERDICTS]


@pytest.fixture(scope="session")
def swarm_key() -> SwarmKey:
    """Of the private network of this run."""
    return new_swarm_key()


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory, swarm_key: SwarmKey) -> Iterator[NodeMaker]:
    """Starts a node with these options, or gives the one there is."""
    path = tmp_path_factory.mktemp("interop") / "swarm.key"
    write_swarm_key(path, swarm_key)
    nodes: dict[tuple[object, ...], JavaScriptNode] = {}

    def make(*arguments: str, private: bool = False, number: int = 0) -> JavaScriptNode:
        which = (arguments, private, number)
        if which not in nodes:
            nodes[which] = JavaScriptNode([*arguments, *(("--swarm-key", str(path)) if private else ())])
        return nodes[which]

    yield make
    for node in nodes.values():
        node.close()


@pytest.fixture(params=COLUMNS)
def dialler(request: pytest.FixtureRequest) -> str:
    """Who dials."""
    return str(request.param)


@pytest.fixture
async def pair(javascript: NodeMaker, dialler: str) -> AsyncIterator[Pair]:
    """Connected nodes; the one in JavaScript serves other tests, too."""
    async with python_node() as python, javascript().attached() as remote:
        await connect(python, remote, dialler)
        yield Pair(python, remote)
