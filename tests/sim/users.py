"""The people of a run: they submit, look, ask again when nobody answers, and end what they began."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import trio
from msgspec.structs import replace
from tests.sim.invariants import Broken
from tests.sim.plan import Ask, JobPlan
from tests.sim.workloads import ensemble_of

from dms.allocation.exec_messages import ExecAnswer, ExecStarted
from dms.ensemble.config import EnsembleConfig
from dms.node import exec_payloads as x
from dms.node import payloads as p
from dms.node import updating_payloads as u
from dms.node.schedule_payloads import NewSchedule, NewScheduleReply, ScheduleRequest, SchedulesReply
from dms.orchestrator.messages import Reply
from dms.testing.nodes import SimulatedNode
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID

if TYPE_CHECKING:
    from tests.sim.world import World

RETRY_S: Final = 3.0
CALL_S: Final = 20.0
UPDATE_S: Final = 150.0
MS: Final = 1000

R = TypeVar("R")


class User:
    """Whoever owns one job of the plan."""

    def __init__(self, world: World, job: JobPlan) -> None:
        self.job = job
        self._world = world
        self._schedule = ""
        self._wanted = job
        """What was asked for last."""

    async def live(self, begun_s: float) -> None:
        """Do with the job what the plan says."""
        await trio.sleep_until(begun_s + self.job.at_s)
        config = ensemble_of(self.job, {name: node.peer for name, node in self._world.cluster.nodes.items()})
        if self.job.cron:
            self._schedule = await self._insist(lambda owner: self._order(owner, config)) or ""
            self._world.note(f"scheduled {self.job.name}")
            return
        found = await self._insist(lambda owner: self._submit(owner, config))
        if found is None:
            return
        self._world.note(f"accepted {self.job.name} {found}")
        self._world.jobs[self.job.name] = found
        async with trio.open_nursery() as nursery:
            for ask in self.job.asks:
                nursery.start_soon(self._ask, ask, begun_s)
            if self.job.shutdown_at_s is not None:
                await trio.sleep_until(begun_s + self.job.shutdown_at_s)
                await self.shut_down(self.job.name)

    async def shut_down(self, name: str) -> None:
        """Until the machine took note, or the deployment of this name has ended."""
        world, request = self._world, p.DeploymentRequest(id=self._world.jobs[name])

        async def tell(owner: SimulatedNode) -> bool | None:
            world.ended_by_user.add(name)  # also where the answer comes too late, or never
            reply = await owner.user.call("shutdown", request, Reply, timeout_s=CALL_S)
            if reply.ok:
                world.note(f"shutdown of {name} accepted")
                return True
            return True if world.state_of(name) is not None and world.is_final(name) else None

        await self._insist(tell)

    async def cancel(self) -> None:
        """Delete the schedule, if there is one."""

        async def tell(owner: SimulatedNode) -> bool | None:
            request = ScheduleRequest(id=self._schedule)
            reply = await owner.user.call("schedule/delete", request, Reply, timeout_s=CALL_S)
            return True if reply.ok or "not found" in reply.error else None

        if self._schedule:
            await self._insist(tell)
            self._world.note(f"unscheduled {self.job.name}")

    # ---------------------------------------------------------------------------------------------------------------------

    async def _insist(self, call: Callable[[SimulatedNode], Awaitable[R | None]]) -> R | None:
        """Ask until there is an answer; ``None`` when the machine never comes back."""
        world, owner = self._world, self._world.cluster.nodes[self.job.owner]
        while self.job.owner not in world.gone:
            if world.is_reachable(owner.name):
                try:
                    found = await call(owner)
                except DMSError:
                    found = None
                if found is not None:
                    return found
            await trio.sleep(RETRY_S)
        return None

    async def _submit(self, owner: SimulatedNode, config: EnsembleConfig) -> EnsembleID | None:
        job = self.job
        listed = await owner.user.call("list", p.ListRequest(metadata={"job": job.name}), p.ListReply, timeout_s=CALL_S)
        if listed.deployments:
            return EnsembleID(listed.deployments[0].orchestrator_id)
        request = p.NewDeployment(
            ensemble=config, queue_timeout_ms=int(job.queue_s * MS), run_for_ms=int(job.run_for_s * MS)
        )
        reply = await owner.user.call("new", request, p.NewDeploymentReply, timeout_s=job.patience_s)
        return EnsembleID(reply.ensemble_id) if reply.status == "OK" else None

    async def _order(self, owner: SimulatedNode, config: EnsembleConfig) -> str | None:
        job = self.job
        listed = await owner.user.call("schedule/list", None, SchedulesReply, timeout_s=CALL_S)
        mine = [schedule.id for schedule in listed.schedules if schedule.metadata["job"] == job.name]
        if mine:
            return mine[0]
        request = NewSchedule(
            ensemble=config,
            cron=job.cron,
            timeout_ms=int(job.patience_s * MS),
            queue_timeout_ms=int(job.queue_s * MS),
            run_for_ms=int(job.run_for_s * MS),
            overlap=job.overlap,
            missed=job.missed,
        )
        reply = await owner.user.call("schedule/new", request, NewScheduleReply, timeout_s=CALL_S)
        return reply.id or None

    async def _ask(self, ask: Ask, begun_s: float) -> None:
        """Once; there may be no answer, or no, but no wrong one."""
        await trio.sleep_until(begun_s + ask.at_s)
        owner, key = self._world.cluster.nodes[self.job.owner], self.job.key_of(ask.part)
        if not self._world.is_reachable(owner.name):
            return
        ensemble = self._world.jobs[self.job.name]
        try:
            match ask.kind:
                case "restart":
                    request = p.RestartRequest(id=ensemble, allocation_names=(key,))
                    restarted = await owner.user.call("restart", request, p.RestartReply, timeout_s=CALL_S)
                    said = "restarted" if restarted.ok else restarted.error
                case "exec":
                    said = await self._execute(owner, ensemble, key, ask.part)
                case "logs":
                    said = await self._read(owner, ensemble, key, ask.part)
                case "update" | "scale" | "revert":
                    said = await self._update(owner, ensemble, ask)
                case _:
                    raise AssertionError(ask.kind)
        except DMSError as exc:
            said = exc.message
        self._world.note(f"asked {ask.kind} {key}: {said}")

    async def _execute(self, owner: SimulatedNode, ensemble: EnsembleID, key: str, part: str) -> str:
        begin = x.ExecStartRequest(id=ensemble, allocation=key, command=("echo", part))
        session = await owner.user.call("exec/start", begin, ExecStarted, timeout_s=3 * CALL_S)
        if not session.ok:
            return session.error
        turn = x.ExecTurnRequest(id=ensemble, allocation=key, session=session.session, wait_ms=5 * MS)
        answer = await owner.user.call("exec/io", turn, ExecAnswer, timeout_s=3 * CALL_S)
        said = b"".join(piece.data for piece in answer.output)
        if answer.ok and not f"{part}\n".encode().startswith(said):
            raise Broken("answers", f"a command in {key} said {said!r}")
        return answer.error or f"{said!r}"

    async def _update(self, owner: SimulatedNode, ensemble: EnsembleID, ask: Ask) -> str:
        node = self.job.node_of(ask.part)
        request: Wire
        match ask.kind:
            case "update":
                parts = tuple(
                    replace(part, cores=ask.amount) if part.name == ask.part else part
                    for part in self._wanted.nodes[node]
                )
                self._wanted = replace(self._wanted, nodes=self._wanted.nodes | {node: parts})
                config = ensemble_of(self._wanted, {n.name: n.peer for n in self._world.cluster.nodes.values()})
                request = u.UpdateRequest(ensemble_id=ensemble, ensemble=config)
            case "scale":
                request = u.ScaleRequest(id=ensemble, counts={node: int(ask.amount)})
            case _:
                request = u.RevertRequest(id=ensemble)
        reply = await owner.user.call(ask.kind, request, u.UpdateReply, timeout_s=UPDATE_S)
        return f"version {reply.version}: {reply.what}" if reply.ok else reply.error

    async def _read(self, owner: SimulatedNode, ensemble: EnsembleID, key: str, part: str) -> str:
        request = p.LogsRequest(ensemble_id=ensemble, allocation=key, stream="stdout")
        reply = await owner.user.call("logs", request, p.LogsReply, timeout_s=3 * CALL_S)
        lines = reply.data.splitlines()
        if not self._world.watch.has_rebooted and any(line != part.encode() for line in lines):
            raise Broken("answers", f"the log of {key} is {reply.data!r}")
        return reply.error or f"{len(lines)} lines"
