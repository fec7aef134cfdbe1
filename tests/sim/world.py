"""One run of a plan: machines, users and faults on one virtual clock, and what is left of it in the end."""

from __future__ import annotations

import hashlib
import itertools
import logging
import random
import tempfile
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
from tests.sim.byzantine import corrupt
from tests.sim.invariants import Broken, Watch
from tests.sim.plan import CITIES, FAR_S, FIBRE_KM_PER_S, GRACE_S, Fault, JobPlan, NodePlan, PartPlan, Plan, plain
from tests.sim.recording import Book, ReadAlong
from tests.sim.users import User
from tests.sim.workloads import script_of
from trio.testing import MockClock

from dms.allocation.hooks.liveness import ORPHAN_GRACE_S
from dms.ensemble.config import EdgeConfig, EnsembleConfig
from dms.node.hosting import HostingOptions
from dms.node.node import Node
from dms.orchestrator.lifecycle.standby import node_of
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.resources.declared import declared
from dms.testing.determinism import repeatable
from dms.testing.disk import LossyDisk, current_disk
from dms.testing.executor import Script
from dms.testing.nodes import Cluster, SimulatedNode
from dms.types.ids import EnsembleID, PeerID
from dms.types.places import Place
from dms.types.resources import CPU, RAM, Disk, Location, Resources

GIB: Final = 1 << 30
LOOK_S: Final = 5.0
CALM_S: Final = 900.0
"""Once nothing goes wrong any more, until every deployment runs or has ended: the rest of the users' patience, the starts
that may take as long, the tries to tell those that never answer, and all that once more where a failure deploys anew."""
SERVED_S: Final = 240.0
"""Until what runs is really there, once, and nothing else is: three signs of life, each with its answer."""
ENDED_S: Final = 240.0
GREETED_S: Final = 90.0
"""Until whoever met a moment ago has greeted each other, or given up."""
RETURNED_S: Final = 1500.0
"""Until nothing is held for anybody: what was never started is kept for fifteen minutes."""
RAN_S: Final = 200.0
"""Until what is scheduled was deployed once, or not, for a reason."""
KEPT_EVENTS: Final = 400
PERSIST_LOGS_S: Final = 60.0


@dataclass(frozen=True)
class Outcome:
    """What became of a run: the invariant that broke, if one did, and the fingerprint of everything that happened."""

    plan: Plan
    broken: str
    detail: str
    fingerprint: str
    events: int
    story: tuple[str, ...] = field(repr=False, default=())


def simulate(plan: Plan) -> Outcome:
    """Run a plan from its beginning to its end; the same plan has the same outcome."""
    shelf = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="dms-sim-", dir=shelf) as directory, repeatable(plan.seed):
        world = World(plan, Path(directory))
        broken, detail = "", ""
        errors = _Errors(world)
        logger = logging.getLogger("dms")
        before = logger.level, logger.propagate
        logger.addHandler(errors)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        try:
            trio.run(world.run, clock=MockClock(autojump_threshold=0.0))
        except BaseException as exc:
            found = _first_broken(exc)
            if found is None and not isinstance(exc, Exception):
                raise
            if found is None:
                broken, detail = "crashed", "".join(traceback.format_exception(exc))
            else:
                broken, detail = found.invariant, found.detail
        finally:
            logger.removeHandler(errors)
            logger.setLevel(before[0])
            logger.propagate = before[1]
            world.close()
    return Outcome(plan, broken, detail, world.fingerprint(), world.events, tuple(world.story))


