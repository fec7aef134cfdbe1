"""What every backend that runs workloads can do (``spec/execution.md`` 1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path
from typing import Protocol

from dms.executor.sessions import ExecRequest, ExecSession
from dms.types.resources import Resources, SpecConfig


class ExecutionStatus(Enum):
    """The life of one execution; texts as in ``spec/execution.md`` 1.3."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    SUCCESS = "success"

    @property
    def is_final(self) -> bool:
        """Whether it will not change any more."""
        return self in (ExecutionStatus.FAILED, ExecutionStatus.SUCCESS)


class EndReason(Enum):
    """Why an execution ended: the truth behind its exit code."""

    EXITED = "exited"
    """By itself; see the exit code."""
    TRAPPED = "trapped"
    """A WebAssembly trap, or a fatal signal from inside."""
    OUT_OF_MEMORY = "out_of_memory"
    CPU_LIMIT = "cpu_limit"
    """Its budget of processor time was used up."""
    DISK_LIMIT = "disk_limit"
    """It wrote more than its disk."""
    TIMED_OUT = "timed_out"
    """Its wall-clock limit passed."""
    CANCELLED = "cancelled"
    """Somebody here asked for it."""
    KILLED = "killed"
    """From outside, not by us."""
    INFRASTRUCTURE = "infrastructure"
    """It could not be started or observed; exit code -1."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the host inside the sandbox."""

    source: Path
    target: str
    read_only: bool = False


PROTOCOLS = ("tcp", "udp")
"""Of ports."""


@dataclass(frozen=True, slots=True)
class PortBinding:
    """A port of the host that leads into the sandbox; ``protocol`` is ``tcp`` or ``udp``."""

    ip: str
    host_port: int
    executor_port: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Member:
    """Where a workload is in a private network, for those that have to be told: guests with a kernel of their own."""

    address: IPv4Interface
    ipv6: IPv6Interface
    gateway: IPv4Address
    """Who resolves names."""
    mtu: int
    host: IPv4Address
    """The machine at the other end of a guest's link,"""
    router6: IPv6Address
    """and the same as the way to the rest of its IPv6 network."""


class Join(Protocol):
    """Makes a workload a member of a private network."""

    async def __call__(self, namespace: Path, *, behind: str = "", published: Collection[str] = PROTOCOLS) -> None:
        """Give it its address: in a network namespace, or to a guest ``behind`` a device there. ``published``: by which
        protocols its public ports lead in already.

        :raises DMSError: it cannot become a member.
        """
        ...


Proxy = Callable[[str, int], Awaitable[tuple[str, ...]]]
"""Called with the address at which the workload reaches this machine, and the port that it was told before, or 0; gives the
variables that tell it of its proxy.

:raises DMSError: there is none.
"""


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """Everything needed to run one workload once. Limits come from ``resources``; zero means the backend's default."""

    job_id: str
    execution_id: str
    engine: SpecConfig
    resources: Resources
    results_dir: Path
    """Private directory of this execution; ``stdout.log`` and ``stderr.log`` are written here."""
    inputs: tuple[Mount, ...] = ()
    outputs: tuple[Mount, ...] = ()
    provision_scripts: tuple[tuple[str, bytes], ...] = ()
    """(name, body) in the order in which they must run before the workload."""
    ports: tuple[PortBinding, ...] = ()
    gateway_ip: str = ""
    allow_privileged: bool = False
    join: Join | None = None
    """Makes the workload a member of a private network; called before it begins, and again when it is adopted. Backends without
    network namespaces ignore it."""
    member: Member | None = None
    """What it will be there; with ``join`` only."""
    unjoined: Callable[[str], None] | None = None
    """Told why it begins without, where that is for another reason than that :attr:`join` failed."""
    must_join: bool = False
    """Rather fail than begin without."""
    proxy: Proxy | None = None
    """Where no device can be had: a way to the other members. Backends without variables or a network ignore it."""
    environment: tuple[str, ...] = ()
    """Variables that the workload has unless it was given some of the same name."""
    tenant: str = ""
    """For whom it runs: where the backend can, those of one tenant reach each other over the network, others do not."""


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """How it ended. The logs stay in files, so that their size does not matter here."""

    exit_code: int
    reason: EndReason
    error_msg: str = ""
    stdout_path: Path | None = None
    stderr_path: Path | None = None

    @property
    def ok(self) -> bool:
        """Ended by itself with exit code 0."""
        return self.exit_code == 0 and self.reason is EndReason.EXITED

    @property
    def killed(self) -> bool:
        """Ended by somebody else."""
        return self.reason in (EndReason.KILLED, EndReason.CANCELLED)


