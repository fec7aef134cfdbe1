"""What the allocations of a deployment use now, asked of all their machines at once."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from dms.allocation import messages as allocation_messages
from dms.allocation.machine import AllocationState
from dms.allocation.messages import Stats
from dms.orchestrator.deployment import Deployment
from dms.orchestrator.messages import ResourceUsage
from dms.types.errors import DMSError

STATS_TIMEOUT_S = 20.0
MAX_ASKED_AT_ONCE = 32


async def stats_of(deployment: Deployment, keys: Iterable[str]) -> tuple[dict[str, Stats], dict[str, str]]:
    """A sample of each that runs, and why there is none of the others that do."""
    samples: dict[str, Stats] = {}
    problems: dict[str, str] = {}
    turn = trio.CapacityLimiter(MAX_ASKED_AT_ONCE)

    async def ask(key: str) -> None:
        async with turn:
            try:
                reply = await deployment.ask(
                    key, allocation_messages.STATS, None, allocation_messages.StatsReply, timeout_s=STATS_TIMEOUT_S
                )
            except DMSError as exc:
                problems[key] = exc.message
                return
        if reply.ok:
            samples[key] = reply.stats
        else:
            problems[key] = reply.error

    async with trio.open_nursery() as nursery:
        for key in keys:
            record = deployment.state.allocations.get(key)
            if record is not None and record.status == AllocationState.RUNNING.value and record.handle is not None:
                nursery.start_soon(ask, key)
    return samples, problems


def usage_of(sample: Stats) -> ResourceUsage:
    """A sample in the few figures that signs of life carry."""
    return ResourceUsage(
        cpu_usage_percent=sample.cpu_usage.percent,
        memory_used_bytes=sample.memory.usage,
        memory_limit_bytes=sample.memory.limit,
        network_rx_bytes=sample.network.rx_bytes,
        network_tx_bytes=sample.network.tx_bytes,
    )


def total(usages: Iterable[ResourceUsage]) -> ResourceUsage:
    """All of them together."""
    found = tuple(usages)
    return ResourceUsage(
        cpu_usage_percent=sum(u.cpu_usage_percent for u in found),
        memory_used_bytes=sum(u.memory_used_bytes for u in found),
        memory_limit_bytes=sum(u.memory_limit_bytes for u in found),
        network_rx_bytes=sum(u.network_rx_bytes for u in found),
        network_tx_bytes=sum(u.network_tx_bytes for u in found),
    )
