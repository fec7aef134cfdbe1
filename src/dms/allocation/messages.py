"""Payloads of the allocation actor's own behaviours (``spec/orchestration.md`` 3.7)."""

from __future__ import annotations

import msgspec

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


class Stats(Wire):
    """CPU in percent of one core, memory and network in bytes."""

    cpu_percent: float = 0.0
    cpu_total_ns: int = 0
    memory_used_bytes: int = 0
    memory_limit_bytes: int = 0
    network_rx_bytes: int = 0
    network_tx_bytes: int = 0


class StatsReply(Wire):
    """A sample of its usage."""

    ok: bool
    error: str = ""
    stats: Stats = msgspec.field(default_factory=Stats)
