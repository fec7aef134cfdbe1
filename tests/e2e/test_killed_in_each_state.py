"""``kill -9`` of the orchestrator's and of a provider's process in each state of a deployment, at a chosen write.

The table of docs/explanation/guarantees.md, on real processes. In each row a service is deployed, or shut down; one daemon
dies where the row says so (:mod:`dms.testing.mortal`), is started again, and everything must end as the row says: a
service that was accepted runs, on one machine and one process, started as often as told and never twice at a time; one
that was shut down is over; and then nothing is reserved anywhere.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import pytest
import wasmtime

from dms.cli.following import NAMESPACE, Deployment
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.loading import parse_ensemble
from dms.node.payloads import NewDeployment, NewDeploymentReply
from dms.node.updating_payloads import UpdateReply, UpdateRequest
from dms.testing.looking import WAIT_S, look_until
from dms.testing.mortal import MortalNet, When, mortal_net
from dms.types.errors import DMSError

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("mortal")]

ROOT = Path(__file__).parents[2]
ORCHESTRATOR, PROVIDERS = "node3", ("node1", "node2")
PROVIDER = PROVIDERS[0]
ALLOWED_S = 150.0
"""For a deployment or an update; these get 118 s at least."""


@dataclass(frozen=True, slots=True)
class Row:
    """Where the orchestrator's or the provider's process dies, and what becomes of it."""

    state: str
    dies: str
    when: When | Literal["while"]
    """``while``: the provider dies while the orchestrator stands still after that write of its own."""
    words: tuple[str, ...]
    """Of the write."""
    during: Literal["creation", "recovery", "update", "shutdown"] = "creation"
    starts: tuple[int, ...] = (1,)
    """Of programs, in all: what it may be."""
    nodes: int = 1

    def __str__(self) -> str:
        return f"{self.state}-{'orchestrator' if self.dies == ORCHESTRATOR else 'provider'}-{self.when}"

    def arm(self, net: MortalNet) -> psutil.Process:
        """Let it come; who dies or stands still then."""
        if self.when == "while":
            return net.doom(ORCHESTRATOR, "after", self.words, signal.SIGSTOP)
        return net.doom(self.dies, self.when, self.words)


def journal(kind: str) -> tuple[str, ...]:
    return ("INSERT INTO deployment_journal", f"'{kind}'")


ROWS = [
    Row("preparing", ORCHESTRATOR, "after", journal("bid_received")),
    Row("generating", ORCHESTRATOR, "after", journal("bids_collected"), nodes=2, starts=(2,)),
    Row("committing", ORCHESTRATOR, "before", journal("allocates_done")),
    Row("provisioning", ORCHESTRATOR, "before", journal("starts_done")),
    Row("running", ORCHESTRATOR, "after", journal("starts_done")),
    Row("recovering", ORCHESTRATOR, "after", journal("peer_lost"), "recovery", starts=(2,)),
    Row("updating", ORCHESTRATOR, "after", journal("update_requested"), "update", starts=(2,)),
    Row("shutting-down", ORCHESTRATOR, "after", journal("shutdown_requested"), "shutdown"),
    Row("preparing", PROVIDER, "while", journal("bid_received")),
    Row("generating", PROVIDER, "while", journal("bids_collected"), nodes=2, starts=(2,)),
    Row("committing", PROVIDER, "before", ("INSERT INTO reservations",)),
    Row("committing", PROVIDER, "after", ("INSERT INTO reservations",)),
    Row("allocating", PROVIDER, "after", ("INSERT INTO allocations",)),
    Row("provisioning", PROVIDER, "before", (" allocations ", "running")),
    Row("running", PROVIDER, "after", (" allocations ", "running")),
    Row("updating", PROVIDER, "while", journal("update_requested"), "update", starts=(1, 2)),
    Row("shutting-down", PROVIDER, "before", (" allocations ", "terminated"), "shutdown"),
]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalNet]:
    with mortal_net(tmp_path_factory.mktemp("mortal") / "net") as net:
        yield net


@pytest.fixture(autouse=True)
def _mended(net: MortalNet) -> Iterator[None]:
    yield
    net.spare()
    net.mend()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "trace.wasm"
    path.write_bytes(bytes(wasmtime.wat2wasm((ROOT / "tests" / "programs" / "trace.wat").read_text())))
    return path


@pytest.mark.long("tests/e2e/test_crashes.py", "tests/sim/test_restarts.py")
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_whoever_is_killed_in_whatever_state_it_ends_as_documented(row: Row, net: MortalNet, program: Path) -> None:
    free, starts = {name: net.free(name) for name in PROVIDERS}, starts_on(net)
    deployment, doomed = deploy(net, row, program)
    if row.during != "creation":
        await_(deployment, lambda: is_served(net, deployment))
        doomed = row.arm(net)
    with beside(lambda: go_on(net, row, program, deployment)):
        if row.when == "while":
            await_(deployment, lambda: doomed.status() == psutil.STATUS_STOPPED)
            net.end(row.dies)
            doomed.resume()
        else:
            doomed.wait(WAIT_S)
    net.start(row.dies)
    if row.during == "shutdown":
        await_(deployment, lambda: deployment.status().status == "Completed")
    else:
        await_(deployment, lambda: is_served(net, deployment))
    if row.dies == ORCHESTRATOR:
        assert is_in_journal(deployment, row.words[-1].strip("'")) is (row.when == "after")
    net.mend()
    if row.during != "shutdown":
        await_(deployment, lambda: running_on(net) == row.nodes)
        deployment.shutdown()
    await_(deployment, lambda: deployment.status().status == "Completed" and running_on(net) == 0)
    await_(deployment, lambda: {name: net.free(name) for name in PROVIDERS} == free)
    assert starts_on(net) - starts in row.starts


def go_on(net: MortalNet, row: Row, program: Path, deployment: Deployment) -> None:
    """Bring it into the state in question; nobody may be left to answer that."""
    with suppress(DMSError):
        match row.during:
            case "recovery":
                net.end(host(net, deployment))
            case "update":
                config = ensemble(net, row, program, generation="2")
                request = UpdateRequest(ensemble_id=deployment.id, ensemble=config, healthy_for_ms=500)
                reply = net.client().call(f"{NAMESPACE}/update", request, UpdateReply, timeout_s=ALLOWED_S)
                assert reply.changed, reply
            case "shutdown":
                deployment.shutdown()


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(WAIT_S)


def deploy(net: MortalNet, row: Row, program: Path) -> tuple[Deployment, psutil.Process]:
    """A deployment that was accepted, and who dies of it: nobody before that, as nobody bids earlier."""
    request = NewDeployment(ensemble=ensemble(net, row, program))
    with net.suspended(*PROVIDERS):
        reply = net.client().call(f"{NAMESPACE}/new", request, NewDeploymentReply, timeout_s=ALLOWED_S)
        assert reply.ensemble_id, reply
        doomed = row.arm(net) if row.during == "creation" else net.process(row.dies)
    return net.deployment(reply.ensemble_id), doomed


def ensemble(net: MortalNet, row: Row, program: Path, *, generation: str = "1") -> EnsembleConfig:
    """A service on each of the providers that the row wants; on which one does not matter where it shall move."""
    peers = {"n1": net.node(PROVIDERS[0]).peer_id, "n2": net.node(PROVIDERS[1]).peer_id}
    allocation = {
        "type": "service",
        "executor": "wasm",
        "resources": {"cpu": {"cores": 0.1}, "ram": {"size": "32MiB"}, "disk": {"size": "16MiB"}},
        "volume": [{"type": "local", "src": "traces", "mount_destination": "/traces"}],
        "execution": {
            "type": "wasm",
            "module": f"${{file:{program.name}}}",
            "environment": {"GENERATION": generation},
        },
    }
    nodes = {
        name: {"allocations": [f"of-{name}"], "failure_recovery": "redeploy"}
        | ({} if row.during == "recovery" else {"peer": peer})
        for name, peer in list(peers.items())[: row.nodes]
    }
    document = {
        "version": "V1",
        "allocations": {f"of-{name}": allocation for name in nodes},
        "nodes": nodes,
        "edges": [{"edges": list(nodes), "rtt": 10_000}] if row.nodes > 1 else [],
    }
    return parse_ensemble(json.dumps(document).encode(), file="the row", base=program.parent, env={}).config


def host(net: MortalNet, deployment: Deployment) -> str:
    (peer,) = {allocation.peer for allocation in deployment.info().allocations.values()}
    return next(name for name in PROVIDERS if net.node(name).peer_id == peer)


def is_in_journal(deployment: Deployment, kind: str) -> bool:
    """Whether the orchestrator had written such an event when it died."""
    kinds = [event.kind for event in deployment.progress().events]
    return kind in kinds[: kinds.index("restored")]


def is_served(net: MortalNet, deployment: Deployment) -> bool:
    """Whether it runs without complaint, each allocation as one process where the orchestrator says."""
    info = deployment.info()
    hosts = {allocation.peer for allocation in info.allocations.values()}
    is_there = all(len(net.programs(name)) == 1 for name in PROVIDERS if net.node(name).peer_id in hosts)
    return info.status == "Running" and not info.error and is_there


def running_on(net: MortalNet) -> int:
    return sum(len(net.programs(name)) for name in PROVIDERS)


def starts_on(net: MortalNet) -> int:
    """How many programs have been started, ever."""
    return sum(file.read_text().count("started\n") for file in net.directory.glob("*/*/storage/*/starts"))


def await_(deployment: Deployment, holds: Callable[[], bool]) -> None:
    def holds_now() -> bool:
        with suppress(DMSError):  # it is being started again
            return holds()
        return False

    look_until(holds_now, lambda: [(event.kind, event.detail) for event in deployment.progress().events])
