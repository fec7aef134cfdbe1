"""The published events of a deployment: the kinds of entries in its journal, told on the bus of its node as well.

``nunet events ID`` reads the journal; on the bus an entry of kind ``submitted`` is the event ``deployment_submitted``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from dms.observe.events import EventKind

PREFIX: Final = "deployment_"

_KEY = "the allocation, as NODE.ALLOCATION"
_NODE = "node of the ensemble"
_PEER = "the peer's id"
_WHY = "why"
_ROUND = "the how manieth round of asking"
_BIDS = "the bids, at most 100: node, peer, what is free, country, prices"
_CHOSEN = "the peer chosen for each node"
_REFUSED = "what was refused, and why; empty: nothing was"
_STARTED = {"started": "allocations that run", "failed": "those that do not, and why"}
_PAIRS = "pairs of peers: round trip in milliseconds, bandwidth in bits per second, or why there is none"

_ALWAYS: Mapping[str, str] = {
    "ensemble": "id of the deployment",
    "status": "where the deployment is now, if that changed",
    "error": "what is wrong with it, if that changed",
    "queued_until": "until when it waits for capacity, UNIX nanoseconds, once it does",
    "version": "number of the version that it becomes, if an update made progress",
    "stage": "how far the update is now",
    "batch": "nodes that change now",
    "switched": "how many nodes are of the new version",
    "stopped": "nodes that could not be changed, and why",
    "reverts": "whether the update turned round",
    "outcome": "how the update ended",
    "why": "why",
}


def _kind(name: str, meaning: str, **fields: str) -> EventKind:
    return EventKind(PREFIX + name, meaning, {**_ALWAYS, **{key.rstrip("_"): text for key, text in fields.items()}})


def _open(name: str, meaning: str, **fields: str) -> EventKind:
    return dataclasses.replace(_kind(name, meaning, **fields), is_open=True)


_KINDS = (
    _kind("submitted", "An ensemble was accepted", metadata="what its user said of it"),
    _kind("begun", "Its orchestrator goes to work"),
    _kind("restored", "It was taken up again after a restart of the node"),
    _kind(
        "bids_requested",
        "Peers were asked for bids",
        node="for this node only",
        nodes="for these nodes only, at most 50",
        round=_ROUND,
    ),
    _kind(
        "bid_received",
        "A peer bid",
        node=_NODE,
        peer=_PEER,
        free_cores="cores that are free there",
        free_ram_bytes="memory that is free there",
        country="where it says it is",
        rtt_ms="round trip to it",
        doubt="why it cannot be where it says",
        prices="what it asks",
    ),
    _kind("bid_refused", "A bid is not good for this deployment", peer=_PEER, reason=_WHY),
    _open(
        "bid_declined",
        "A peer told why it does not bid",
        peer=_PEER,
        nodes="names of nodes",
        more_nodes="how many more nodes",
        rule="rule that forbids it",
        reason=_WHY,
        hint="what would change it",
    ),
    _kind("bids_heard", "More bids came than are told one by one", count="of those told", refused="not good"),
    _kind("bids_kept", "Bids of an earlier round are used again", count="how many"),
    _kind(
        "bids_collected",
        "A round of bids is over",
        round=_ROUND,
        bids=_BIDS,
        chosen=_CHOSEN,
        more_bids="how many more bids",
    ),
    _kind("edges_measured", "Connections between peers were measured", round=_ROUND, pairs=_PAIRS, chosen=_CHOSEN),
    _open("reasons", "Why no placement was found, as nunet why tells it"),
    _kind("commits_done", "Resources are reserved, or not", refused=_REFUSED),
    _kind("allocates_done", "Allocations were made, or not", refused=_REFUSED),
    _kind("starts_done", "Allocations were told to start", **_STARTED),
    _kind("start_waits", "An allocation waits for another", allocation=_KEY, for_="the other", condition="until it is"),
    _kind(
        "no_private_address",
        "A machine, or an allocation there, has no address of its own in the private network",
        peer=_PEER,
        allocation="its name; absent: the machine as a whole",
        reason=_WHY,
    ),
    _kind("network_untold", "A machine does not take what it is told of the private network", peer=_PEER, reason=_WHY),
    _kind(
        "allocation_status",
        "A provider tells of an allocation",
        allocation=_KEY,
        from_="state before",
        to="state now",
        reason=_WHY,
    ),
    _kind(
        "allocation_progress",
        "An allocation waits for an image, its volumes, or its results to be uploaded; told every half minute at most",
        allocation=_KEY,
        progress="what is done, and how far it is",
    ),
    _kind(
        "allocation_ended",
        "An allocation has ended",
        allocation=_KEY,
        state="how: completed, failed …",
        why=_WHY,
        exit_code="of the program",
    ),
    _kind("health_changed", "A health check finds other than before", allocation=_KEY, health="as found", why=_WHY),
    _kind("check_refused", "A provider does not take a health check", allocation=_KEY, reason=_WHY),
    _kind("restart_requested", "Its user wants allocations run again", allocations="which"),
    _kind("restarts_done", "Allocations were run again", restarted="which", failed="those that were not, and why"),
    _kind("peer_unreachable", "A peer that was to be asked cannot be reached", peer=_PEER, reason=_WHY),
    _kind("peer_lost", "A provider is gone", peer=_PEER, why=_WHY, placing="nodes that another place is sought for"),
    _kind("node_bids", "Bids to take over a node", node=_NODE, bids=_BIDS, chosen=_CHOSEN),
    _kind("node_measured", "Connections of peers that bid for a node", node=_NODE, pairs=_PAIRS, chosen=_CHOSEN),
    _kind("node_committed", "Resources for a node elsewhere", node=_NODE, refused=_REFUSED),
    _kind("node_allocated", "Allocations for a node elsewhere", node=_NODE, refused=_REFUSED),
    _kind("node_started", "A node runs elsewhere", node=_NODE, **_STARTED),
    _kind("left_ended", "A peer that was given up has ended what it ran", peer=_PEER, allocations="which"),
    _kind("revert_unanswered", "A peer does not answer that its reservation is given up", peer=_PEER, reason=_WHY),
    _kind("reverted", "Reservations were given back", peers="ids of the peers"),
    _kind("logs_not_fetched", "Outputs of an allocation were not to be had", allocation=_KEY, reason=_WHY),
    _kind("exec_started", "A command was run in an allocation", allocation=_KEY, program="its name", by="DID of who"),
    _kind("exec_ended", "That command has ended", allocation=_KEY, exit_code="its exit code", why=_WHY),
    _kind(
        "ports_forwarded",
        "Connections to ports of an allocation were asked for",
        allocation=_KEY,
        ports="numbers of the ports",
        by="DID of who",
    ),
    _kind(
        "update_requested",
        "Its user wants it changed while it runs",
        by="DID of the user",
        what="what changes",
        copy_of="number of the version that it becomes again",
    ),
    _kind("update_cancelled", "A change was taken back", by="DID of who did it"),
    _kind(
        "update_bids",
        "Bids for what a change adds",
        round=_ROUND,
        bids=_BIDS,
        chosen=_CHOSEN,
        more_bids="how many more bids",
    ),
    _kind("update_measured", "Connections were measured for a change", round=_ROUND, pairs=_PAIRS, chosen=_CHOSEN),
    _kind("update_committed", "Resources for what a change adds", refused=_REFUSED),
    _kind("update_allocated", "Allocations for what a change adds", refused=_REFUSED),
    _kind("update_started", "What a change adds runs, or does not", **_STARTED),
    _kind("update_due", "The next step of a change is due"),
    _kind("standbys_wanted", "Places are sought that stand ready to take over"),
    _kind("shutdown_requested", "It shall end", reason=_WHY),
    _kind("shutdown_unanswered", "A peer does not answer a shutdown", allocation=_KEY, peer=_PEER, reason=_WHY),
    _kind(
        "shutdown_done",
        "It was ended",
        unreached="allocations whose peer did not answer",
        lost="allocations whose outputs are lost, and why",
    ),
    _kind("given_up", "What drives it failed again and again"),
    _kind("settled", "Nothing is left to do for it"),
)

DEPLOYMENT_EVENTS: Final[Mapping[str, EventKind]] = {kind.name.removeprefix(PREFIX): kind for kind in _KINDS}
"""By the kind of the journal's entry."""

OTHER: Final = _open("other", "An entry of a kind that is not in this list", kind="its kind")
"""Stands for kinds that nobody declared; a test looks that there are none."""


def deployment_event(kind: str) -> EventKind:
    """The event that an entry of the journal is told as."""
    return DEPLOYMENT_EVENTS.get(kind, OTHER)
