"""The published events of a node: name, meaning, fields. ``docs/reference/events.md`` is made of this.

A name, once published, keeps its meaning; fields are added, never changed. Whoever emits something new declares it here:
a test compares what the code emits with what is declared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dms.observe.deployment_events import DEPLOYMENT_EVENTS
from dms.observe.events import EventKind

_PEER = "the peer's id"
_ENSEMBLE = "id of the deployment that it belongs to"
_ALLOCATION = "id of the allocation"
_RESOURCES = {
    "cores": "processor cores",
    "ram_bytes": "memory",
    "disk_bytes": "disk",
    "gpus": "how many GPUs",
}

NODE_STARTED: Final = EventKind(
    "node_started",
    "The node answers",
    {"version": "of the program", "peer": "the node's own id", "onboarded": "whether it offers anything"},
)
NODE_STOPPING: Final = EventKind("node_stopping", "The node was told to end, and stops in order")
LOG_EVENT: Final = EventKind(
    "log_event",
    "Something was logged; the fields of the entry follow",
    {
        "level": "DEBUG, INFO, WARN, ERROR or FATAL",
        "timestamp": "RFC 3339, UTC",
        "message": "name of what was logged",
        "logger": "the module",
        "caller": "file and line",
    },
    is_open=True,
)
LOGGING_CHANGED: Final = EventKind(
    "logging_changed",
    "Levels or destinations of the log were changed while the node runs",
    {"changed": "names of what was changed", "by": "DID of who did it"},
)
OUTPUT_LOST: Final = EventKind(
    "output_lost",
    "A service that logs, traces or metrics are sent to takes none any more; they are kept for a while, then dropped",
    {"output": "elastic, otel or apm; of their metrics otel-metrics or apm-metrics", "reason": "why"},
)
OUTPUT_RECOVERED: Final = EventKind(
    "output_recovered",
    "That service takes them again",
    {"output": "as output_lost has it", "outage_s": "how long it did not", "dropped": "how many entries were lost"},
)

PEER_CONNECTED: Final = EventKind("peer_connected", "A connection to a peer was made", {"peer": _PEER})
PEER_DISCONNECTED: Final = EventKind("peer_disconnected", "The last connection to a peer is gone", {"peer": _PEER})

MACHINE_ONBOARDED: Final = EventKind(
    "machine_onboarded", "The machine offers resources now, or others than before", _RESOURCES
)
MACHINE_OFFBOARDED: Final = EventKind("machine_offboarded", "The machine offers nothing any more")
BID_SENT: Final = EventKind(
    "bid_sent",
    "This machine bid for nodes of somebody's ensemble",
    {"ensemble": _ENSEMBLE, "peer": "who asked", "nodes": "names of the nodes"},
)
RESOURCES_COMMITTED: Final = EventKind(
    "resources_committed",
    "A bid was taken: resources are reserved",
    {"ensemble": _ENSEMBLE, "allocation": _ALLOCATION, "orchestrator": "peer that deploys"} | _RESOURCES,
)
ALLOCATION_CHANGED: Final = EventKind(
    "allocation_changed",
    "An allocation that runs here, or shall, is in another state than before",
    {
        "ensemble": _ENSEMBLE,
        "allocation": _ALLOCATION,
        "orchestrator": "peer that deploys",
        "before": "its state until now; empty for one that is new",
        "state": "its state now",
        "error": "what failed",
        "exit_code": "of the program, once it has ended",
    },
)
ALLOCATION_FORGOTTEN: Final = EventKind(
    "allocation_forgotten",
    "An allocation is gone for good, with all that it held",
    {"ensemble": _ENSEMBLE, "allocation": _ALLOCATION},
)
ANCHORS_CHANGED: Final = EventKind(
    "anchors_changed",
    "Whom this node trusts, or what it may do elsewhere, was changed",
    {"anchor": "require, provide, revoke or root", "by": "DID of who did it"},
)
REVOCATIONS_TAKEN: Final = EventKind(
    "revocations_taken", "Revocations that were not known are in force", {"count": "how many", "peer": _PEER}
)
SETTINGS_CHANGED: Final = EventKind(
    "settings_changed",
    "Settings were changed while the node runs",
    {"keys": "the keys", "by": "DID of who did it, or the signal"},
)
HEALTH_WARNING: Final = EventKind(
    "health_warning",
    "Something is wrong with the node",
    {"code": "of the warning", "severity": "error, warning or note", "text": "what is wrong", "hint": "what mends it"},
)
HEALTH_RECOVERED: Final = EventKind("health_recovered", "A warning shows no more", {"code": "of the warning"})

STATISTICS: Final = EventKind(
    "statistics",
    "A statistics event as release 0.5 had it, made of another event of this list",
    {
        "type": "NewDeviceOnboarded, DeviceStatusChange, DeviceResourceChange, NewService, ServiceStatus, ServiceCall or"
        " ServiceRemove",
        "members": "under the names that release 0.5 had; numbers of 32 bits",
    },
)

NODE_EVENTS: Final[Mapping[str, tuple[EventKind, ...]]] = {
    "The node": (NODE_STARTED, NODE_STOPPING, SETTINGS_CHANGED, HEALTH_WARNING, HEALTH_RECOVERED),
    "Logs and outputs": (LOG_EVENT, LOGGING_CHANGED, OUTPUT_LOST, OUTPUT_RECOVERED),
    "Peers": (PEER_CONNECTED, PEER_DISCONNECTED),
    "The machine as a provider": (
        MACHINE_ONBOARDED,
        MACHINE_OFFBOARDED,
        BID_SENT,
        RESOURCES_COMMITTED,
        ALLOCATION_CHANGED,
        ALLOCATION_FORGOTTEN,
    ),
    "Statistics": (STATISTICS,),
    "Authority": (ANCHORS_CHANGED, REVOCATIONS_TAKEN),
}
"""By chapter."""

CATALOGUE: Final[Mapping[str, EventKind]] = {
    kind.name: kind for kinds in (*NODE_EVENTS.values(), tuple(DEPLOYMENT_EVENTS.values())) for kind in kinds
}
"""All of them, by name."""
