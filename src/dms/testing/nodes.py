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
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import trio
from trio import TaskStatus

from dms.actor.actor import Actor
from dms.actor.gate import Gate
from dms.actor.replay_file import ReplayFile, open_window
from dms.actor.security import SecurityContext
from dms.capability.store import context_path, save_context
from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.ids import allocation_id
from dms.executor.protocol import Executor
from dms.identity.ids import did_of
from dms.identity.trust import Provider, TrustContext
from dms.node.capability_file import AnchorKeeper, CapabilityFile, Unkept
from dms.node.endpoints import Connect
from dms.node.hosting import HostingOptions
from dms.node.node import Node, NodeOptions
from dms.node.revocation_spread import SpreadOptions
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.resources.capability import HardwareCapability
from dms.store import Store
from dms.testing.actors import EPOCH_NS, Organisation, key_of, security_of, wall_clock_ns
from dms.testing.clock import ThreadsFirst
from dms.testing.determinism import RandomUUIDs
from dms.testing.disk import DiskStore, LossyDisk, MortalStore
from dms.testing.dying import open_shields, tasks_below
from dms.testing.endpoints import nobody_listens
from dms.testing.executor import Script, ScriptedExecutor
from dms.testing.hardware import FixedMachine
from dms.testing.memory_store import open_memory_store
from dms.testing.network import Delay, MemoryNetwork, VirtualNetwork
from dms.testing.node_user import UserClient
from dms.types.ids import AllocationID, EnsembleID, PeerID
from dms.types.places import Place
from dms.types.resources import CPU, RAM, Disk, Location, Resources

GIB = 1 << 30
ENGINE = "null"
"""The engine of all ensembles made here, and the type of the scripted executor: it asks for no parameters."""
FOUR_CORES = Resources(cpu=CPU(cores=4.0), ram=RAM(size=8 * GIB), disk=Disk(size=50 * GIB))
WAIT_S = 4 * 3600.0
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


