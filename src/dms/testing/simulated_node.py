"""One node of a :class:`~dms.testing.nodes.Cluster`, over all its lives: started, stopped, killed, looked into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from trio import TaskStatus

from dms.actor.actor import Actor
from dms.actor.gate import Gate
from dms.actor.replay_file import ReplayFile, open_window
from dms.actor.security import SecurityContext
from dms.capability.store import save_context
from dms.executor.protocol import Executor
from dms.identity.ids import did_of
from dms.identity.trust import Provider, TrustContext
from dms.node.capability_file import AnchorKeeper, CapabilityFile, Unkept
from dms.node.node import Node, NodeOptions
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.store import Store
from dms.testing.actors import EPOCH_NS, key_of, security_of, wall_clock_ns
from dms.testing.disk import DiskStore, LossyDisk, MortalStore
from dms.testing.dying import open_shields, tasks_below
from dms.testing.executor import Script, ScriptedExecutor
from dms.testing.hardware import FixedMachine
from dms.testing.memory_store import open_memory_store
from dms.testing.network import MemoryNetwork
from dms.testing.node_user import UserClient
from dms.types.ids import AllocationID, EnsembleID, PeerID

if TYPE_CHECKING:
    from dms.testing.nodes import Cluster

ENGINE = "null"
"""The type of the scripted executor: it asks for no parameters."""
WAIT_S = 4 * 3600.0


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


def _now() -> float:
    return EPOCH_NS / 10**9 + trio.current_time()
