"""Messages per deployment in simulated networks of 10, 100 and 1,000 nodes, every one of them able to host.

A flat network on the virtual clock: whoever deploys is connected to all others, which bid as the product does and
keep their bids by answering commits, allocations and starts. (That they are not connected to each other saves time
and no message.) Counted is all that is sent point to point from the submission of an ensemble of three nodes until it
runs, broadcasts and their copies apart. Beside it: what it would take if everybody answered, which is what a network
of the original does, and the same for an ensemble that only one node of the network can host.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from trio import TaskStatus
from trio.testing import MockClock

from bench.networks import Bench
from bench.report import Report
from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.allocation import messages as allocation
from dms.ensemble.config import EnsembleConfig
from dms.identity.ids import did_of
from dms.node.bidding import Bidder, Offerings
from dms.node.public import PublicBehaviours
from dms.orchestrator import messages as m
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.actors import key_of, security_of
from dms.testing.nodes import ENGINE, FOUR_CORES, Cluster, ensemble
from dms.types.ids import Capability
from dms.types.resources import Location, Resources

SIZES = (10, 100, 1_000)
SETTLE_S = 90.0
"""Until everybody is connected and has greeted."""
MAX_ANSWERS = 100
"""Goal: bids for an ensemble of three nodes, whatever the size of the network."""
THREE = ensemble({f"n{number}": {f"web{number}": "service"} for number in range(3)})
RARE = ensemble({"n1": {"web": "service"}}, cores=8.0)
LARGE = Resources(cpu=FOUR_CORES.cpu.__class__(cores=16.0), ram=FOUR_CORES.ram, disk=FOUR_CORES.disk)


def measure(_bench: Bench) -> Report:
    """See the module."""
    report = Report("bids", "how many messages does a deployment take in a network of this size?")
    for size in SIZES:
        began_s = time.monotonic()
        common, rare = trio.run(_measure, size, clock=MockClock(autojump_threshold=0))
        gc.collect()
        for name, cost in (("three nodes that anybody can host", common), ("one node that one peer can host", rare)):
            report.single(f"{size} nodes, {name}: messages", cost.messages, "")
            report.single(f"{size} nodes, {name}: bids", cost.bids, "")
            report.single(f"{size} nodes, {name}: broadcasts", cost.broadcasts, "")
            report.single(f"{size} nodes, {name}: until it runs, simulated", cost.time_s, "s")
        report.single(f"{size} nodes: bids if all answered", size, "")
        report.goal(f"{size} nodes: bids for three nodes", common.bids, MAX_ANSWERS, "")
        report.single(f"{size} nodes: time of the simulation", time.monotonic() - began_s, "s")
    return report


@dataclass(frozen=True, slots=True)
class _Cost:
    messages: int
    bids: int
    broadcasts: int
    time_s: float


class _Host:
    """A machine that bids and keeps its bids; nothing runs on it."""

    def __init__(self, actor: Actor, free: Resources) -> None:
        self._actor = actor
        self._free = free
        self._bidder = Bidder(actor, self)

    async def offerings(self) -> Offerings | None:
        peer = self._actor.network.peer_id
        return Offerings(peer, frozenset({ENGINE}), machine=self._free, free=self._free, location=Location())

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with self._actor.network.run(), trio.open_nursery() as nursery:
            await nursery.start(self._actor.run)
            await self._register()
            task_status.started()

    async def _register(self) -> None:
        async def offered() -> Resources | None:
            return self._free

        PublicBehaviours(self._actor.handle.did.uri, offered).register(self._actor)
        self._actor.on(m.BID_REQUEST, self._bidder.on_request, payload=m.BidRequest, topic=m.BID_REQUEST_TOPIC)
        self._actor.on(m.COMMIT, self._commit, payload=m.CommitRequest)
        self._actor.on(m.ALLOCATE, self._allocate, payload=m.AllocateRequest)
        self._actor.on(m.REVERT, self._revert, payload=m.RevertRequest)
        self._actor.on(allocation.START, self._start, payload=allocation.StartRequest)
        await self._actor.subscribe(m.BID_REQUEST_TOPIC)

    async def _commit(self, message: Message[m.CommitRequest]) -> m.CommitReply:
        return m.CommitReply(ok=True, port_mapping=message.payload.port_mapping)

    async def _allocate(self, message: Message[m.AllocateRequest]) -> m.AllocateReply:
        own = did_of(self._actor.security.id.public_key())
        self._actor.grant(message.sender.did, own, [Capability("/dms/allocation")])
        return m.AllocateReply(ok=True, allocations=dict.fromkeys(message.payload.allocations, self._actor.handle))

    async def _revert(self, _message: Message[Any]) -> m.Reply:
        return m.Reply(ok=True)

    async def _start(self, _message: Message[Any]) -> allocation.StartReply:
        return allocation.StartReply(ok=True)


async def _measure(size: int) -> tuple[_Cost, _Cost]:
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        nursery = await stack.enter_async_context(trio.open_nursery())
        cluster = Cluster(Path(directory), nursery, seed=size)
        cluster.network.is_mesh = False
        alice = await cluster.start("alice")
        bootstrap = alice.network.listen_addresses[:1]
        for number in range(size - 1):
            key = key_of(f"host {number}")
            network = cluster.network.node(key.ed25519_seed(), bootstrap=bootstrap)
            actor = Actor(security_of(key, cluster.organisation, root=did_of(cluster.user_key.public)), network)
            await nursery.start(_Host(actor, LARGE if number == size // 2 else FOUR_CORES).run)
        await trio.sleep(SETTLE_S)

        async def cost(config: EnsembleConfig) -> _Cost:
            before, began_s = _sent(cluster), trio.current_time()
            job = await alice.user.deploy(config)
            await alice.wait_for(job, Phase.RUNNING)
            after = _sent(cluster)
            told = [entry.kind for entry in await alice.node.deployments.events(job, 0)]
            return _Cost(
                after["messages out"] - before["messages out"],
                told.count("bid_received"),
                after["gossip out"] - before["gossip out"],
                trio.current_time() - began_s,
            )

        found = await cost(THREE), await cost(RARE)
        nursery.cancel_scope.cancel()
    return found


def _sent(cluster: Cluster) -> Counter[str]:
    total: Counter[str] = Counter()
    for node in cluster.network.nodes:
        total.update(node.counters())
    return total