class SimulatedNode:
    """One node, over all its lives: its key, its directory, its database and its workloads outlive each of them."""

    node: Node
    store: Store
    user: UserClient

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        *,
        is_member: bool,
        executors: Mapping[str, Executor],
        machine: FixedMachine,
        options: NodeOptions,
        store_file: Path | None,
        capability_file: Path | None,
        disk: LossyDisk | None,
        ahead_s: float,
    ) -> None:
        self.disk = disk
        self.ahead_s = ahead_s
        """How far its wall clock is ahead of the true one; may jump while it runs."""
        self.cluster = cluster
        self.name = name
        self.key = key_of(name)
        self.network: MemoryNetwork = cluster.network.node(self.key.ed25519_seed())
        self.executor = ScriptedExecutor(cluster.nursery, ENGINE, default=Script(duration_s=1.0))
        for number in range(3):
            self.executor.on(f"web{number or ''}-1", Script(duration_s=None))
        self.machine = machine
        self.user = UserClient(self, cluster.user_key)
        self._is_member = is_member
        self._executors = executors
        self._options = options
        self._store_file = store_file
        self._capability_file = capability_file
        self._memory: Store | None = None
        self._starts: Counter[str] = Counter()
        self._scope: trio.CancelScope | None = None
        self._task: trio.lowlevel.Task | None = None
        self._replay: ReplayFile | None = None
        self._ended = trio.Event()
        self.was_killed = False
        self.born: Callable[[Node], None] = lambda _node: None
        """Called with what is to live, before each life."""
        self.died = trio.Event()
        """Set once it is dead of :meth:`die_after`."""

    # life ------------------------------------------------------------------------------------------------------------

    @property
    def peer(self) -> PeerID:
        """Its peer id."""
        return self.network.peer_id

    @property
    def is_running(self) -> bool:
        """Whether it is alive."""
        return self._scope is not None

    def clock_ns(self) -> int:
        """Its wall clock, UNIX nanoseconds."""
        return wall_clock_ns() + int(self.ahead_s * 10**9)

    @property
    def tasks(self) -> int:
        """How many tasks it consists of now."""
        return 0 if self._task is None else sum(1 for _ in tasks_below(self._task))

    async def start(self) -> None:
        """Begin a life; everything of an earlier one is found again."""
        if self.network.is_crashed:
            self.cluster.network.restart(self.network)
        self.store = await self._open_store()
        self.executor = self._inherited_executor()
        security, anchors = self._security()
        self._ended, self.was_killed = trio.Event(), False
        executors = {self.executor.type: self.executor, **self._executors}
        gate = self._gate(security)
        self.node = Node(
            Actor(security, self.network, gate=gate), self.store, self.machine, executors, self._options, anchors
        )
        self.born(self.node)
        self._scope = trio.CancelScope()
        await self.cluster.nursery.start(self._run, self._scope)

    async def stop(self) -> None:
        """End it in order; workloads go on."""
        await self._end()

    async def kill(self) -> None:
        """End it as ``kill -9`` does: no farewell to anybody, nothing more reaches the disk. Workloads go on. To make it a
        power cut, let :meth:`lose_workloads` follow, and :meth:`dms.testing.disk.LossyDisk.lose`.
        """
        self.cut()
        await self._end()

    def cut(self) -> None:
        """The first moment of :meth:`kill`, after which nothing that it does is noticed by anybody."""
        self.cluster.network.crash(self.network)
        self.was_killed = True
        self.store._closed = True  # noqa: SLF001  as above
        self.executor.cut()
        if self.disk is not None:
            self.disk.cut()
        if self._scope is not None:
            self._scope.cancel()

    def die_after(self, transactions: int) -> None:
        """Kill it right after so many more transactions of its database (which must be in memory); see :attr:`died`."""
        store = self.store
        assert isinstance(store, MortalStore)
        self.died = trio.Event()
        store.left, store.die = transactions, self._die

    async def restart(self) -> None:
        """Kill it and bring it back at once."""
        await self.kill()
        await self.start()

    def lose_workloads(self) -> None:
        """As a reboot of the machine does to programs; call it while the node is down."""
        self._note_starts()
        for execution in self.executor._executions.values():  # noqa: SLF001  as above
            execution.player.cancel()
        fresh = ScriptedExecutor(self.cluster.nursery, ENGINE, default=Script(duration_s=1.0))
        fresh._scripts, fresh.watch = list(self.executor._scripts), self.executor.watch  # noqa: SLF001  as above
        fresh.choose = self.executor.choose
        self.executor = fresh

    def _die(self) -> None:
        async def die() -> None:
            await self.kill()
            self.died.set()

        self.cluster.network.crash(self.network)
        self.cluster.nursery.start_soon(die)

    async def _run(self, scope: trio.CancelScope, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._task = trio.lowlevel.current_task()
        if self.disk is not None:
            self.disk.use()
        try:
            with scope:
                async with self.network.run(), trio.open_nursery() as nursery:
                    if self._replay is not None:
                        nursery.start_soon(self._replay.keep_compact)
                    await nursery.start(self.node.run)
                    task_status.started()
                    await trio.sleep_forever()
        except Exception:
            if not self.was_killed:  # a dying node may complain that its disk is gone
                raise
        finally:
            self._scope = self._task = None
            if self._replay is not None:
                self._replay.close()
            self._ended.set()

    async def _end(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
            while self.was_killed and self._task is not None:
                open_shields(self._task)
                await trio.lowlevel.checkpoint()
            await self._ended.wait()
        if self._store_file is not None:
            self.store._closed = False  # noqa: SLF001  as above
            await self.store.aclose()

    def _gate(self, security: SecurityContext) -> Gate | None:
        if self.disk is None:
            return None
        elapsed_ns = int(trio.current_time() * 10**9)
        self._replay = open_window(self.disk.root / "replay", clock_ns=security.now_ns, elapsed_ns=elapsed_ns)
        return Gate(self.network.peer_id, replay=self._replay.window, sync_replay=self._replay.sync)

    def _security(self) -> tuple[SecurityContext, AnchorKeeper]:
        organisation = self.cluster.organisation if self._is_member else None
        security = security_of(
            self.key, organisation, root=did_of(self.cluster.user_key.public), clock_ns=self.clock_ns
        )
        if self._capability_file is None:
            return security, Unkept(security.capabilities)
        if not self._capability_file.exists():
            save_context(security.capabilities, self._capability_file)
        trust, clock = TrustContext(Provider.of_key(self.key)), trio.lowlevel.current_clock()

        def clock_ns() -> int:  # also asked by the thread that writes
            return EPOCH_NS + int(clock.current_time() * 10**9)

        file = CapabilityFile(self._capability_file, "dms", security.did, trust, clock_ns=clock_ns)
        return SecurityContext(self.key, file.context, clock_ns=wall_clock_ns), file

    async def _open_store(self) -> Store:
        if self._store_file is not None:
            store = await Store.open(self._store_file, now=_now)
            self.cluster.watch_threads_of(store)
            return store
        if self._memory is None:
            self._memory = await open_memory_store(_now)
        # a new door to the same database, so that the earlier life's can stay shut
        if self.disk is not None:
            self.store = DiskStore(
                self._memory._engine,  # noqa: SLF001  as above
                self.disk,
                lambda: self.clock_ns() / 10**9,
                written=lambda: self.cluster.watch("write", self.name),
            )
            return self.store
        self._memory = MortalStore(self._memory._engine, None, None, _now)  # noqa: SLF001  as above
        return self._memory

    # workloads ---------------------------------------------------------------------------------------------------------

    def starts(self, ensemble: EnsembleID) -> dict[str, int]:
        """How often each ``<node>.<allocation>`` was really started here, in all lives."""
        counted = self._starts + Counter(r.job_id for r in self.executor.started)
        return {
            id_.removeprefix(f"{ensemble}_"): times
            for id_, times in sorted(counted.items())
            if id_.startswith(f"{ensemble}_")
        }

    def _inherited_executor(self) -> ScriptedExecutor:
        if not (self.executor.is_cut or self.executor._executions or self.executor.started):  # noqa: SLF001  as above
            return self.executor
        self._note_starts()
        return self.executor.restarted(self.cluster.nursery)

    def _note_starts(self) -> None:
        self._starts += Counter(r.job_id for r in self.executor.started)
        self.executor.started.clear()

    # looking inside ------------------------------------------------------------------------------------------------------

    def state(self, ensemble: EnsembleID) -> DeploymentState:
        """What this node, as orchestrator, knows of a deployment now."""
        return self.node.deployments.get(ensemble).state

    async def wait_for(self, ensemble: EnsembleID, *phases: Phase, timeout_s: float = WAIT_S) -> DeploymentState:
        """Until the deployment is in one of the phases.

        :raises AssertionError: it ended in another, or took too long; with all that is known.
        """
        return await self._until(ensemble, lambda state: state.phase in phases, timeout_s)

    async def wait_until_settled(self, ensemble: EnsembleID, timeout_s: float = WAIT_S) -> DeploymentState:
        """Until nothing is left to do for a deployment."""
        return await self._until(ensemble, lambda state: state.is_settled, timeout_s)

    async def _until(
        self, ensemble: EnsembleID, is_there: Callable[[DeploymentState], bool], timeout_s: float
    ) -> DeploymentState:
        with trio.move_on_after(timeout_s):
            while True:
                live = self.node.deployments._live.get(ensemble)  # noqa: SLF001  as above
                state = self.state(ensemble)
                if is_there(state):
                    return state
                if live is None:
                    break
                await live.changed.wait()
        story = [f"{e.kind} {e.payload}" for e in await self.node.deployments.events(ensemble, 0)]
        raise AssertionError(f"{self.state(ensemble).phase}: {self.state(ensemble).error}\n" + "\n".join(story))

    def holdings(self) -> dict[str, object]:
        """What it has taken for anybody: commitments, allocations, ports, workloads that go on. Empty: nothing."""
        held: dict[str, Iterable[object]] = {
            "commitments": self.node.resources.commitments,
            "allocations": self.node.resources.allocations,
            "ports": self.node.ports.held,
            "workloads": [e for e, x in self.executor._executions.items() if x.result is None],  # noqa: SLF001
        }
        return {what: sorted(str(one) for one in ones) for what, ones in held.items() if list(ones)}

    def hosted_state(self, ensemble: EnsembleID, key: str) -> str:
        """The state of an allocation here; empty when there is none."""
        found = self.node.hosting.find(ensemble, AllocationID(f"{ensemble}_{key}"))
        return "" if found is None else found.view.state.value


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


def _now() -> float:
    return EPOCH_NS / 10**9 + trio.current_time()
