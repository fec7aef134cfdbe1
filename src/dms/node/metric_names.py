"""The published metrics of a node (``spec/platform.md`` 5.5); ``docs/reference/metrics.md`` is made of this.

Names, units and labels are those of the original where it has them. Those of payments come with payments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dms.observe.metrics import Counter, Gauge, Metric
from dms.observe.outputs import OUTPUT_METRICS

_PLACE = {
    "continent": "code",
    "country": "ISO code",
    "city": "name",
    "onboarded": "whether the machine offers anything",
}
_ALLOCATION = {
    "orchestratorID": "id of the deployment that it belongs to",
    "allocationID": "its id",
    "status": "its state",
}
_ORCHESTRATOR = {"orchestratorID": "id of the deployment"}

CPU: Final = Metric("dms.sys.cpu.total.norm", Gauge, "1", "Share of all cores that is busy, from 0 to 1")
MEMORY_USED: Final = Metric("dms.sys.memory.actual.used", Gauge, "bytes", "Memory that is not available")
MEMORY_TOTAL: Final = Metric("dms.sys.memory.total", Gauge, "bytes", "Memory of the machine")
DISK_USED: Final = Metric("dms.sys.filesystem.used", Gauge, "bytes", "Used on the file system of general.work_dir")
DISK_TOTAL: Final = Metric("dms.sys.filesystem.total", Gauge, "bytes", "Size of that file system")
UPTIME: Final = Metric("dms.sys.uptime", Gauge, "s", "Time since the start of the machine")
LOAD_15: Final = Metric("dms.sys.load.15", Gauge, "", "Load average of fifteen minutes")
NET_IN: Final = Metric("dms.sys.network.in", Counter, "bytes", "Received by the machine since its start")
NET_OUT: Final = Metric("dms.sys.network.out", Counter, "bytes", "Sent by the machine since its start")

ONBOARDED: Final = Metric("dms.node.onboarded", Gauge, "", "1 if the machine offers resources, else 0")
ONBOARDED_CPU: Final = Metric("dms.node.onboarded.cpu", Gauge, "cores", "Cores that it offers")
ONBOARDED_MEMORY: Final = Metric("dms.node.onboarded.memory", Gauge, "GB", "Memory that it offers")
ONBOARDED_DISK: Final = Metric("dms.node.onboarded.disk", Gauge, "MB", "Disk that it offers")
ONBOARDED_GPU: Final = Metric("dms.node.onboarded.gpu", Gauge, "", "GPUs that it offers")
LOCATION: Final = Metric("dms.node.location", Gauge, "", "Always 1: where the machine says it is", _PLACE)
PEERS: Final = Metric("dms.node.peers", Gauge, "", "Peers that are connected")
MESSAGES: Final = Metric(
    "dms.messages", Counter, "", "Messages to this node's root actor", {"outcome": "dispatched, or why it was not"}
)
INFO: Final = Metric("dms.node.info", Gauge, "", "Always 1: which program runs", {"version": "of it", "did": "whose"})

BIDS_RECEIVED: Final = Metric("dms.bid.received", Counter, "", "Bids for deployments of this node", _ORCHESTRATOR)
BIDS_ACCEPTED: Final = Metric("dms.bid.accepted", Counter, "", "Those of them that were chosen", _ORCHESTRATOR)

DEPLOYMENTS: Final = Metric(
    "dms.deployment.status", Gauge, "", "Deployments of this node", {"status": "where they are"}
)
SUCCESS: Final = Metric("dms.deployment.success", Counter, "", "Deployments that came to run")
SUCCESS_ALLOCATIONS: Final = Metric("dms.deployment.success.allocations", Counter, "", "Allocations of those")
SUCCESS_CPU: Final = Metric("dms.deployment.success.cpu.assigned", Counter, "cores", "Cores of those")
SUCCESS_MEMORY: Final = Metric("dms.deployment.success.memory.assigned", Counter, "bytes", "Memory of those")
SUCCESS_DISK: Final = Metric("dms.deployment.success.disk.assigned", Counter, "bytes", "Disk of those")
SUCCESS_GPU: Final = Metric("dms.deployment.success.gpu.assigned", Counter, "", "GPUs of those")

ALLOCATION_STATUS: Final = Metric(
    "dms.allocation.status", Gauge, "", "Always 1: an allocation that this machine has", _ALLOCATION
)
ALLOCATION_HEARTBEAT: Final = Metric(
    "dms.allocation.heartbeat", Counter, "", "Signs of life that its orchestrator was sent", _ALLOCATION
)
ALLOCATION_CPU: Final = Metric(
    "dms.allocation.cpu.usage", Gauge, "percent", "What it uses of a core; 200 are two", _ALLOCATION
)
ALLOCATION_MEMORY: Final = Metric("dms.allocation.memory.used", Gauge, "bytes", "Memory that it uses", _ALLOCATION)
ALLOCATION_LIMIT: Final = Metric("dms.allocation.memory.limit", Gauge, "bytes", "Memory that it may use", _ALLOCATION)
ALLOCATION_RX: Final = Metric("dms.allocation.network.rx", Counter, "bytes", "What it received", _ALLOCATION)
ALLOCATION_TX: Final = Metric("dms.allocation.network.tx", Counter, "bytes", "What it sent", _ALLOCATION)

SUBNET_NETWORKS: Final = Metric(
    "dms.subnet.networks", Gauge, "", "Private networks that this machine carries packets of"
)
SUBNET_ATTACHED: Final = Metric("dms.subnet.attached", Gauge, "", "Addresses whose devices are on this machine")
SUBNET_WAYS: Final = Metric(
    "dms.subnet.ways", Gauge, "", "Ways to other machines that are used now", {"path": "datagram, direct or relayed"}
)
SUBNET_RTT: Final = Metric("dms.subnet.rtt", Gauge, "ms", "Round trip of these ways, the one in the middle")
_DIRECTION = {"direction": "in or out, as seen from this machine"}
SUBNET_PACKETS: Final = Metric("dms.subnet.packets", Counter, "", "Packets from and to other machines", _DIRECTION)
SUBNET_BYTES: Final = Metric("dms.subnet.bytes", Counter, "bytes", "Bytes of those", _DIRECTION)
SUBNET_DROPS: Final = Metric("dms.subnet.drops", Counter, "", "Packets that went no further", {"reason": "why"})
SUBNET_QUERIES: Final = Metric("dms.subnet.queries", Counter, "", "Names asked for", {"outcome": "what was answered"})
SUBNET_REFUSED: Final = Metric(
    "dms.subnet.refused", Counter, "", "Streams and datagrams of peers that were not let in", {"reason": "why"}
)
SUBNET_CONNECTIONS: Final = Metric(
    "dms.subnet.connections",
    Counter,
    "",
    "TCP connections with other machines that are streams of their own",
    {"outcome": "served, refused or malformed: of others; opened or failed: of this machine"},
)
SUBNET_SERVING: Final = Metric("dms.subnet.connections.serving", Gauge, "", "Those of others that are open now")
SUBNET_CONNECTION_BYTES: Final = Metric(
    "dms.subnet.connections.bytes", Counter, "bytes", "Bytes of those of others, counted at the end of each"
)

LOG_LOST: Final = Metric("dms.log.lost", Counter, "", "Log entries that could not be written to the file")

METRICS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "The machine": (CPU, MEMORY_USED, MEMORY_TOTAL, DISK_USED, DISK_TOTAL, UPTIME, LOAD_15, NET_IN, NET_OUT),
    "The node": (
        INFO,
        ONBOARDED,
        ONBOARDED_CPU,
        ONBOARDED_MEMORY,
        ONBOARDED_DISK,
        ONBOARDED_GPU,
        LOCATION,
        PEERS,
        MESSAGES,
    ),
    "Bids": (BIDS_RECEIVED, BIDS_ACCEPTED),
    "Deployments": (
        DEPLOYMENTS,
        SUCCESS,
        SUCCESS_ALLOCATIONS,
        SUCCESS_CPU,
        SUCCESS_MEMORY,
        SUCCESS_DISK,
        SUCCESS_GPU,
    ),
    "Allocations": (
        ALLOCATION_STATUS,
        ALLOCATION_HEARTBEAT,
        ALLOCATION_CPU,
        ALLOCATION_MEMORY,
        ALLOCATION_LIMIT,
        ALLOCATION_RX,
        ALLOCATION_TX,
    ),
    "Private networks": (
        SUBNET_NETWORKS,
        SUBNET_ATTACHED,
        SUBNET_WAYS,
        SUBNET_RTT,
        SUBNET_PACKETS,
        SUBNET_BYTES,
        SUBNET_DROPS,
        SUBNET_QUERIES,
        SUBNET_REFUSED,
        SUBNET_CONNECTIONS,
        SUBNET_SERVING,
        SUBNET_CONNECTION_BYTES,
    ),
    "Logs and outputs": (LOG_LOST, *OUTPUT_METRICS),
}
"""By chapter."""
