"""What a job of a plan is for the product: an ensemble, and what its workloads do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.sim.plan import JobPlan, PartPlan

from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import EnsembleConfig
from dms.executor.errors import StartFailed
from dms.executor.protocol import ExecOutput
from dms.testing.executor import Script
from dms.testing.nodes import ENGINE
from dms.types.ids import PeerID

GIB: Final = 1 << 30
CRASHES_AFTER_S: Final = 7.0
CHECK: Final = {"type": "command", "exec": ["up"], "interval": 15 * 10**9}


def ensemble_of(job: JobPlan, peers: Mapping[str, PeerID]) -> EnsembleConfig:
    """What its user writes."""
    whole: dict[str, object] = {
        "allocations": {part.name: _allocation(part) for part in job.parts},
        "nodes": {
            node: _node(job, node, parts, is_first=number == 0) | _pinned(job, node, peers)
            for number, (node, parts) in enumerate(job.nodes.items())
        },
        "metadata": {"job": job.name},
        "edges": [{"s": edge.s, "t": edge.t, "rtt": edge.rtt_ms} for edge in job.edges],
    }
    services = [part.name for part in job.parts if part.type == "service"]
    if job.supervisor and services:
        whole["supervisor"] = {"strategy": job.supervisor, "allocations": services}
    if job.escalation:
        whole["escalation_strategy"] = job.escalation
    return decode_ensemble({"v1": whole})


def _allocation(part: PartPlan) -> dict[str, object]:
    whole: dict[str, object] = {
        "type": part.type,
        "executor": ENGINE,
        "resources": {"cpu": {"cores": part.cores}, "ram": {"size": GIB}, "disk": {"size": GIB}},
        "execution": {"type": ENGINE},
    }
    if part.recovery:
        whole["failure_recovery"] = part.recovery
    if part.health:
        whole["healthcheck"] = CHECK
    if part.after:
        whole["depends_on"] = [{"allocation": d.part, "condition": f"service_{d.condition}"} for d in part.after]
    return whole


def _node(job: JobPlan, name: str, parts: tuple[PartPlan, ...], *, is_first: bool) -> dict[str, object]:
    whole: dict[str, object] = {
        "allocations": [part.name for part in parts],
        "ports": [
            {
                "public": part.public if number == 0 and name not in job.counts else 0,
                "private": 80 + number,
                "allocation": part.name,
            }
            for part in parts
            for number in range(part.ports)
        ],
    }
    if name in job.counts:
        whole["count"] = job.counts[name]
    if job.node_recovery:
        whole["failure_recovery"] = job.node_recovery
    if job.redundancy and is_first and name not in job.pins:
        whole["redundancy"] = job.redundancy
    if job.price:
        whole["requires"] = {"prices": [f"NTX {job.price:g}"]}
    return whole


def _pinned(job: JobPlan, node: str, peers: Mapping[str, PeerID]) -> dict[str, object]:
    return {"peer": peers[job.pins[node]]} if node in job.pins else {}


def script_of(part: PartPlan, number: int, *, fails: bool, is_update: bool = False) -> Script:
    """What its execution of that number does, from 1; ``fails``: nothing starts on this machine."""
    crashes = number <= part.crashes or (is_update and part.update_fails)
    return Script(
        duration_s=CRASHES_AFTER_S if crashes else part.duration_s,
        exit_code=1 if crashes else part.exit_code,
        exec_output=ExecOutput(int(part.health == "bad" and number == 1), b"", b""),
        start_takes_s=part.start_takes_s,
        cancel_takes_s=part.cancel_takes_s,
        stdout=((0.0, f"{part.name}\n".encode()),),
        start_error=StartFailed("this machine cannot") if fails else None,
    )
