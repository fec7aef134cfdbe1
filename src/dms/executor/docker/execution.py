"""One execution as the Docker executor knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trio

from dms.executor.docker.streams import STREAMS, StreamLog
from dms.executor.execution import Execution


@dataclass(eq=False, slots=True)
class DockerExecution(Execution):
    """With its container, once there is one."""

    container_id: str = ""
    holder_id: str = ""
    """Of the container whose network it shares; empty: it has a network by itself."""
    image: str = ""
    memory_bytes: int = 0
    disk_bytes: int = 0
    """What it may write beside its volumes, where nobody but us watches that; 0 otherwise."""
    written: tuple[Path, ...] = ()
    """Directories of the host that it can write."""
    progress: str = ""
    """How far the pull of its image is."""
    network: str = ""
    """Name of its tenant's network; empty: it is in the engine's default one."""
    is_cancelled: bool = False
    engine_was_gone: bool = False
    is_over_disk: bool = False
    starting: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around everything before the container runs."""
    settled: trio.Event = field(default_factory=trio.Event)
    """Set when the container runs, or never will."""
    attached: trio.Event | None = None
    """Its outputs are read as they come, not from the engine's record; set when that has ended."""
    sample: tuple[float, int] | None = None
    """(clock in seconds, processor time in nanoseconds) when usage was last asked for."""
    logs: dict[int, StreamLog] = field(default_factory=dict)

    def open_logs(self, limit_bytes: int) -> None:
        """Know the log files; none where there is no directory for them."""
        if self.results_dir is not None:
            self.logs = {stream: StreamLog(self.results_dir / name, limit_bytes) for stream, name in STREAMS.items()}
