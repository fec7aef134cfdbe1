"""All that a node knows of one deployment and its allocations, for whoever asks (``spec/orchestration.md`` 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from dms.node import payloads as p
from dms.node.listing import rfc3339
from dms.node.usage import stats_of, total, usage_of
from dms.orchestrator.deployment import Deployment
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.errors import DeploymentNotRunning
from dms.orchestrator.journal import DeploymentRecord
from dms.orchestrator.lifecycle.state import AllocationRecord
from dms.orchestrator.messages import Health, ResourceUsage
from dms.orchestrator.scheduling.queueing import is_queued
from dms.orchestrator.udp_ports import udp_ports
from dms.types.errors import DMSError


@dataclass(frozen=True, slots=True)
class Detail:
    """How much is wanted; no ``names``: all allocations."""

    usage: bool = False
    logs: bool = False
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Told:
    """The allocations by ``<node>.<allocation>``, and what they use together."""

    allocations: dict[str, p.AllocationInfo]
    usage: ResourceUsage | None = None


async def describe(deployments: Deployments, record: DeploymentRecord, wanted: Detail, manifest: object) -> p.InfoReply:
    """Everything."""
    told = await describe_all(deployments, record, wanted)
    state = record.state
    return p.InfoReply(
        id=record.id,
        status=state.status,
        error=state.error,
        manifest=manifest,
        allocations=told.allocations,
        usage=told.usage,
        owner=state.owner,
        metadata=record.config.v1.metadata,
        created_at=rfc3339(state.created_ns),
        updated_at=rfc3339(state.updated_ns),
        completed_at=rfc3339(state.completed_ns),
        queued_since=rfc3339(state.queued_ns if is_queued(state) else 0),
        queued_until=rfc3339(state.terms.queue_until_ns if is_queued(state) else 0),
        ends_at=rfc3339(state.ends_ns),
        schedule=state.terms.schedule,
        version=state.version,
    )


async def describe_all(deployments: Deployments, record: DeploymentRecord, wanted: Detail) -> Told:
    """The allocations; usage is asked of their machines, logs are copied to this node."""
    records = {
        key: allocation
        for key, allocation in record.state.allocations.items()
        if not wanted.names or wanted.names & {key, allocation.name, allocation.id}
    }
    try:
        live: Deployment | None = deployments.live(record.id)
    except DeploymentNotRunning:
        live = None
    infos = {key: _described(record, allocation, live) for key, allocation in records.items()}
    usage = None
    if wanted.usage and live is not None:
        samples, problems = await stats_of(live, infos)
        for key, sample in samples.items():
            infos[key] = _with(infos[key], executor_stats=sample, resource_usage=usage_of(sample))
        for key, problem in problems.items():
            infos[key] = _with(infos[key], usage_error=problem)
        usage = total(usage_of(sample) for sample in samples.values())
    if wanted.logs:
        for key in infos:
            infos[key] = _with(infos[key], logs=await _log_place(deployments, record, key))
    return Told(infos, usage)


async def _log_place(deployments: Deployments, record: DeploymentRecord, key: str) -> p.LogPlace:
    try:
        folder = await deployments.fetch_logs(record.id, key)
    except DMSError as exc:
        return p.LogPlace(error=exc.message)
    return p.LogPlace(
        stdout_path=str(folder / "stdout.log"), stderr_path=str(folder / "stderr.log"), logs_written_to=str(folder)
    )


def _described(record: DeploymentRecord, allocation: AllocationRecord, live: Deployment | None) -> p.AllocationInfo:
    config = record.config.v1.allocations.get(allocation.name)
    sign = live.last_sign(allocation.key) if live is not None else None
    info = p.AllocationInfo(
        allocation_id=allocation.id,
        status=allocation.status,
        node_id=allocation.node_id,
        peer=allocation.peer,
        type=allocation.type,
        error=allocation.error,
        reason=allocation.reason,
        exit_code=allocation.exit_code,
        ports=allocation.ports,
        udp_ports=udp_ports(record.config, allocation),
        started_at=rfc3339(allocation.started_ns),
        ended_at=rfc3339(allocation.ended_ns),
        dns_name=config.dns_name if config is not None else "",
        private_address=live.private_address(allocation.key) if live is not None else "",
        network_problem=live.network_problem(allocation.key) if live is not None else "",
        restarts=allocation.restarts,
        health=_health_of(allocation),
        has_health_check=config is not None and config.healthcheck is not None,
        resource_limit=config.resources if config is not None else None,
    )
    if sign is None or allocation.is_over:
        return info
    return _with(
        info,
        heartbeat_seq=sign.sequence_number,
        timestamp=sign.timestamp,
        has_health_check=sign.health_check_enabled or info.has_health_check,
        health=info.health or sign.health,
        resource_usage=sign.resource_usage,
        progress=sign.progress,
    )


def _with(info: p.AllocationInfo, **changes: object) -> p.AllocationInfo:
    return msgspec.structs.replace(info, **changes)


def _health_of(allocation: AllocationRecord) -> Health | None:
    """What the orchestrator's own checks found last, where they told of anything."""
    if not allocation.health:
        return None
    is_well = not allocation.health_problem
    return Health(healthy=is_well, message=allocation.health_problem, check_type="executor")
