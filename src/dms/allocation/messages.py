"""Payloads of the allocation actor's own behaviours (``spec/orchestration.md`` 3.7)."""

from __future__ import annotations

import msgspec

from dms.executor.protocol import ExecutorStats
from dms.types.gojson import Wire

START = "/dms/allocation/start"
RESTART = "/dms/allocation/restart"
STATS = "/dms/allocation/stats"
NAMESPACE = "/dms/allocation"


class StartRequest(Wire):
    """Begin; public → private ports, and the address in the ensemble's network where there is one."""

    subnet_ip: str = msgspec.field(name="SubnetIP", default="")
    gateway_ip: str = msgspec.field(name="GatewayIP", default="")
    port_mapping: dict[str, int] = msgspec.field(name="PortMapping", default_factory=dict)


class RestartRequest(Wire):
    """End it and run it again. Ours: the number of the execution that is wanted, so that asking twice restarts once."""

    number: int = msgspec.field(name="Number", default=0)


class StartReply(Wire):
    """Whether it runs; ours: the code of the error, which tells what would fail on every machine, and the number of the
    execution that runs now."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")
    code: str = msgspec.field(name="Code", default="")
    execution: int = msgspec.field(name="Execution", default=0)


class CPUStats(Wire):
    """Nanoseconds in all, and percent of one core now."""

    total_usage: int = 0
    usage_in_kernelmode: int = 0
    usage_in_usermode: int = 0
    percent: float = 0.0


class MemoryStats(Wire):
    """Bytes, and percent of the limit."""

    usage: int = 0
    max_usage: int = 0
    limit: int = 0
    percent: float = 0.0


class NetworkStats(Wire):
    """Bytes and packets since the start."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class BlockStats(Wire):
    """Bytes read from and written to disks."""

    read_bytes: int = 0
    write_bytes: int = 0


class Stats(Wire):
    """What a workload uses (``spec/execution.md`` 1.5); ``timestamp`` in UNIX milliseconds. Zeros: not known."""

    cpu_usage: CPUStats = CPUStats()
    memory: MemoryStats = MemoryStats()
    network: NetworkStats = NetworkStats()
    block_io: BlockStats = BlockStats()
    timestamp: int = 0

    @classmethod
    def of(cls, sample: ExecutorStats, now_ns: int) -> Stats:
        """What an executor counted."""
        return cls(
            cpu_usage=CPUStats(
                total_usage=sample.cpu_total_ns,
                usage_in_kernelmode=sample.cpu_kernel_ns,
                usage_in_usermode=sample.cpu_user_ns,
                percent=sample.cpu_percent,
            ),
            memory=MemoryStats(
                usage=sample.memory_used_bytes,
                max_usage=sample.memory_max_bytes,
                limit=sample.memory_limit_bytes,
                percent=sample.memory_percent,
            ),
            network=NetworkStats(
                rx_bytes=sample.network_rx_bytes,
                rx_packets=sample.network_rx_packets,
                rx_errors=sample.network_rx_errors,
                rx_dropped=sample.network_rx_dropped,
                tx_bytes=sample.network_tx_bytes,
                tx_packets=sample.network_tx_packets,
                tx_errors=sample.network_tx_errors,
                tx_dropped=sample.network_tx_dropped,
            ),
            block_io=BlockStats(read_bytes=sample.block_read_bytes, write_bytes=sample.block_write_bytes),
            timestamp=now_ns // 1_000_000,
        )


class StatsReply(Wire):
    """A sample of its usage."""

    ok: bool
    error: str = ""
    stats: Stats = msgspec.field(default_factory=Stats)
