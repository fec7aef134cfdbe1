"""What must hold in every run, whatever goes wrong.

Some of it holds at every moment (:meth:`Watch.look`), some once nothing has gone wrong for a while (the ``un…`` methods,
which name what is not so yet), some in the end (:meth:`Watch.judge`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import trio
from tests.sim.plan import JobPlan, plain

from dms.allocation.machine import AllocationState
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState, Phase, Stage
from dms.orchestrator.updating.state import Outcome
from dms.resources.arithmetic import add
from dms.testing.nodes import SimulatedNode
from dms.types.ids import EnsembleID, PeerID

if TYPE_CHECKING:
    from tests.sim.world import World


LONG_NS: Final = 1800 * 10**9
"""More than anybody's patience."""


class Broken(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant, self.detail = invariant, detail


class Watch:
    """Knows what really happened, and compares it with what the machines say."""

    def __init__(self, world: World) -> None:
        self.complaints: list[str] = []
        """What the product called an error."""
        self.killed_from_outside: set[str] = set()
        self._world = world
        self._ends: dict[tuple[str, str], list[int]] = {}
        """The exit codes of an execution, by machine and allocation."""
        self._rebooted: set[str] = set()
        self._lost_logs: set[str] = set()
        """Machines that rebooted before the end, of whose logs parts may be lost."""
        self._final: dict[str, tuple[Phase, str]] = {}
        self._begun: set[tuple[str, str]] = set()
        """What was started of an ensemble, ever, by its parts."""
        self._done: set[tuple[str, str]] = set()
        """And what ended well."""

    # what really happens -----------------------------------------------------------------------------------------------

    def executed(self, machine: str, what: str, execution: str) -> None:
        """A workload started, or ended with a code."""
        ensemble, part = execution.partition("_")[0], plain(execution.rpartition("-")[0].rpartition(".")[2])
        if what == "started" and (ensemble, part) not in self._begun:
            self._look_at_order(ensemble, part)
            self._begun.add((ensemble, part))
        if what == "ended 0":
            self._done.add((ensemble, part))
        if what.startswith("ended"):
            self._ends.setdefault((machine, execution.rpartition("-")[0]), []).append(int(what.split()[1]))

    def _look_at_order(self, ensemble: str, part: str) -> None:
        for dependency in self._world.part(part).after:
            known = self._done if dependency.condition == "completed_successfully" else self._begun
            if (ensemble, dependency.part) not in known:
                self.complaints.append(f"{part} started before {dependency.part} had {dependency.condition}")

    @property
    def has_rebooted(self) -> bool:
        """Whether logs may lack something."""
        return bool(self._rebooted)

    def rebooted(self, machine: str) -> None:
        """All programs of a machine are gone, and what it had not synced, logs for example."""
        self._rebooted.add(machine)

    # at every moment -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """All that holds always.

        :raises Broken: it does not.
        """
        if self.complaints:
            raise Broken("no complaints", "\n".join(self.complaints))
        for node in self._world.honest():
            self._look_at_workloads(node)
            if self._world.is_up(node.name) and node.node.provider._recovered:
                self._look_at_resources(node)
        for name in self._world.jobs:
            self._look_at_deployment(name)
        self._look_at_schedules()

    def _look_at_workloads(self, node: SimulatedNode) -> None:
        twice = [job for job, times in Counter(_running(node)).items() if times > 1]
        if twice:
            raise Broken("runs once", f"{node.name} runs {', '.join(twice)} twice")

    def _look_at_resources(self, node: SimulatedNode) -> None:
        resources = node.node.resources
        onboarded = resources.onboarded
        if onboarded is not None:
            together = add(resources.free(), add(resources.committed(), resources.allocated()))
            if together.cpu.cores != onboarded.cpu.cores or together.ram.size != onboarded.ram.size:
                raise Broken(
                    "sums", f"{node.name}: free, committed and allocated are {together}, onboarded {onboarded}"
                )
        for job in _running(node):
            if job not in resources.allocations:
                raise Broken("owned", f"{node.name} runs {job}, for which nothing is allocated")
        ports = Counter(port for held in node.node.ports.held.values() for port in (*held.static, *held.dynamic))
        twice = [str(port) for port, times in ports.items() if times > 1]
        if twice:
            raise Broken("ports once", f"{node.name} gave away twice: {', '.join(twice)}")
        names = Counter(allocation.spec.id for allocation in node.node.hosting)
        twice = [name for name, times in names.items() if times > 1]
        if twice:
            raise Broken("names once", f"{node.name} has twice: {', '.join(twice)}")

    def _look_at_deployment(self, name: str) -> None:
        job = self._world.job(name)
        if not self._world.is_up(job.owner):
            return
        if self._world.jobs[name] not in self._world.cluster.nodes[job.owner].node.deployments._records:
            raise Broken("remembered", f"{job.owner} accepted {name} and knows nothing of it")
        state = self._world.state_of(name)
        if state is None:
            return
        before = self._final.get(name)
        if before is not None and before != (state.phase, state.error):
            raise Broken("final", f"{name} had ended as {before}, and is {state.phase.value}: {state.error}")
        if state.phase.is_final:
            self._final[name] = (state.phase, state.error)
            over = [key for key, record in state.allocations.items() if not record.is_over]
            if over:
                raise Broken("final", f"{name} is {state.phase.value}, but not {', '.join(over)}")
        if state.phase is Phase.RUNNING:
            self._look_at_places(job, name, state)

    def _look_at_places(self, job: JobPlan, name: str, state: DeploymentState) -> None:
        """What was wished for holds where it is; liars may say of themselves and others what they like."""
        honest = {node.name for node in self._world.honest()}
        places = {plain(node): self._world.name_of(bid.peer) for node, bid in state.assignment.items()}
        for node, place in places.items():
            if job.price and place in honest and self._world.machine(place).price > job.price:
                raise Broken("price", f"{node} of {name} is on {place}, which is too expensive")
        looked_at = {node for node, p in state.placements.items() if p.stage in (Stage.CHECKING, Stage.MEASURING)}
        peers = {node: bid.peer for node, bid in state.assignment.items() if node not in looked_at}
        for edge in self._world.edges_of(name):
            a, b = peers.get(edge.s), peers.get(edge.t)
            if a is None or b is None or not honest.issuperset((self._world.name_of(a), self._world.name_of(b))):
                continue
            rtt_ms = self._world.rtt_ms(a, b)
            if edge.rtt and rtt_ms > edge.rtt + 1e-6:
                raise Broken("edges", f"{edge.s} and {edge.t} of {name} are {rtt_ms:.0f} ms apart, not {edge.rtt}")

    def _look_at_schedules(self) -> None:
        states = ((name, self._world.state_of(name)) for name in self._world.jobs if "#" in name)
        tags = Counter(state.terms.schedule for _, state in states if state is not None)
        twice = [tag for tag, times in tags.items() if times > 1]
        if twice:
            raise Broken("scheduled once", f"{', '.join(twice)} was deployed twice")

    # once it is calm -----------------------------------------------------------------------------------------------------

    def unscheduled(self) -> str:
        """Which schedule should have had a time by now, and did nothing about it."""
        for job in self._world.plan.jobs:
            wrong_clocks = {n for fault in self._world.plan.faults if fault.kind == "clock_jump" for n in fault.nodes}
            if not job.cron or job.owner in self._world.gone | wrong_clocks:
                continue
            schedules = self._world.cluster.nodes[job.owner].node.schedules.all()
            if not any(schedule.runs for schedule in schedules if schedule.ensemble.v1.metadata["job"] == job.name):
                return f"{job.name} was never due"
        return ""

    def unsteady(self) -> str:
        """Which deployment neither runs nor has ended, though its time is over."""
        for name in self._world.present():
            state = self._world.state_of(name)
            if state is None:
                return f"the owner of {name} is down"
            clock_ns = self._world.cluster.nodes[self._world.job(name).owner].clock_ns()
            if state.phase.is_creating and state.deadline_ns > clock_ns + LONG_NS:
                continue  # it was submitted while the clock ran ahead, and has time until then
            if state.phase is not Phase.RUNNING and not state.is_settled:
                return f"{name} is {state.phase.value} ({state.error})"
            if problem := self._half_updated(name, state):
                return f"{name}: {problem}"
        return ""

    def _half_updated(self, name: str, state: DeploymentState) -> str:
        """An update has become true everywhere, or nowhere: who is between two versions, once time enough has passed."""
        if state.phase is not Phase.RUNNING:
            return ""
        if state.update is not None:
            return f"version {state.update.version} is neither in force nor taken back ({state.update.why})"
        current = [version.number for version in state.versions if version.outcome == Outcome.CURRENT.value]
        undecided = [version.number for version in state.versions if version.outcome == Outcome.PENDING.value]
        if undecided or (state.versions and current != [state.version]):
            return f"of its versions {current} are in force, {undecided} undecided, it is version {state.version}"
        owner = self._world.cluster.nodes[self._world.job(name).owner]
        wanted = owner.node.deployments.live(self._world.jobs[name]).base.v1
        names = {f"{node}.{part}" for node, whole in wanted.nodes.items() for part in whole.allocations}
        mine = {key for key, record in state.allocations.items() if not record.is_standby}
        if names != mine:
            return f"version {state.version} has {sorted(names)}, it has {sorted(mine)}"
        honest = {node.name: node for node in self._world.honest()}
        for key, record in state.allocations.items():
            host = honest.get(self._world.name_of(record.peer))
            hosted = host and host.is_running and host.node.hosting.find(self._world.jobs[name], record.id)
            cores = wanted.allocations[record.name].resources.cpu.cores
            if hosted and not record.is_over and hosted.spec.resources.cpu.cores != cores:
                return f"{key} has {hosted.spec.resources.cpu.cores} cores, version {state.version} says {cores}"
        return ""

    def unserved(self) -> str:
        """What should run and does not, or runs and should not."""
        wanted: dict[tuple[str, str], str] = {}
        allowed: set[tuple[str, str]] = set()
        for name in self._world.present():
            state = self._world.state_of(name)
            if state is None:
                return f"the owner of {name} is down"
            if state.phase is not Phase.RUNNING:
                continue
            if state.ends_ns and state.ends_ns < self._world.cluster.nodes[self._world.job(name).owner].clock_ns():
                return f"{name} runs, though its time is over"
            for record in state.allocations.values():
                if record.is_over or record.is_standby:
                    continue
                place = self._world.name_of(record.peer), record.id
                if record.node_id in state.placements:
                    if record.handle is None and (free := self._could_host(name, state, record.node_id)):
                        return f"{record.key} of {name} is not placed, though {free} could have it"
                elif self._lasts(record):
                    wanted[place] = f"{record.key} of {name}"
                allowed.add(place)
        lost = self._world.lost()
        running = {
            (node.name, job)
            for node in self._world.honest()
            for job in _running(node)
            if EnsembleID(job.partition("_")[0]) not in lost
        }
        honest = {node.name for node in self._world.honest()}
        for (machine, job), what in wanted.items():
            if machine in honest and (machine, job) not in running:
                return f"{what} does not run on {machine}"
        for machine, job in sorted(running - allowed):
            return f"{machine} runs {job}, which nobody wants there"
        return ""

    def unjoined(self) -> str:
        """Which machine knows something else of a private network than is planned, once it had time to hear of it."""
        honest = {node.name: node for node in self._world.honest()}
        for name in self._world.present():
            state, ensemble = self._world.state_of(name), self._world.jobs[name]
            if state is None or state.phase is not Phase.RUNNING or state.placements or state.update:
                continue
            if state.network is None:
                return f"{name} runs without a private network"
            addresses, running = state.network.addresses, [r for r in state.allocations.values() if not r.is_over]
            if len(set(addresses.values())) < len(addresses):
                raise Broken("addresses once", f"{name}: {addresses}")
            members = [record for record in running if record.handle is not None and not record.is_standby]
            table = {addresses[record.id]: record.peer for record in members}
            for record in members:
                host = honest.get(self._world.name_of(record.peer))
                if host is None or not host.is_running:
                    continue
                known = host.node.networks.find(ensemble)
                if known is None or (known.table, known.members.get(record.id)) != (table, addresses[record.id]):
                    return f"{host.name} knows {known} of {name}, where {record.key} is at {addresses[record.id]}"
        return ""

    def _lasts(self, record: AllocationRecord) -> bool:
        """Whether its workload goes on until it is ended: others may be between two executions at any moment."""
        part = self._world.part(record.name)
        return part.duration_s is None and part.crashes == 0

    def _could_host(self, name: str, state: DeploymentState, node_id: str) -> str:
        """A machine that has room for a node, can start it and was not left out; as far as that is certain."""
        job = self._world.job(name)
        parts = job.nodes.get(plain(node_id))
        if parts is None or node_id in job.pins:
            return ""
        placement = state.placements[node_id]
        taken = {bid.peer for bid in state.assignment.values()} | {one.bid.peer for one in state.left}
        for node in self._world.honest():
            plan = self._world.machine(node.name)
            if plan.price > job.price > 0 or any(part.public for part in parts):
                continue
            is_out = node.peer in taken or node.peer in placement.excluded or node.peer in state.excluded
            if not plan.cores or plan.start_fails or is_out or not self._world.is_up(node.name):
                continue
            if not self._is_near(name, state, node_id, node.peer):
                continue
            if node.node.resources.free().cpu.cores >= self._world.cores_of(name, node_id):
                return node.name
        return ""

    def _is_near(self, name: str, state: DeploymentState, node_id: str, peer: PeerID) -> bool:
        """Whether a node's edges would hold there."""
        peers = {node: bid.peer for node, bid in state.assignment.items()} | {node_id: peer}
        edges = [edge for edge in self._world.edges_of(name) if node_id in (edge.s, edge.t) and edge.rtt]
        ends = [(peers.get(edge.s), peers.get(edge.t), edge.rtt) for edge in edges]
        return all(s is None or t is None or self._world.rtt_ms(s, t) <= rtt for s, t, rtt in ends)

    def unended(self) -> str:
        """Which deployment has not ended, or still has something to do."""
        for name in self._world.present():
            state = self._world.state_of(name)
            if state is None or not state.is_settled:
                return f"{name} is {state.phase.value if state else 'down'} and not settled"
        return ""

    def unreturned(self) -> str:
        """What is still held for anybody, and by whom."""
        for node in self._world.honest():
            if held := node.holdings():
                return f"{node.name} holds {held}"
            root, provider = node.node.root, node.node.provider
            left = {
                "children": root.children.names(),
                "hosted": [a.spec.id for a in node.node.hosting],
                "reservations": list(provider._reservations._held),
                "ensembles": sorted(provider._served),
                "live": list(node.node.deployments._live),
                "networks": [each.ensemble for each in node.node.networks],
            }
            if any(left.values()):
                return f"{node.name} keeps { ({what: ones for what, ones in left.items() if ones}) }"
        return ""

    # in the end ----------------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """What is said of every deployment is true.

        :raises Broken: it is not.
        """
        self.look()
        self._lost_logs = set(self._rebooted)
        for name in self._world.present():
            state = self._world.state_of(name)
            if state is None:
                raise Broken("truth", f"nothing is known of {name}")
            for record in state.allocations.values():
                problem = self._untrue(record)
                if problem:
                    raise Broken("truth", f"{name}, {record.key}: {problem}")
            if problem := self._untrue_whole(name, state):
                raise Broken("truth", f"{name} is {state.phase.value} ({state.error}): {problem}")

    def _untrue(self, record: AllocationRecord) -> str:
        machine = self._world.name_of(record.peer)
        ends = self._ends.get((machine, record.id), [])
        is_honest = any(node.name == machine for node in self._world.honest())
        match AllocationState(record.status):
            case AllocationState.COMPLETED if is_honest and 0 not in ends:
                return f"it is completed, but ended on {machine} with {ends}"
            case AllocationState.FAILED if not record.error:
                return "it failed for no reason"
            case AllocationState.TERMINATED | AllocationState.COMPLETED | AllocationState.FAILED:
                return ""
            case other:
                return f"it is {other.value} in the end"

    def _untrue_whole(self, name: str, state: DeploymentState) -> str:
        statuses = {AllocationState(r.status) for r in state.allocations.values() if not r.is_standby}
        if state.phase is Phase.FAILED and not state.error:
            return "for no reason"
        if state.phase is Phase.COMPLETED and not state.error and AllocationState.FAILED in statuses:
            return "a part of it failed, and it does not say so"
        is_due = state.ends_ns and state.completed_ns + 1_000 >= state.ends_ns  # clocks of floats
        is_replaced = "#" in name and self._world.job(name).overlap == "replace"
        is_wanted = name in self._world.ended_by_user or is_due or is_replaced or state.teardown
        if AllocationState.TERMINATED in statuses and not is_wanted:
            return "parts were ended, and nobody asked for that"
        return ""

    async def journals(self) -> None:
        """The events of each deployment are without gaps, and lead to where it is.

        :raises Broken: they do not.
        """
        for name in self._world.present():
            owner = self._world.job(name).owner
            entries = await self._world.cluster.nodes[owner].node.deployments.events(self._world.jobs[name], 0)
            numbers = [entry.seq for entry in entries]
            if numbers != list(range(1, len(numbers) + 1)):
                raise Broken("journal", f"the events of {name} are numbered {numbers}")
            told = [entry.payload["status"] for entry in entries if "status" in entry.payload]
            state = self._world.state_of(name)
            if state is None or not told or told[-1] != state.phase.value:
                raise Broken("journal", f"the events of {name} lead to {told}, it is {state and state.phase.value}")
            self._look_at_logs(owner, name, state)
        await trio.lowlevel.checkpoint()

    def _look_at_logs(self, owner: str, name: str, state: DeploymentState) -> None:
        shelf = self._world.cluster.nodes[owner].node.deployments._logs
        honest = {node.name for node in self._world.honest()} - self._lost_logs
        for key, record in state.allocations.items():
            is_told = record.status == "completed" and self._world.name_of(record.peer) in honest
            if is_told and shelf.is_complete(self._world.jobs[name], record):
                log = shelf.folder(self._world.jobs[name], key) / "stdout.log"
                said = log.read_text() if log.exists() else ""
                if not said.startswith(f"{plain(record.name)}\n"):
                    raise Broken("logs", f"{key} of {name} completed, and its complete log is {said!r}")


def _running(node: SimulatedNode) -> list[str]:
    """The allocations whose workload runs on a machine, once for each workload."""
    return [x.job_id for x in node.executor._executions.values() if x.result is None]
