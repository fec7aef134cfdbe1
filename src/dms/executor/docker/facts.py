"""What an engine tells of a container, as values: usage, network, moments."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from dms.executor.docker.api import Json
from dms.executor.protocol import ExecutorStats, NetInfo, PortBinding


def usage_of(told: Json, limit_bytes: int, sample: tuple[float, int] | None, now: float) -> ExecutorStats:
    """Usage out of what the engine counts; memory without the page cache.

    ``sample`` is an earlier (moment in seconds, processor time in nanoseconds), ``now`` the present moment of that clock.
    """
    total_ns = int(_dig(told, "cpu_stats", "cpu_usage", "total_usage"))
    then, total_then_ns = sample or (now, total_ns)
    percent = 100 * (total_ns - total_then_ns) / ((now - then) * 1e9) if now > then else 0.0
    cache = _dig(told, "memory_stats", "stats", "total_inactive_file") or _dig(
        told, "memory_stats", "stats", "inactive_file"
    )
    networks = told.get("networks")
    networks = list(networks.values()) if isinstance(networks, dict) else []

    def network(key: str) -> int:
        return sum(int(_dig(one, key)) for one in networks)

    usage = told.get("cpu_stats")
    return ExecutorStats(
        max(0.0, percent),
        total_ns,
        max(0, int(_dig(told, "memory_stats", "usage") - cache)),
        limit_bytes or int(_dig(told, "memory_stats", "limit")),
        network("rx_bytes"),
        network("tx_bytes"),
        cpu_user_ns=int(_dig(usage, "cpu_usage", "usage_in_usermode")),
        cpu_kernel_ns=int(_dig(usage, "cpu_usage", "usage_in_kernelmode")),
        memory_max_bytes=int(_dig(told, "memory_stats", "max_usage")),
        network_rx_packets=network("rx_packets"),
        network_tx_packets=network("tx_packets"),
        network_rx_errors=network("rx_errors"),
        network_tx_errors=network("tx_errors"),
        network_rx_dropped=network("rx_dropped"),
        network_tx_dropped=network("tx_dropped"),
        block_read_bytes=_block_bytes(told, "read"),
        block_write_bytes=_block_bytes(told, "write"),
    )


def net_info(container: Json) -> NetInfo | None:
    """The container's network, if it has one of its own."""
    settings = container.get("NetworkSettings") or {}
    networks = settings.get("Networks") or {}
    if not networks:
        return None
    name, network = next((name, network or {}) for name, network in networks.items())
    address = str(network.get("IPAddress") or "")
    ports = [
        PortBinding(b.get("HostIp") or "", int(b.get("HostPort") or 0), int(inside), protocol or "tcp")
        for key, bindings in (settings.get("Ports") or {}).items()
        for inside, _, protocol in [key.partition("/")]
        for b in bindings or ()
        if inside.isdecimal() and (b.get("HostPort") or "0").isdecimal()
    ]
    cidr = f"{address}/{network.get('IPPrefixLen')}" if address else ""
    return NetInfo("eth0", str(settings.get("Bridge") or name), address, cidr, tuple(ports))


def _block_bytes(told: Json, operation: str) -> int:
    counted = told.get("blkio_stats")
    entries = counted.get("io_service_bytes_recursive") if isinstance(counted, dict) else None
    known = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return sum(int(_dig(entry, "value")) for entry in known if str(entry.get("op", "")).lower() == operation)


def _dig(told: Any, *keys: str) -> float:  # JSON of unknown shape
    for key in keys:
        told = told.get(key) if isinstance(told, dict) else None
    return told if isinstance(told, int | float) and math.isfinite(told) else 0


def whole_number(text: str | None) -> int:
    """Of a label; 0 where it is none."""
    return int(text) if text and text.isdecimal() and len(text) < 20 else 0


def seconds(text: object) -> float:
    """An engine's time as Unix seconds; 0 where it is not set."""
    if not isinstance(text, str) or text.startswith("0001"):
        return 0.0
    whole, _, fraction = text.removesuffix("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction[:9] or 0}")
    except (ValueError, OverflowError):
        return 0.0
