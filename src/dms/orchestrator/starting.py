"""Allocations started in the order of their dependencies, on whatever machines they are (``spec/orchestration.md`` 5.4, 12.5).

Each starts as soon as all that it waits for is true: another one runs, is well, or has done its work. What cannot become
true counts as the failure of the one that was waited for, with the reason; then nothing more is started. What fails and may
be restarted where it is, is (:mod:`dms.orchestrator.lifecycle.recovery`); those behind it wait on. All of it may be
done again after a restart: what runs says so, and what has ended is in the state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from dms.actor.handle import Handle
from dms.allocation import messages as allocation_messages
from dms.allocation.machine import AllocationState
from dms.ensemble.config import COMPLETED, HEALTHY, HealthCheckManifest
from dms.ensemble.ids import allocation_key
from dms.ensemble.start_order import Need, homes_of, needs_of
from dms.executor.protocol import EndReason
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.insisting import insist
from dms.orchestrator.lifecycle.events import Started
from dms.orchestrator.lifecycle.state import AllocationRecord, DeploymentState
from dms.orchestrator.private_network.plan import gateway_of
from dms.orchestrator.supervision.health import MAX_FAILURES, ask, interval_of, register
from dms.types.errors import DMSError
from dms.types.ids import PeerID

START_TIMEOUT_S = 300.0
"""Machines of this program pull images and fetch volumes after they have answered; others do it before. It ends with the
deployment's own deadline, too."""
LEAST_START_TIMEOUT_S = 15.0
"""So that what runs already can say so, also after the deadline."""
CHECK_EVERY_S = 2.0
"""While others wait for it a check is made at least so often, whatever its interval."""
LOOK_EVERY_S = 10.0
MENDED_S = 60.0
"""How long what is placed anew waits for others that are being mended; then it starts without them."""
MAX_TOLD = 100
"""Of what is waited for: so much goes into the events of the deployment."""
NS_PER_S = 10**9

HOPELESS = frozenset({"invalid_engine_spec", "unsupported"})
"""Error codes of a start that would fail on every machine."""
OWN_FAULT = frozenset(reason.value for reason in (EndReason.EXITED, EndReason.TRAPPED))
"""Of a program: it would fail on every machine."""


@dataclass(frozen=True, slots=True)
class Live:
    """A deployment while it is worked on: its state now, and what is set when that has changed."""

    state: Callable[[], DeploymentState]
    changed: Callable[[], trio.Event]
    silence_s: Callable[[str], float]
    """For how long no sign of life of an allocation was heard; endless before the first."""
    liveness_timeout_s: float
    join: Callable[[PeerID], Awaitable[str]]
    """Until a machine knows the private network as it is planned now; what is wrong, if it does not take it."""
    unwell: Callable[[str, str], Awaitable[None]]
    """Have it decided what is done about an allocation that is not well."""


async def start_all(ctx: Context, state: DeploymentState, live: Live) -> dict[str, Started]:
    """Start what ``state`` has; by ``<node>.<allocation>``. What was not started for the failure of another one is left
    out."""
    return await _Starting(ctx, state, live).run()


