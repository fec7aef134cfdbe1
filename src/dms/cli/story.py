"""The events of a deployment, told in lines: what a node's journal holds, for people.

Pure: values in, text out. An event of a kind that is not known here is still told, with what it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dms.cli.output import clean, pairs
from dms.cli.update_story import UPDATE_TELLERS, progress
from dms.node.payloads import DeploymentEvent
from dms.types.units import format_bytes

NS_PER_S = 10**9
SILENT = frozenset({"begun", "settled", "reasons"})
"""Kinds that follow from others, or that nunet why tells."""

Detail = dict[str, Any]  # JSON; its shape depends on the kind
Namer = Callable[[str], str]
"""A peer for people."""


class Story:
    """Tells events; remembers when the deployment was submitted."""

    def __init__(self, name_peer: Namer) -> None:
        self._name_peer = name_peer
        self._begun_ns: int | None = None

    def lines(self, events: Iterable[DeploymentEvent]) -> Iterator[str]:
        """Events as lines, without those that tell people nothing."""
        for event in events:
            line = self.line(event)  # every event, for the time that the first sets
            if event.kind not in SILENT:
                yield line

    def line(self, event: DeploymentEvent) -> str:
        """One event as a line, with the time since the submission in front."""
        if self._begun_ns is None:
            self._begun_ns = event.at
        elapsed_s = max(0, event.at - self._begun_ns) / NS_PER_S
        return f"{_clock(elapsed_s):>8}  {self.text(event)}"

    def text(self, event: DeploymentEvent) -> str:
        """What happened, in one line."""
        tell = _TELLERS.get(event.kind)
        detail = dict(event.detail)
        status, error = str(detail.pop("status", "") or ""), str(detail.pop("error", "") or "")
        try:
            text = tell(detail, self._name_peer) if tell else f"{event.kind.replace('_', ' ')} {pairs(detail)}".strip()
        except (KeyError, TypeError, AttributeError, ValueError):  # another version's shape of it
            text = f"{event.kind.replace('_', ' ')} {pairs(detail)}"
        if told := progress(detail):
            text = f"{text}; {told}"
        if error and error not in text:
            text = f"{text}: {error}"
        if status:
            text = f"{text} → {status}"
        return clean(text)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes:.0f}m{rest:04.1f}s"
    return f"{minutes // 60:.0f}h{minutes % 60:02.0f}m"


def _submitted(detail: Detail, _name: Namer) -> str:
    metadata = detail.get("metadata") or {}
    return f"submitted ({pairs(metadata)})" if metadata else "submitted"


def _bids_requested(detail: Detail, _name: Namer) -> str:
    number = int(detail.get("round", 1))
    return "asked the network for bids" + (f", round {number}" if number > 1 else "")


def _bid_received(detail: Detail, name: Namer) -> str:
    free = []
    if "free_cores" in detail:
        free.append(f"{float(detail['free_cores']):g} cores")
    if "free_ram_bytes" in detail:
        free.append(format_bytes(int(detail["free_ram_bytes"])))
    text = f"{name(detail['peer'])} bid for {detail['node']}"
    if free:
        text += f" ({' and '.join(free)} free)"
    return text + (f" in {detail['country']}" if detail.get("country") else "")


def _bid_refused(detail: Detail, name: Namer) -> str:
    return f"refused a bid of {name(detail['peer'])}: {detail['reason']}"


def _bid_declined(detail: Detail, name: Namer) -> str:
    nodes = ", ".join(detail["nodes"]) + (f" and {detail['more_nodes']} more" if detail.get("more_nodes") else "")
    return f"{name(detail['peer'])} does not bid for {nodes}: {detail['reason']}"


def _bids_collected(detail: Detail, name: Namer) -> str:
    count = len(detail.get("bids") or ())
    bids = f"{count} bid{'' if count == 1 else 's'}"
    chosen = detail.get("chosen") or {}
    if not chosen and detail.get("queued_until"):
        return f"{bids}, none chosen: waits for capacity"
    if not chosen:
        return f"{bids}, none chosen"
    return f"chose {', '.join(f'{name(peer)} for {node}' for node, peer in sorted(chosen.items()))} out of {bids}"


def _commits_done(detail: Detail, _name: Namer) -> str:
    return _refusals(detail, "resources reserved", "not reserved")


def _allocates_done(detail: Detail, _name: Namer) -> str:
    return _refusals(detail, "allocations made", "not allocated")


def _starts_done(detail: Detail, _name: Namer) -> str:
    failed = detail.get("failed") or {}
    if failed:
        return f"not started: {'; '.join(f'{key}: {why}' for key, why in sorted(failed.items()))}"
    return f"started {', '.join(detail.get('started') or ())}"


def _allocation_status(detail: Detail, _name: Namer) -> str:
    text = f"{detail['allocation']} is {detail['to']}"
    return f"{text} ({detail['reason']})" if detail.get("reason") else text


def _allocation_progress(detail: Detail, _name: Namer) -> str:
    return f"{detail['allocation']}: {detail['progress']}"


def _allocation_ended(detail: Detail, _name: Namer) -> str:
    text = f"{detail['allocation']} ended: {detail['state']}"
    if detail.get("exit_code") is not None:
        text += f", exit code {detail['exit_code']}"
    return f"{text}, {detail['why']}" if detail.get("why") else text


def _shutdown_requested(detail: Detail, _name: Namer) -> str:
    return f"its end has come: {detail['reason']}" if detail.get("reason") else "shutdown requested"


def _shutdown_done(detail: Detail, _name: Namer) -> str:
    unreached, lost = detail.get("unreached") or (), detail.get("lost") or {}
    text = f"shut down, but not reached: {', '.join(unreached)}" if unreached else "shut down"
    return "; ".join([text, *(f"the outputs of {key} are lost: {why}" for key, why in sorted(lost.items()))])


def _shutdown_unanswered(detail: Detail, name: Namer) -> str:
    return f"{name(detail['peer'])} does not answer the shutdown of {detail['allocation']}: {detail['reason']}"


def _reverted(detail: Detail, name: Namer) -> str:
    return f"given back by {', '.join(name(peer) for peer in detail['peers'])}"


def _given_up(_detail: Detail, _name: Namer) -> str:
    return "given up: what drives it failed again and again"


def _restored(_detail: Detail, _name: Namer) -> str:
    return "taken up again after a restart of the node"


def _logs_not_fetched(detail: Detail, _name: Namer) -> str:
    return f"the logs of {detail['allocation']} could not be fetched: {detail['reason']}"


def _peer_unreachable(detail: Detail, name: Namer) -> str:
    return f"{name(detail['peer'])} cannot be reached: {detail['reason']}"


def _revert_unanswered(detail: Detail, name: Namer) -> str:
    return f"{name(detail['peer'])} does not answer that its reservation is given up: {detail['reason']}"


def _health_changed(detail: Detail, _name: Namer) -> str:
    text = f"{detail['allocation']} is {detail['health']}"
    return f"{text}: {detail['why']}" if detail.get("why") else text


def _restarts_done(detail: Detail, _name: Namer) -> str:
    failed = [f"{key} could not be restarted: {why}" for key, why in sorted((detail.get("failed") or {}).items())]
    restarted = detail.get("restarted") or ()
    return "; ".join(([f"restarted {', '.join(restarted)}"] if restarted else []) + failed)


def _peer_lost(detail: Detail, name: Namer) -> str:
    text = f"{name(detail['peer'])} is gone: {detail['why']}"
    placing = detail.get("placing") or ()
    return f"{text}; another place is sought for {', '.join(placing)}" if placing else text


def _node_bids(detail: Detail, name: Namer) -> str:
    count, node = len(detail.get("bids") or ()), detail["node"]
    bids = f"{count} bid{'' if count == 1 else 's'} for {node}"
    chosen = (detail.get("chosen") or {}).get(node)
    return f"chose {name(chosen)} out of {bids}" if chosen else f"{bids}, none chosen"


def _node_committed(detail: Detail, _name: Namer) -> str:
    return f"{detail['node']}: {_refusals(detail, 'resources reserved', 'not reserved')}"


def _node_allocated(detail: Detail, _name: Namer) -> str:
    return f"{detail['node']}: {_refusals(detail, 'allocations made', 'not allocated')}"


def _node_measured(detail: Detail, name: Namer) -> str:
    count, chosen = len(detail.get("pairs") or ()), (detail.get("chosen") or {}).get(detail["node"])
    text = f"measured {count} connection{'' if count == 1 else 's'} for {detail['node']}"
    return f"{text}: {name(chosen)} keeps its edges" if chosen else text


_CONDITIONS = {"service_healthy": "to be well", "service_completed_successfully": "to complete"}


def _start_waits(detail: Detail, _name: Namer) -> str:
    return f"{detail['allocation']} waits for {detail['for']} {_CONDITIONS.get(detail['condition'], 'to run')}"


def _no_private_address(detail: Detail, name: Namer) -> str:
    who = f"{detail['allocation']} at " if "allocation" in detail else ""
    return f"{who}{name(detail['peer'])} has no address in the private network: {detail['reason']}"


def _network_untold(detail: Detail, name: Namer) -> str:
    return f"{name(detail['peer'])} does not take the private network: {detail['reason']}"


def _left_ended(detail: Detail, name: Namer) -> str:
    return f"{name(detail['peer'])} has ended {', '.join(detail.get('allocations') or ())}"


def _exec_started(detail: Detail, _name: Namer) -> str:
    return f"{detail['program']} was run in {detail['allocation']} by {detail['by']}"


def _exec_ended(detail: Detail, _name: Namer) -> str:
    if detail.get("why"):
        return f"a command in {detail['allocation']} ended: {detail['why']}"
    return f"a command in {detail['allocation']} ended with exit code {detail['exit_code']}"


def _ports_forwarded(detail: Detail, _name: Namer) -> str:
    ports = ", ".join(str(port) for port in detail["ports"])
    return f"ports of {detail['allocation']} are forwarded to {detail['by']}: {ports}"


def _restart_requested(detail: Detail, _name: Namer) -> str:
    return f"restart of {', '.join(detail['allocations'])} requested"


def _refusals(detail: Detail, done: str, failed: str) -> str:
    refused = detail.get("refused") or {}
    if not refused:
        return done
    return f"{failed}: {'; '.join(f'{key}: {why}' for key, why in sorted(refused.items()))}"


_TELLERS: dict[str, Callable[[Detail, Namer], str]] = UPDATE_TELLERS | {
    "begun": lambda _detail, _name: "begun",
    "reverted": _reverted,
    "settled": lambda _detail, _name: "settled",
    "submitted": _submitted,
    "bids_requested": _bids_requested,
    "bid_received": _bid_received,
    "bid_refused": _bid_refused,
    "bid_declined": _bid_declined,
    "bids_collected": _bids_collected,
    "commits_done": _commits_done,
    "allocates_done": _allocates_done,
    "starts_done": _starts_done,
    "allocation_status": _allocation_status,
    "allocation_progress": _allocation_progress,
    "allocation_ended": _allocation_ended,
    "shutdown_requested": _shutdown_requested,
    "shutdown_done": _shutdown_done,
    "shutdown_unanswered": _shutdown_unanswered,
    "given_up": _given_up,
    "restored": _restored,
    "logs_not_fetched": _logs_not_fetched,
    "peer_unreachable": _peer_unreachable,
    "revert_unanswered": _revert_unanswered,
    "health_changed": _health_changed,
    "restarts_done": _restarts_done,
    "peer_lost": _peer_lost,
    "node_bids": _node_bids,
    "node_measured": _node_measured,
    "start_waits": _start_waits,
    "network_untold": _network_untold,
    "no_private_address": _no_private_address,
    "node_committed": _node_committed,
    "node_allocated": _node_allocated,
    "node_started": _starts_done,
    "left_ended": _left_ended,
    "exec_started": _exec_started,
    "ports_forwarded": _ports_forwarded,
    "exec_ended": _exec_ended,
    "restart_requested": _restart_requested,
}