class World:
    """All machines of a run, and what happens to them."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.events = 0
        self.story: deque[str] = deque(maxlen=KEPT_EVENTS)
        self.cluster: Cluster
        self.jobs: dict[str, EnsembleID] = {}
        """By the name of the job, once its deployment is acknowledged; ``<job>#<number>`` for each run of a schedule."""
        self.ended_by_user: set[str] = set()
        self.gone: set[str] = set()
        """Machines that never come back."""
        self.users = {job.name: User(self, job) for job in plan.jobs}
        self.watch = Watch(self)
        self._directory = directory
        self._hash = hashlib.sha256()
        self._names: dict[PeerID, str] = {}
        self._disks: list[LossyDisk] = []
        self._plans = {node.name: node for node in plan.nodes}
        self._scheduled: dict[EnsembleID, str] = {}
        self._grace_s = GRACE_S if plan.vanishing else ORPHAN_GRACE_S
        self._down: Counter[str] = Counter()
        self._moving: dict[str, trio.Lock] = {}

    # what the runner sees ----------------------------------------------------------------------------------------------

    def note(self, what: str) -> None:
        """Something happened."""
        line = f"{trio.current_time():.6f} {what}"
        self.events += 1
        self._hash.update(line.encode() + b"\n")
        self.story.append(line)

    def fingerprint(self) -> str:
        """Of all that happened, in its order."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Forget the disks."""
        for disk in self._disks:
            disk.close()

    def honest(self) -> list[SimulatedNode]:
        """Those that keep to the rules, and are there."""
        present = ((name, node) for name, node in self.cluster.nodes.items() if name not in self.gone)
        return [node for name, node in present if not self._plans[name].byzantine]

    def job(self, name: str) -> JobPlan:
        """The plan of a deployment."""
        return self.users[name.partition("#")[0]].job

    def machine(self, name: str) -> NodePlan:
        """The plan of a machine."""
        return self._plans[name]

    def part(self, name: str) -> PartPlan:
        """The part of a job with this name, which is that of its allocation."""
        return next(part for job in self.plan.jobs for part in job.parts if part.name == plain(name))

    def name_of(self, peer: PeerID) -> str:
        """The machine with this id."""
        return self._names.get(peer, "")

    # the run -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the start of the machines to their end."""
        plan = self.plan
        async with trio.open_nursery() as nursery:
            self.cluster = Cluster(
                self._directory, nursery, seed=plan.seed, delay_s=plan.delay_s, gossip=plan.has_meshes
            )
            trio.lowlevel.remove_instrument(self.cluster._threads)  # none are at work here, and it costs time
            self.cluster.watch = lambda what, who: self.note(f"{what} {who}")
            self.cluster.network.watchers.append(self._arrived)
            for node in plan.nodes:
                await self._start(node)
            network = self.cluster.network
            network.jitter_s, network.duplication = plan.jitter_s, plan.duplication
            network.reordering = plan.reordering
            network.set_loss(plan.loss)
            for here, there in itertools.combinations(plan.nodes, 2):
                way_s = fibre_s(here, there)
                if way_s > plan.delay_s:
                    ends = (self.cluster.nodes[node.name].network for node in (here, there))
                    network.set_link(*ends, delay_s=way_s)
            for a, b in plan.far:
                first, second = (self.cluster.nodes[name].network for name in (a, b))
                network.set_link(first, second, delay_s=plan.delay_s + FAR_S)
            begun_s = trio.current_time()
            async with trio.open_nursery() as busy:
                for user in self.users.values():
                    busy.start_soon(user.live, begun_s)
                for fault in plan.faults:
                    busy.start_soon(self._fail, fault, begun_s)
                watching = trio.CancelScope()
                nursery.start_soon(self._look, watching)
            await self._end()
            watching.cancel()
            for simulated in self.cluster.nodes.values():
                await simulated.stop()
            nursery.cancel_scope.cancel()

    async def _start(self, plan: NodePlan) -> None:
        disk = LossyDisk(
            self._directory / plan.name,
            random.Random(f"{self.plan.seed}/{plan.name}/disk"),
            pause_s=plan.disk_pause_s,
        )
        self._disks.append(disk)
        book = Book(lambda what: self.watch.complaints.append(f"{plan.name}: {what}"))

        def read_along(node: Node) -> None:
            journal = node.deployments._journal
            node.deployments._journal = ReadAlong(journal.store, journal.told, book=book)

        offers = Resources(cpu=CPU(cores=plan.cores), ram=RAM(size=12 * GIB), disk=Disk(size=50 * GIB))
        node = await self.cluster.start(
            plan.name,
            offers=offers if plan.cores else None,
            disk=disk,
            ahead_s=plan.ahead_s,
            born=read_along,
            hosting=HostingOptions(persist_logs_s=PERSIST_LOGS_S, orphan_grace_s=self._grace_s),
            declared=declared(prices=[f"NTX {plan.price:g}"]),
            location=_location(plan.says or plan.city),
        )
        self._names[node.peer] = plan.name
        self._moving[plan.name] = trio.Lock()
        self._prepare(plan, node)
        if plan.byzantine:
            corrupt(node, plan.byzantine)

    def _prepare(self, plan: NodePlan, node: SimulatedNode) -> None:
        def choose(execution: str) -> Script:
            whole, _, number = execution.rpartition("-")
            name = whole.rpartition(".")[2]
            is_update = "-g" in name
            return script_of(self.part(name), int(number), fails=plan.start_fails, is_update=is_update)

        node.executor.choose = choose
        node.executor.watch = lambda what, execution: self._executed(plan.name, what, execution)

    def _executed(self, machine: str, what: str, execution: str) -> None:
        self.note(f"{machine} {what} {execution}")
        self.watch.executed(machine, what, execution)

    def _arrived(self, sender: PeerID, receiver: PeerID, where: str, data: bytes) -> None:
        digest = hashlib.blake2b(data, digest_size=6).hexdigest()
        self.note(f"{self.name_of(sender)} > {self.name_of(receiver)} {where} {digest}")

    async def _look(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await trio.sleep(LOOK_S)
                self.find_scheduled()
                self.watch.look()

    def find_scheduled(self) -> None:
        """What schedules have deployed by now is looked at as if users had."""
        for job in (job for job in self.plan.jobs if job.cron and self.is_up(job.owner)):
            for record in self.cluster.nodes[job.owner].node.deployments.all():
                if record.config.v1.metadata.get("job") == job.name and record.id not in self._scheduled:
                    number = sum(name.startswith(f"{job.name}#") for name in self.jobs) + 1
                    self._scheduled[record.id] = f"{job.name}#{number}"
                    self.jobs[f"{job.name}#{number}"] = record.id
                    self.note(f"adopted {job.name}#{number} {record.id}")

    # where things are ----------------------------------------------------------------------------------------------------

    def state_of(self, name: str) -> DeploymentState | None:
        """What the owner of a job knows of its deployment; ``None`` while it is down or has not found it again."""
        owner = self.cluster.nodes[self.job(name).owner]
        if name not in self.jobs or not self.is_up(owner.name):
            return None
        return owner.state(self.jobs[name])

    def is_final(self, name: str) -> bool:
        """Whether a deployment has ended."""
        state = self.state_of(name)
        return state is not None and state.phase.is_final

    def present(self) -> list[str]:
        """The deployments whose orchestrator has not vanished."""
        return [name for name in sorted(self.jobs) if self.job(name).owner not in self.gone]

    def lost(self) -> frozenset[EnsembleID]:
        """All that was deployed by those who have."""
        nodes = (self.cluster.nodes[name] for name in self.gone)
        return frozenset(ensemble for node in nodes for ensemble in node.node.deployments._records)

    def cores_of(self, name: str, node: str) -> float:
        """What a node of what is deployed wants, a standby as much as its primary."""
        config = self._in_force(name)
        return sum(config.v1.allocations[each].resources.cpu.cores for each in node_of(config, node).allocations)

    def edges_of(self, name: str) -> tuple[EdgeConfig, ...]:
        """The bounds of what is deployed, between the members of its groups."""
        return self._in_force(name).v1.edges

    def _in_force(self, name: str) -> EnsembleConfig:
        return self.cluster.nodes[self.job(name).owner].node.deployments.get(self.jobs[name]).config

    def rtt_ms(self, a: PeerID, b: PeerID) -> float:
        """How long a message takes there and back at least."""
        return 2000 * self.cluster.network.link(a, b).delay_s if a != b else 0.0

    def is_reachable(self, name: str) -> bool:
        """Whether somebody answers on a machine."""
        return self.cluster.nodes[name].is_running and not self._down[name]

    def is_up(self, name: str) -> bool:
        """Whether a machine is up and has found again what it knew."""
        node = self.cluster.nodes[name]
        return node.is_running and not self._down[name] and not self._moving[name].locked()

    # faults ------------------------------------------------------------------------------------------------------------

    async def _fail(self, fault: Fault, begun_s: float) -> None:
        await trio.sleep_until(begun_s + fault.at_s)
        self.note(f"fault {fault.kind} {' '.join(fault.nodes)} {fault.amount:g} {fault.for_s:g}")
        network, nodes = self.cluster.network, [self.cluster.nodes[name] for name in fault.nodes]
        match fault.kind:
            case "crash" | "reboot":
                await self._crash(nodes[0], fault.for_s, reboots=fault.kind == "reboot")
            case "crash_at_step":
                await self._crash_at_step(nodes[0], int(fault.amount), fault.for_s)
            case "partition":
                inside = [node.network for node in nodes]
                network.partition(inside)
                await trio.sleep(fault.for_s)
                for one in inside:
                    for other in network.nodes:
                        network.heal(one, other)
            case "cut":
                network.cut(nodes[0].network, nodes[1].network, one_way=bool(fault.amount))
                await trio.sleep(fault.for_s)
                network.heal(nodes[0].network, nodes[1].network)
            case "loss":
                network.set_loss(fault.amount)
                await trio.sleep(fault.for_s)
                network.set_loss(self.plan.loss)
            case "slow_disk":
                disk = nodes[0].disk
                assert disk is not None
                disk.pause_s = fault.amount
                await trio.sleep(fault.for_s)
                disk.pause_s = self._plans[nodes[0].name].disk_pause_s
            case "clock_jump":
                nodes[0].ahead_s += fault.amount
                await trio.sleep(fault.for_s)
                nodes[0].ahead_s = self._plans[nodes[0].name].ahead_s
            case "oom":
                self._end_workload(nodes[0])
            case "vanish":
                await self._vanish(nodes[0])
            case _:
                raise AssertionError(fault.kind)

    async def _crash(self, node: SimulatedNode, down_s: float, *, reboots: bool) -> None:
        if node.name in self.gone:
            return
        self._down[node.name] += 1
        async with self._moving[node.name]:
            await node.kill()
            self.note(f"{node.name} is dead")
            if reboots:
                assert node.disk is not None
                node.disk.lose()
                node.lose_workloads()
                self.watch.rebooted(node.name)
            await trio.sleep(down_s)
            self._down[node.name] -= 1
            if node.name not in self.gone:
                await self._revive(node)

    async def _vanish(self, node: SimulatedNode) -> None:
        self._down[node.name] += 1
        self.gone.add(node.name)
        async with self._moving[node.name]:
            if node.is_running:
                await node.kill()
            self.note(f"{node.name} is gone for good")

    async def _crash_at_step(self, node: SimulatedNode, steps: int, down_s: float) -> None:
        counter = _StepCounter(node, steps)
        trio.lowlevel.add_instrument(counter)
        with trio.move_on_after(down_s + LOOK_S):
            await counter.reached.wait()
        counter.disarm()
        await self._crash(node, down_s, reboots=False)

    async def _revive(self, node: SimulatedNode) -> None:
        while True:
            try:
                await node.start()
                break
            except Exception as exc:
                if not node.was_killed:
                    raise
                self.note(f"{node.name} died while it started: {type(exc).__name__}")
                await node.kill()
        plan = self._plans[node.name]
        node.executor.watch = lambda what, execution: self._executed(node.name, what, execution)
        if plan.byzantine:
            corrupt(node, plan.byzantine)
        self.note(f"{node.name} is back")

    def _end_workload(self, node: SimulatedNode) -> None:
        running = sorted(e for e, x in node.executor._executions.items() if x.result is None)
        if running:
            self.watch.killed_from_outside.add(running[0])
            node.executor.end(running[0])

    # the end -----------------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Nothing goes wrong any more: what was promised must come true."""
        self.note("calm")
        network = self.cluster.network
        network.heal_all()
        network.set_loss(0.0)
        network.jitter_s = network.duplication = network.reordering = 0.0
        for node in self.cluster.nodes.values():
            node.ahead_s = 0.0
            assert node.disk is not None
            node.disk.pause_s = min(node.disk.pause_s, 0.02)
        await self._until("scheduled", self.watch.unscheduled, RAN_S)
        for user in self.users.values():
            await user.cancel()
        self.find_scheduled()
        await self._until("steady", self.watch.unsteady, CALM_S)
        await self._until("served", self.watch.unserved, SERVED_S)
        await self._until("joined", self.watch.unjoined, SERVED_S)
        for name in self.present():
            if not self.is_final(name):
                await self.users[self.job(name).name].shut_down(name)
        await self._until("ended", self.watch.unended, ENDED_S)
        self.watch.judge()
        await self._until("returned", self.watch.unreturned, RETURNED_S + (GRACE_S if self.gone else 0.0), every_s=20.0)
        for name, node in self.cluster.nodes.items():
            if node.is_running and node.node.root.events.undeclared:
                raise Broken("declared events", f"{name}: {node.node.root.events.undeclared}")
        before = {name: self.state_of(name) for name in self.present()}
        await trio.sleep(GREETED_S)
        tasks = {name: node.tasks for name, node in self.cluster.nodes.items()}
        for node in self.cluster.nodes.values():
            await self._crash(node, 0.0, reboots=True)
        after = {name: self.state_of(name) for name in self.present()}
        if before != after:
            raise Broken("remembered", f"{before}\nbecame\n{after}")
        for name, node in ((honest.name, honest) for honest in self.honest()):
            if tasks[name] > node.tasks + len(self.cluster.nodes):  # some greet each other now and then
                raise Broken("no leaks", f"{name} consisted of {tasks[name]} tasks, newly started of {node.tasks}")
        self.watch.look()
        await self.watch.journals()
        self.note("end")

    async def _until(
        self, invariant: str, problem: Callable[[], str], within_s: float, every_s: float = LOOK_S
    ) -> None:
        deadline_s = trio.current_time() + within_s
        while found := problem():
            if trio.current_time() >= deadline_s:
                raise Broken(invariant, f"not within {within_s:g} s: {found}")
            await trio.sleep(every_s)
        self.note(invariant)


def fibre_s(a: NodePlan, b: NodePlan) -> float:
    """How long light in a cable takes from one machine to another, as the crow flies."""
    if not a.city or not b.city:
        return 0.0
    here, there = (Place(*CITIES[node.city][2:]) for node in (a, b))
    return here.distance_km(there) / FIBRE_KM_PER_S


def _location(city: str) -> Location:
    if not city:
        return Location()
    continent, country, _, _ = CITIES[city]
    return Location(continent=continent, country=country, city=city)


class _StepCounter(trio.abc.Instrument):
    """Pulls the plug of a machine after so many steps of its tasks: at whatever it awaits then."""

    def __init__(self, node: SimulatedNode, steps: int) -> None:
        self.reached = trio.Event()
        self._node, self._left = node, steps
        self._disk = node.disk

    def disarm(self) -> None:
        """It is over, one way or the other."""
        if not self.reached.is_set():
            trio.lowlevel.remove_instrument(self)
            self.reached.set()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """One step of any task."""
        if task.context.run(current_disk) is not self._disk:
            return
        self._left -= 1
        if self._left < 0 and not self.reached.is_set():
            trio.lowlevel.remove_instrument(self)
            self.reached.set()
            self._node.cut()


class _Errors(logging.Handler):
    """What the product itself calls an error or did not foresee, unless a dying machine says it."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        disk = current_disk()
        if disk is not None and disk.is_cut:
            return
        text = f"{record.getMessage()} {getattr(record, 'event_fields', '')}"
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        self._world.watch.complaints.append(text)


def _first_broken(exc: BaseException) -> Broken | None:
    if isinstance(exc, Broken):
        return exc
    if isinstance(exc, BaseExceptionGroup):
        return next((found for inner in exc.exceptions if (found := _first_broken(inner)) is not None), None)
    return None