class _Starting:
    def __init__(self, ctx: Context, state: DeploymentState, live: Live) -> None:
        self._ctx, self._live = ctx, live
        self._config = ctx.whole or ctx.config
        self._homes = homes_of(self._config)
        self._records = {key: r for key, r in state.allocations.items() if not r.is_standby}
        self._begun = {key: trio.Event() for key in self._records}
        self._begun_s: dict[str, float] = {}
        left_s = (state.deadline_ns - ctx.actor.security.now_ns()) / NS_PER_S
        self._ends_s = trio.current_time() + max(left_s, LEAST_START_TIMEOUT_S)
        self._results: dict[str, Started] = {}
        self._true: dict[Need, trio.Event] = {}
        self._waits = trio.CancelScope(deadline=self._ends_s + START_TIMEOUT_S)
        self._has_failed = False
        self._told = 0

    async def run(self) -> dict[str, Started]:
        """Starts go on beside a failure, what waits does not."""
        async with trio.open_nursery() as starts:
            with self._waits:
                async with trio.open_nursery() as waits:
                    for key, record in self._records.items():
                        waits.start_soon(self._when_ready, key, record, waits, starts)
        return self._results

    async def _when_ready(self, key: str, record: AllocationRecord, waits: trio.Nursery, starts: trio.Nursery) -> None:
        for need in needs_of(self._config, record.name):
            true = self._true.get(need)
            if true is None:
                true = self._true[need] = trio.Event()
                waits.start_soon(self._watch, need, key, true)
            await true.wait()
        if not self._has_failed:
            starts.start_soon(self._start, key, record)

    async def _start(self, key: str, record: AllocationRecord) -> None:
        started = self._results[key] = await self._tell(key, record)
        if started.ok:
            self._begun_s[key] = trio.current_time()
            self._begun[key].set()
        else:
            self._fail()

    async def _tell(self, key: str, record: AllocationRecord) -> Started:
        if record.handle is None:
            return Started(ok=False, error="it was never allocated")
        await self._until_restarted(key)
        if self._now(key).is_over:
            return Started(ok=True)
        problem = await self._live.join(record.peer)
        if problem:
            return Started(ok=False, error=f"private network: {problem}")
        request = self._request(record)
        timeout_s = min(START_TIMEOUT_S, max(self._ends_s - trio.current_time(), LEAST_START_TIMEOUT_S))
        try:
            reply = await insist(
                self._ctx.actor,
                record.handle,
                allocation_messages.START,
                request,
                allocation_messages.StartReply,
                timeout_s=timeout_s,
            )
        except DMSError as exc:
            return Started(ok=False, error=exc.message)
        return Started(ok=reply.ok, error=reply.error, is_hopeless=reply.code in HOPELESS)

    def _request(self, record: AllocationRecord) -> allocation_messages.StartRequest:
        network = self._live.state().network
        address = network.addresses.get(record.id, "") if network is not None else ""
        return allocation_messages.StartRequest(
            subnet_ip=address,
            gateway_ip=gateway_of(network) if network is not None and address else "",
            port_mapping=record.ports,
        )

    async def _until_restarted(self, key: str) -> None:
        """After a restart of ours: it had begun, failed, and is begun again by another task."""
        while self._now(key).due_ns and not self._now(key).is_over:
            changed = self._live.changed()
            if self._now(key).due_ns:
                await changed.wait()

    def _fail(self) -> None:
        self._has_failed = True
        self._waits.cancel()

    def _now(self, key: str) -> AllocationRecord:
        return self._live.state().allocations.get(key) or self._records[key]

    # conditions ----------------------------------------------------------------------------------------------------

    async def _watch(self, need: Need, waiting: str, true: trio.Event) -> None:
        """Until it is true; or it has failed."""
        key = allocation_key(self._homes.get(need.name, ""), need.name)
        if key not in self._records:
            await self._until_mended(key)
            true.set()
            return
        await self._begun[key].wait()
        problem, is_hopeless = "", False
        if need.condition in (HEALTHY, COMPLETED) and self._told < MAX_TOLD:
            self._told += 1
            await self._ctx.note("start_waits", {"allocation": waiting, "for": key, "condition": need.condition})
        if need.condition == HEALTHY:
            problem = await self._until_healthy(key)
        elif need.condition == COMPLETED:
            problem, is_hopeless = await self._until_completed(key)
        if problem:
            error = f"{problem}; {waiting} waits for it"
            self._results[key] = Started(ok=False, error=error, is_hopeless=is_hopeless)
            self._fail()
            return
        true.set()

    async def _until_mended(self, key: str) -> None:
        """Another node's: it is only looked at whether it comes back soon."""
        with trio.move_on_after(MENDED_S):
            while True:
                changed, state = self._live.changed(), self._live.state()
                record = state.allocations.get(key)
                if record is None or (record.node_id not in state.placements and not record.due_ns):
                    return
                await changed.wait()

    async def _until_healthy(self, key: str) -> str:
        record, check = self._records[key], self._config.v1.allocations[self._records[key].name].healthcheck
        if check is None or record.handle is None:
            return ""
        while True:
            await self._until_restarted(key)
            execution = self._now(key).execution
            problem, is_unwell = await self._one_healthy(key, record.handle, check, execution)
            if is_unwell:
                await self._live.unwell(key, problem)
            if self._now(key).execution == execution:
                return problem

    async def _one_healthy(
        self, key: str, handle: Handle, check: HealthCheckManifest, execution: int
    ) -> tuple[str, bool]:
        """What is wrong with one execution, and whether the check says so. Nothing, also once there is another one."""
        interval_s = interval_of(check)
        patience_s = check.start_delay / NS_PER_S + (check.failures or MAX_FAILURES) * interval_s
        ends_s, began_s = min(self._ends_s, trio.current_time() + patience_s), trio.current_time()
        is_registered, problem = False, "its machine does not answer"
        with trio.move_on_at(ends_s) as scope:
            while True:
                now = self._now(key)
                if now.is_over:
                    is_done = now.status == AllocationState.COMPLETED.value
                    return "" if is_done else now.error or f"it is {now.status}", False
                if now.execution != execution:
                    return "", False
                if not is_registered:
                    reply = await register(self._ctx, handle, check)
                    if reply is not None and not reply.ok:
                        return f"its health check is refused: {reply.error}", False
                    is_registered = reply is not None
                reply = await ask(self._ctx, handle, check) if is_registered else None
                if reply is not None and reply.ok:
                    return "", False
                if reply is not None and reply.waits:  # for its image, say: the patience begins when it does
                    scope.deadline = ends_s = min(self._ends_s, trio.current_time() + patience_s)
                problem = problem if reply is None else reply.error or "it is not well"
                await trio.sleep(min(interval_s, CHECK_EVERY_S))
        return f"it was not healthy within {ends_s - began_s:.0f} s: {problem}", True

    async def _until_completed(self, key: str) -> tuple[str, bool]:
        """What is wrong, and whether it would be on every machine."""
        began_s = trio.current_time()
        with trio.move_on_at(self._ends_s):
            while True:
                changed, now = self._live.changed(), self._now(key)
                if now.status == AllocationState.COMPLETED.value:
                    return "", False
                if now.is_over:
                    return now.error or f"it is {now.status}", now.reason in OWN_FAULT
                silence_s = min(self._live.silence_s(key), trio.current_time() - self._begun_s.get(key, began_s))
                if silence_s > self._live.liveness_timeout_s:
                    return f"no sign of life from {now.peer} for {silence_s:.0f} s", False
                with trio.move_on_after(LOOK_EVERY_S):
                    await changed.wait()
        return "it had not completed when the time for the deployment was over", False
