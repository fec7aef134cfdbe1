"""What an allocation is told when it is made: what to run, for whom, and what its node gives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from dms.actor.handle import Handle
from dms.allocation.hooks.hook import Hook
from dms.allocation.machine import AllocationState
from dms.allocation.networks import Networks
from dms.ensemble.config import VolumeConfig
from dms.executor.protocol import Executor
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, EnsembleID
from dms.types.resources import Resources, SpecConfig

if TYPE_CHECKING:
    from dms.allocation.allocation import Allocation


class AllocationSpec(Wire):
    """What must run, and for whom: everything a restart needs. ``ports`` are public → private."""

    id: AllocationID
    ensemble_id: EnsembleID
    node_id: str
    type: str
    executor: str
    resources: Resources
    execution: SpecConfig
    orchestrator: Handle
    created_ns: int
    provision: tuple[tuple[str, bytes], ...] = ()
    ports: dict[str, int] = msgspec.field(default_factory=dict)
    udp_ports: tuple[str, ...] = ()
    """Of the public ones; the others are for TCP."""
    volumes: tuple[VolumeConfig, ...] = ()
    recoverable: bool = False
    standby: bool = False
    needs_network: bool = False
    """It must not run without an address of its own."""

    def port_pairs(self) -> list[tuple[str, int, int]]:
        """Protocol, public, private."""
        return [
            ("udp" if public in self.udp_ports else "tcp", int(public), private)
            for public, private in self.ports.items()
        ]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an allocation needs from its node."""

    executor: Executor | None
    """``None``: this machine had it when the allocation was made, and has it no more."""
    results_dir: Path
    hooks: Sequence[Hook]
    save: Callable[[Allocation], Awaitable[None]]
    """Puts spec and state on disk; returns once they are there."""
    report: Callable[[Allocation, AllocationState], Awaitable[None]]
    """Tells the orchestrator of a change from the given state."""
    release: Callable[[Allocation], Awaitable[None]]
    """Frees resources and ports."""
    allow_privileged: bool = False
    allow_exec: bool = True
    """Commands inside, for its orchestrator."""
    networks: Networks | None = None
    """``None``: it has no address of its own."""
