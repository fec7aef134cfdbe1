"""What the orchestrator of an allocation is told of it: each change of state, signs of life, and the end until it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from dms.actor.actor import Actor
from dms.actor.handle import handle_of_peer
from dms.allocation.allocation import Allocation
from dms.allocation.machine import AllocationState
from dms.executor.protocol import ExecutorStats
from dms.network.errors import PeerUnreachable
from dms.node.payloads import Hello
from dms.observe import get_logger
from dms.orchestrator import messages
from dms.types.errors import DMSError
from dms.types.ids import AllocationID, EnsembleID

PUSH_TIMEOUT_S = 20.0
MAX_PUSH_WAIT_S = 60.0
"""The report of an end is repeated for as long as its logs are kept; the waits in between double up to this. It is shorter
than the silence after which an orchestrator gives an allocation up, so that one that was away still hears the truth."""
DISOWNED_TIMES = 3
"""Signs of life in a row that the orchestrator's node could take, and the orchestrator is not there for: it may be about to
be started again once or twice."""
MAX_PROGRESS_CHARS = 300
NS_PER_S = 10**9

log = get_logger(__name__)


class HostingReports:
    """Of all allocations of a node, in the name of each; ``is_here`` tells whether the node has it still, and
    ``acknowledged`` is called once its end is known where it has to be; ``network_problem`` tells why one has no address of
    its own.
    """

    def __init__(
        self,
        root: Actor,
        *,
        is_here: Callable[[Allocation], bool],
        acknowledged: Callable[[Allocation], Awaitable[None]],
        network_problem: Callable[[EnsembleID, AllocationID], str],
    ) -> None:
        self._root = root
        self._is_here = is_here
        self._acknowledged = acknowledged
        self._network_problem = network_problem
        self._disowned = Counter[AllocationID]()
        self.signs: dict[AllocationID, messages.Liveness] = {}
        """The last sign of life of each allocation."""

    async def change(self, allocation: Allocation, before: AllocationState) -> None:
        """Tell it of a new state, in the background; of an end until it knows."""
        if allocation.view.state.is_final or allocation.view.is_held:
            self._root.start_soon(self.end, allocation)
        else:
            self._root.start_soon(self._report_change, allocation, before, allocation.view.state)

    async def end(self, allocation: Allocation) -> None:
        """Tell it of the end, until that is acknowledged or nothing is left of it."""
        view, execution_id = allocation.view, allocation.execution_id
        ended = messages.TaskTermination(
            allocation_id=allocation.spec.id,
            status=AllocationState.FAILED.value if view.is_held else view.state.value,
            error=messages.EndError(
                err=view.error, exit_code=view.exit_code or 0, killed=view.killed, reason=view.reason
            ),
            execution=allocation.number,
        )
        wait_s = 1.0
        while self._is_here(allocation) and allocation.execution_id == execution_id:
            answer = await self._push(allocation, messages.task_termination(allocation.spec.ensemble_id), ended)
            if answer is False and view.is_held:
                await allocation.shutdown("its orchestrator does not know it any more")
            if answer is not None:
                if self._is_here(allocation):
                    await self._acknowledged(allocation)
                return
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, MAX_PUSH_WAIT_S)

    async def sign(self, allocation: Allocation, number: int) -> bool | None:
        """A sign of life, with what the job uses. Whether the orchestrator still owns it; ``None`` if that cannot be told."""
        try:
            stats = await allocation.stats()
        except DMSError as exc:
            log.info("stats_failed", allocation=allocation.spec.id, error=exc.message)
            stats = ExecutorStats()  # a backend that cannot count now is no reason to be silent
        progress = ""
        with suppress(DMSError):
            progress = await allocation.doing()
        sign = messages.Liveness(
            allocation_id=allocation.spec.id,
            status=allocation.view.state.value,
            timestamp=self._root.security.now_ns(),
            sequence_number=number,
            health_check_enabled=allocation.health_check is not None,
            health=_health_of(allocation),
            resource_usage=messages.ResourceUsage(
                cpu_usage_percent=stats.cpu_percent,
                memory_used_bytes=stats.memory_used_bytes,
                memory_limit_bytes=stats.memory_limit_bytes,
                network_rx_bytes=stats.network_rx_bytes,
                network_tx_bytes=stats.network_tx_bytes,
            ),
            network_problem=self._network_problem(allocation.spec.ensemble_id, allocation.spec.id),
            progress=progress[:MAX_PROGRESS_CHARS],
        )
        self.signs[allocation.spec.id] = sign
        behaviour = messages.allocation_liveness(allocation.spec.ensemble_id)
        try:
            answer = await self._ask(allocation, behaviour, sign)
        except PeerUnreachable:
            return await self._is_owned(allocation)
        self._disowned.pop(allocation.spec.id, None)
        return answer

    def forget(self, allocation_id: AllocationID) -> None:
        """Nothing is left of it."""
        self.signs.pop(allocation_id, None)
        self._disowned.pop(allocation_id, None)

    async def _report_change(self, allocation: Allocation, before: AllocationState, after: AllocationState) -> None:
        change = messages.StatusChange(
            allocation_id=allocation.spec.id,
            old_status=before.value,
            new_status=after.value,
            timestamp=self._root.security.now_ns(),
            reason=allocation.view.error,
        )
        await self._push(allocation, messages.allocation_status(allocation.spec.ensemble_id), change)

    async def _is_owned(self, allocation: Allocation) -> bool | None:
        """Its orchestrator does not receive. ``False`` if the orchestrator's node has been well nevertheless, time and again:
        it has ended the deployment, and could not tell us.
        """
        try:
            host = handle_of_peer(allocation.spec.orchestrator.addr.host)
            await self._root.invoke(host, "/public/hello", None, Hello, timeout_s=PUSH_TIMEOUT_S)
        except DMSError:
            self._disowned.pop(allocation.spec.id, None)
            return None
        self._disowned[allocation.spec.id] += 1
        if self._disowned[allocation.spec.id] < DISOWNED_TIMES:
            return None
        log.warning("allocation_disowned", allocation=allocation.spec.id)
        return False

    async def _push(self, allocation: Allocation, behaviour: str, payload: object) -> bool | None:
        """What the orchestrator says, or ``None`` if it does not answer."""
        try:
            return await self._ask(allocation, behaviour, payload)
        except PeerUnreachable:
            return None

    async def _ask(self, allocation: Allocation, behaviour: str, payload: object) -> bool | None:
        """The same, but:

        :raises PeerUnreachable: it does not receive.
        """
        try:
            reply = await allocation.actor.invoke(
                allocation.spec.orchestrator, behaviour, payload, messages.Reply, timeout_s=PUSH_TIMEOUT_S
            )
        except DMSError as exc:
            log.info("push_failed", allocation=allocation.spec.id, behaviour=behaviour, error=exc.message)
            if isinstance(exc, PeerUnreachable):
                raise
            return None
        return reply.ok


def _health_of(allocation: Allocation) -> messages.Health:
    """The last result of the registered check; a sign of life does not wait for another."""
    last = allocation.actor.health.last
    if allocation.health_check is None or last is None:
        return messages.Health(healthy=True, check_type="none")
    problem, at_s = last
    age_ns = int((trio.current_time() - at_s) * NS_PER_S)
    return messages.Health(
        healthy=not problem,
        last_check_time=allocation.actor.security.now_ns() - age_ns,
        message=problem,
        check_type="executor",
    )
