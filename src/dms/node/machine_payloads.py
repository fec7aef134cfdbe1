"""Payloads of the behaviours about the machine: what it offers, has and runs for others (``spec/orchestration.md`` 2).

Keys are the original's; ours are marked.
"""

from __future__ import annotations

import msgspec

from dms.resources.benchmark import Benchmark
from dms.types.gojson import Wire
from dms.types.resources import Resources


class OnboardingConfig(Wire):
    """Whether the machine takes part, and with what."""

    is_onboarded: bool = False
    onboarded_resources: Resources = msgspec.field(default_factory=Resources)


class OnboardRequest(Wire):
    """What to offer."""

    no_gpu: bool = msgspec.field(name="NoGPU", default=False)
    gpus: str = msgspec.field(name="GPUs", default="")
    config: OnboardingConfig = msgspec.field(name="Config", default_factory=OnboardingConfig)


class OnboardReply(Wire):
    """What is offered now, or why it cannot be."""

    success: bool
    error: str
    config: OnboardingConfig


class OffboardReply(Wire):
    """Whether the machine has left."""

    success: bool
    error: str


class OnboardingStatus(Wire):
    """Whether the machine takes part."""

    onboarded: bool
    error: str


class ResourcesReply(Wire):
    """Resources of one kind: allocated, free, onboarded, of the machine, or in use."""

    ok: bool = msgspec.field(name="OK")
    resources: Resources = msgspec.field(name="Resources")
    error: str = ""


class BenchmarkRequest(Wire):
    """Ask for the figures of the machine that are stored, or for new ones."""

    run: bool = False


class BenchmarkReply(Wire):
    """What the machine measured of itself, newest first."""

    ok: bool = msgspec.field(name="OK")
    benchmarks: tuple[Benchmark, ...]
    error: str = ""


class AllocationRequest(Wire):
    """One job on this machine, by its whole id."""

    allocation_id: str = msgspec.field(name="AllocationID")


class HostedAllocation(Wire):
    """One allocation that this node runs for somebody; times RFC 3339."""

    id: str
    type: str
    resources: Resources
    orchestrator: str
    status: str
    executor: str
    execution_id: str
    using_ports: tuple[int, ...]
    created_at: str
    started_at: str


class HostedAllocations(Wire):
    """All of them."""

    allocations: tuple[HostedAllocation, ...]
    error: str = ""