@dataclass(frozen=True, slots=True)
class LogStreamRequest:
    """Which logs: ``stream`` is ``stdout`` or ``stderr``; ``follow`` goes on until the execution ends; ``tail_bytes``
    skips all but the end; ``since_s`` (UNIX seconds) skips what is older, to within half a second: rather more is told
    than less."""

    execution_id: str
    stream: str = "stdout"
    follow: bool = False
    tail_bytes: int | None = None
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class ExecOutput:
    """What a command inside the sandbox said."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class NetInfo:
    """The network of one execution, as far as it has one (``spec/execution.md`` 1.6)."""

    interface_name: str = ""
    host_bridge: str = ""
    ip_address: str = ""
    cidr: str = ""
    mapped_ports: tuple[PortBinding, ...] = ()
    namespace: Path | None = None
    """Its network namespace, where this process sees it."""


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """One execution that the backend knows, also after a restart of the program."""

    execution_id: str
    job_id: str
    status: ExecutionStatus
    engine: str
    detail: dict[str, str] = field(default_factory=dict)
    """Backend's own facts: container id, image, process id."""
    net: NetInfo | None = None
    doing: str = ""
    """While it is pending: what it waits for and how far that is."""


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """Usage now: CPU in percent of one core and total nanoseconds, memory in bytes, network in bytes and packets, disk
    in bytes. What a backend cannot tell is zero."""

    cpu_percent: float = 0.0
    cpu_total_ns: int = 0
    memory_used_bytes: int = 0
    memory_limit_bytes: int = 0
    network_rx_bytes: int = 0
    network_tx_bytes: int = 0
    cpu_user_ns: int = 0
    cpu_kernel_ns: int = 0
    memory_max_bytes: int = 0
    network_rx_packets: int = 0
    network_tx_packets: int = 0
    network_rx_errors: int = 0
    network_tx_errors: int = 0
    network_rx_dropped: int = 0
    network_tx_dropped: int = 0
    block_read_bytes: int = 0
    block_write_bytes: int = 0

    @property
    def memory_percent(self) -> float:
        """Of the limit; 0 where there is none."""
        return 100 * self.memory_used_bytes / self.memory_limit_bytes if self.memory_limit_bytes else 0.0


class FetchFile(Protocol):
    """How the content of one file is got from elsewhere."""

    async def __call__(self, source: SpecConfig, *, max_bytes: int) -> bytes:
        """The content of the one file that a storage specification names, checked against its hash.

        :raises DMSError: it cannot be had, with the reason.
        """
        ...


class Executor(Protocol):
    """One backend. Ids that it does not know raise :class:`~dms.executor.errors.ExecutionNotFound`."""

    @property
    def type(self) -> str:
        """``docker``, ``wasm``, ``qemu``, ``firecracker`` or ``null``: what an ensemble calls it."""
        ...

    async def validate(self, engine: SpecConfig) -> None:
        """Check engine parameters without side effects.

        :raises InvalidEngineSpec: they cannot work, with the reason.
        """
        ...

    async def start(self, request: ExecutionRequest) -> None:
        """Begin, and return while it runs. An execution that already runs under this id (after a restart of the
        program) is adopted.

        :raises AlreadyStarted: the id is active, or has ended, in this process.
        :raises InvalidEngineSpec: the parameters cannot work.
        :raises StartFailed: the backend refused.
        """
        ...

    async def connect(self, request: ExecutionRequest) -> None:
        """Make what runs already a member of a private network, by :attr:`ExecutionRequest.join`.

        :raises Unsupported: the backend cannot.
        :raises DMSError: as ``join`` does.
        """
        ...

    async def run(self, request: ExecutionRequest) -> ExecutionResult:
        """Start, and wait for the end. Whoever is cancelled here cancels the execution.

        :raises ExecutorError: as :meth:`start` does.
        """
        ...

    async def wait(self, execution_id: str) -> ExecutionResult:
        """The end; any number of callers may wait, also after it."""
        ...

    async def cancel(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """Ask it to stop, insist after ``grace_s``; returns when it has ended. Ended ones are left as they are."""
        ...

    async def pause(self, execution_id: str) -> None:
        """Freeze.

        :raises Unsupported: the backend cannot.
        """
        ...

    async def resume(self, execution_id: str) -> None:
        """Unfreeze."""
        ...

    async def remove(self, execution_id: str, *, grace_s: float = 10.0) -> None:
        """Cancel if need be and forget; nothing of the sandbox is left. The results directory stays. Unknown ids are
        ignored."""
        ...

    def logs(self, request: LogStreamRequest) -> AsyncIterator[bytes]:
        """Chunks of one log as they are written."""
        ...

    async def exec(self, execution_id: str, argv: tuple[str, ...]) -> ExecOutput:
        """Run a command inside.

        :raises Unsupported: the backend cannot.
        """
        ...

    async def open_exec(self, request: ExecRequest) -> ExecSession:
        """Run a command inside and talk with it; whoever opens it closes it.

        :raises Unsupported: the backend cannot, or not with input or a terminal.
        """
        ...

    async def status(self, execution_id: str) -> ExecutionStatus:
        """Where it is in its life."""
        ...

    async def wait_for_status(self, execution_id: str, status: ExecutionStatus, *, timeout_s: float = 10.0) -> None:
        """Return when it is so.

        :raises StatusNotReached: it has ended otherwise, or the time is up.
        """
        ...

    async def info(self, execution_id: str) -> ExecutionInfo:
        """Its status, the backend's own facts and its network."""
        ...

    async def stats(self, execution_id: str) -> ExecutorStats:
        """Usage now; zeros after the end."""
        ...

    async def list(self) -> tuple[ExecutionInfo, ...]:
        """All that this backend holds for us, those of an earlier process included."""
        ...

    async def cleanup(self) -> None:
        """Remove everything that this executor ever made and that still exists."""
        ...
