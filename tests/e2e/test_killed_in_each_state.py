"""``kill -9`` of the orchestrator's and of a provider's process in each state of a deployment, at a chosen write.

The table of docs/explanation/guarantees.md, on real processes. In each row a service is deployed, or shut down; one daemon
dies where the row says so (:mod:`dms.testing.mortal`), is started again, and everything must end as the row says: a
service that was accepted runs, on one machine and one process, started as often as told and never twice at a time; one
that was shut down is over; and then nothing is reserved anywhere.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import wasmtime

from dms.cli.following import NAMESPACE, Deployment
from dms.ensemble.loading import parse_ensemble
from dms.node.payloads import NewDeployment, NewDeploymentReply
from dms.testing.localnet import WAIT_S
from dms.testing.mortal import MortalNet, When, mortal_net
from dms.types.errors import DMSError

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("mortal")]

ROOT = Path(__file__).parents[2]
ORCHESTRATOR, PROVIDERS = "node3", ("node1", "node2")
PROVIDER = PROVIDERS[0]
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """Where the orchestrator's or the provider's process dies, and what becomes of it."""

    state: str
    dies: str
    when: When
    words: tuple[str, ...]
    """Of the write at which it dies."""
    starts: int = 1
    """Of programs, in all."""
    nodes: int = 1
    is_free: bool = False
    """Whether any provider may be chosen, and another one when that dies."""
    is_shut_down: bool = False

    @property
    def is_late(self) -> bool:
        """Whether it must run before."""
        return self.is_shut_down or self.is_free

    def __str__(self) -> str:
        return f"{self.state}-{'orchestrator' if self.dies == ORCHESTRATOR else 'provider'}-{self.when}"


def journal(kind: str) -> tuple[str, ...]:
    return ("INSERT INTO deployment_journal", f"'{kind}'")


ROWS = [
    Row("preparing", ORCHESTRATOR, "after", journal("bid_received")),
    Row("generating", ORCHESTRATOR, "after", journal("bids_collected"), nodes=2, starts=2),
    Row("committing", ORCHESTRATOR, "before", journal("allocates_done")),
    Row("provisioning", ORCHESTRATOR, "before", journal("starts_done")),
    Row("running", ORCHESTRATOR, "after", journal("starts_done")),
    Row("recovering", ORCHESTRATOR, "after", journal("peer_lost"), starts=2, is_free=True),
    Row("shutting-down", ORCHESTRATOR, "after", journal("shutdown_requested"), is_shut_down=True),
    Row("committing", PROVIDER, "before", ("INSERT INTO reservations",)),
    Row("committing", PROVIDER, "after", ("INSERT INTO reservations",)),
    Row("allocating", PROVIDER, "after", ("INSERT INTO allocations",)),
    Row("provisioning", PROVIDER, "before", ("allocations SET", '"state":"running"')),
    Row("running", PROVIDER, "after", ("allocations SET", '"state":"running"')),
    Row("shutting-down", PROVIDER, "before", ("allocations SET", '"state":"terminated"'), is_shut_down=True),
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


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_whoever_is_killed_in_whatever_state_it_ends_as_documented(row: Row, net: MortalNet, program: Path) -> None:
    free, starts = {name: net.free(name) for name in PROVIDERS}, starts_on(net)
    if row.is_late:
        deployment, _ = deploy(net, row, program, is_doomed=False)
        await_(deployment, lambda: deployment.status().status == "Running")
        victim = net.doom(row.dies, row.when, row.words)
        if row.is_shut_down:
            with suppress(DMSError):  # the orchestrator may die before it can say that it will
                deployment.shutdown()
        else:
            net.end(host(net, deployment), signal.SIGKILL)
    else:
        deployment, victim = deploy(net, row, program, is_doomed=True)
    victim.wait(WAIT_S)
    net.start(row.dies)
    if row.is_shut_down:
        await_(deployment, lambda: deployment.status().status == "Completed")
    else:
        await_(deployment, lambda: is_served(net, deployment))
    if row.dies == ORCHESTRATOR:
        assert is_in_journal(deployment, row.words[-1].strip("'")) is (row.when == "after")
    net.mend()
    if not row.is_shut_down:
        await_(deployment, lambda: running_on(net) == row.nodes)
        deployment.shutdown()
    await_(deployment, lambda: deployment.status().status == "Completed" and running_on(net) == 0)
    await_(deployment, lambda: {name: net.free(name) for name in PROVIDERS} == free)
    assert starts_on(net) - starts == row.starts


def deploy(net: MortalNet, row: Row, program: Path, *, is_doomed: bool) -> tuple[Deployment, psutil.Process]:
    """A deployment that was accepted, and who dies of it: nobody before that, as nobody bids earlier."""
    peers = {"n1": net.node(PROVIDERS[0]).peer_id, "n2": net.node(PROVIDERS[1]).peer_id}
    allocation = {
        "type": "service",
        "executor": "wasm",
        "resources": {"cpu": {"cores": 0.1}, "ram": {"size": "32MiB"}, "disk": {"size": "16MiB"}},
        "volume": [{"type": "local", "src": "traces", "mount_destination": "/traces"}],
        "execution": {"type": "wasm", "module": f"${{file:{program.name}}}"},
    }
    nodes = {
        name: {"allocations": [f"of-{name}"], "failure_recovery": "redeploy"} | ({} if row.is_free else {"peer": peer})
        for name, peer in list(peers.items())[: row.nodes]
    }
    document = {
        "version": "V1",
        "allocations": {f"of-{name}": allocation for name in nodes},
        "nodes": nodes,
        "edges": [{"edges": list(nodes), "rtt": 10_000}] if row.nodes > 1 else [],
    }
    config = parse_ensemble(json.dumps(document).encode(), file="the row", base=program.parent, env={}).config
    with net.suspended(*PROVIDERS):
        request = NewDeployment(ensemble=config)
        reply = net.client().call(f"{NAMESPACE}/new", request, NewDeploymentReply, timeout_s=WAIT_S)
        assert reply.ensemble_id, reply
        victim = net.doom(row.dies, row.when, row.words) if is_doomed else net.process(row.dies)
    return net.deployment(reply.ensemble_id), victim


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
    return sum(file.read_text().count("started\n") for file in net.directory.glob("*/work/storage/*/starts"))


def await_(deployment: Deployment, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with suppress(DMSError):  # it is being started again
            if holds():
                return
        time.sleep(POLL_S)
    raise AssertionError([(event.kind, event.detail) for event in deployment.progress().events])
