"""Whole nodes on the virtual network: start, stop, kill and restart them, and rule them as their user.

::

    async with trio.open_nursery() as nursery:
        cluster = Cluster(tmp_path, nursery, seed=1)
        alice = await cluster.start("alice")
        bob = await cluster.start("bob", offers=FOUR_CORES)
        job = await alice.user.deploy(ensemble({"n1": {"count": "task"}}))
        await alice.wait_for(job, Phase.COMPLETED)

Everything is the product's own except the seams: the network and the hardware are twins, workloads are played by a
:class:`~dms.testing.executor.ScriptedExecutor` (those named ``web…`` until they are ended, all others for a second,
unless told otherwise), the database is in memory (or a file), the wall clock follows trio's. Use
it with ``autojump_clock``: a deployment takes milliseconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from dms.capability.store import context_path
from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.ids import allocation_id
from dms.executor.protocol import Executor
from dms.node.endpoints import Connect
from dms.node.hosting import HostingOptions
from dms.node.node import Node, NodeOptions
from dms.node.revocation_spread import SpreadOptions
from dms.resources.capability import HardwareCapability
from dms.store import Store
from dms.testing.actors import Organisation, key_of
from dms.testing.clock import ThreadsFirst
from dms.testing.determinism import RandomUUIDs
from dms.testing.disk import LossyDisk
from dms.testing.endpoints import nobody_listens
from dms.testing.hardware import FixedMachine
from dms.testing.network import Delay, VirtualNetwork
from dms.testing.simulated_node import ENGINE, WAIT_S, SimulatedNode
from dms.types.ids import AllocationID, EnsembleID, PeerID
from dms.types.places import Place
from dms.types.resources import CPU, RAM, Disk, Location, Resources

__all__ = ["ENGINE", "FOUR_CORES", "GIB", "Cluster", "SimulatedNode", "ensemble", "full_id", "until"]

GIB = 1 << 30
FOUR_CORES = Resources(cpu=CPU(cores=4.0), ram=RAM(size=8 * GIB), disk=Disk(size=50 * GIB))
LOOK_S = 0.001
CONNECT_S = 1.0
"""Until a new node is connected to the others."""


def ensemble(
    nodes: Mapping[str, Mapping[str, str]],
    *,
    cores: float = 1.0,
    ram_bytes: int = GIB,
    disk_bytes: int = GIB,
    peers: Mapping[str, str] | None = None,
    ports: Mapping[str, list[dict[str, object]]] | None = None,
    executor: str = ENGINE,
    allocation: Mapping[str, object] | None = None,
    **members: object,
) -> EnsembleConfig:
    """Ensemble nodes with their allocations: ``{"n1": {"count": "task", "web": "service"}}``.

    Every allocation wants the same; ``peers`` pins nodes, ``allocation`` and ``members`` add to the description.
    """
    allocations = {
        name: {
            "type": type_,
            "executor": executor,
            "resources": {"cpu": {"cores": cores}, "ram": {"size": ram_bytes}, "disk": {"size": disk_bytes}},
            "execution": {"type": executor},
            **(allocation or {}),
        }
        for parts in nodes.values()
        for name, type_ in parts.items()
    }
    described = {
        node: {"allocations": list(parts)}
        | ({"peer": peers[node]} if peers and node in peers else {})
        | ({"ports": ports[node]} if ports and node in ports else {})
        for node, parts in nodes.items()
    }
    return decode_ensemble({"v1": {"allocations": allocations, "nodes": described, **members}})


class Cluster:
    """Nodes of one organisation on one virtual network."""

    def __init__(
        self,
        work_dir: Path,
        nursery: trio.Nursery,
        *,
        seed: int = 0,
        delay_s: Delay = 0.005,
        loss: float = 0.0,
        gossip: bool = False,
        user: str = "user",
    ) -> None:
        self.network = VirtualNetwork(seed, delay_s=delay_s, loss=loss, gossip=gossip)
        self.organisation = Organisation()
        self.user_key = key_of(user)
        self.work_dir = work_dir
        self.nursery = nursery
        self.nodes: dict[str, SimulatedNode] = {}
        self.watch: Callable[[str, str], None] = lambda _what, _who: None
        """Told of every transaction of a node with a disk of its own."""
        self._threads = ThreadsFirst()
        trio.lowlevel.add_instrument(self._threads)

    async def start(
        self,
        name: str,
        *,
        offers: Resources | None = None,
        is_member: bool = True,
        location: Location | None = None,
        position: Place | None = None,
        store_file: bool = False,
        executors: Mapping[str, Executor] | None = None,
        hosting: HostingOptions | None = None,
        port_range: tuple[int, int] = (16384, 32768),
        machine: FixedMachine | None = None,
        capability_file: bool = False,
        spread: SpreadOptions | None = None,
        allow_privileged: bool = False,
        keep_deployments_s: float = 0.0,
        declared: HardwareCapability | None = None,
        disk: LossyDisk | None = None,
        ahead_s: float = 0.0,
        born: Callable[[Node], None] | None = None,
        connect: Connect | None = None,
    ) -> SimulatedNode:
        """A running node; ``offers`` is what it onboards, ``executors`` come beside the scripted one. With a
        ``capability_file`` its anchors are on disk and outlive its lives. All of it that is to last lies on ``disk``, if
        there is one (:mod:`dms.testing.disk`); its wall clock is ``ahead_s`` of the true one. ``connect`` plays what listens
        in its allocations; without one, nothing does.
        """
        node = SimulatedNode(
            self,
            name,
            is_member=is_member,
            executors=executors or {},
            machine=machine or FixedMachine(),
            options=NodeOptions(
                work_dir=disk.root if disk else self.work_dir / name,
                location=location or Location(),
                position=position,
                port_range=port_range,
                check_cpu_usage=False,
                hosting=hosting or HostingOptions(),
                random_uuid=RandomUUIDs(f"{self.network.seed}/{name}"),
                port_rng=random.Random(f"{self.network.seed}/{name}/ports"),  # noqa: S311  a simulation, not a secret
                spread=spread or SpreadOptions(),
                allow_privileged=allow_privileged,
                keep_deployments_s=keep_deployments_s,
                declared=declared or HardwareCapability(),
                connect=connect or nobody_listens,
            ),
            capability_file=context_path(self.work_dir / name, "dms") if capability_file else None,
            store_file=self.work_dir / f"{name}.sqlite" if store_file else None,
            disk=disk,
            ahead_s=ahead_s,
        )
        self.nodes[name] = node
        node.born = born or node.born
        await node.start()
        await trio.sleep(CONNECT_S)
        if offers is not None:
            await node.node.onboarding.onboard(offers)
        return node

    def of_peer(self, peer: PeerID) -> SimulatedNode:
        """The node with this peer id."""
        return next(node for node in self.nodes.values() if node.peer == peer)

    def watch_threads_of(self, store: Store) -> None:
        """Time stands still while a database file is written."""
        self._threads.limiters.append(store._one_at_a_time)  # noqa: SLF001  a twin looks behind the seam

    def assert_nothing_is_held(self) -> None:
        """No node has resources, ports, reservations or running workloads for anybody."""
        for name, node in self.nodes.items():
            if node.is_running:
                assert node.holdings() == {}, f"{name} still holds {node.holdings()}"


async def until(is_there: Callable[[], object], *, timeout_s: float = WAIT_S, every_s: float = LOOK_S) -> None:
    """Until something holds that no event tells of; looked at every virtual millisecond, or less often.

    :raises trio.TooSlowError: it never did.
    """
    with trio.fail_after(timeout_s):
        while not is_there():  # noqa: ASYNC110  no event tells
            await trio.sleep(every_s)


def full_id(ensemble: EnsembleID, key: str) -> AllocationID:
    """The allocation id of ``<node>.<allocation>``."""
    node, _, name = key.partition(".")
    return allocation_id(ensemble, node, name)
