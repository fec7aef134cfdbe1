"""The events of updates, told in lines; a part of :mod:`dms.cli.story`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dms.cli.output import pairs

Detail = dict[str, Any]  # JSON; its shape depends on the kind
Namer = Callable[[str], str]

STAGES = {
    "stopping": "ending what has to make room",
    "bidding": "asking for bids",
    "measuring": "measuring connections",
    "committing": "reserving",
    "allocating": "allocating",
    "starting": "starting",
    "verifying": "watching whether it stays well",
}
OUTCOMES = {
    "current": "version {} is in force",
    "reverted": "version {} was taken back",
    "cancelled": "version {} was cancelled",
}


def progress(detail: Detail) -> str:
    """What an event, of whatever kind, did to an update; empty if it did nothing."""
    number = detail.get("version")
    if not number:
        return ""
    parts = []
    if detail.get("outcome"):
        parts.append(OUTCOMES.get(str(detail["outcome"]), "version {} is over").format(number))
    if detail.get("reverts"):
        parts.append(f"version {number} is being taken back")
    if detail.get("stopped"):
        parts += [f"{node} ends first: {why}" for node, why in sorted(detail["stopped"].items())]
    if detail.get("batch"):
        parts.append(f"next: {', '.join(detail['batch'][:5])}{' …' if len(detail['batch']) > 5 else ''}")
    if detail.get("stage"):
        parts.append(STAGES.get(str(detail["stage"]), str(detail["stage"])))
    text = "; ".join(parts)
    return f"{text}: {detail['why']}" if detail.get("why") and text else text


def _requested(detail: Detail, _name: Namer) -> str:
    text = f"version {detail['version']} requested: {detail['what']}"
    return f"{text} (as version {detail['copy_of']})" if detail.get("copy_of") else text


def _bids(detail: Detail, name: Namer) -> str:
    count, chosen = len(detail.get("bids") or ()), detail.get("chosen") or {}
    bids = f"{count} bid{'' if count == 1 else 's'}"
    if not chosen:
        return f"{bids}, none chosen"
    return f"chose {', '.join(f'{name(peer)} for {node}' for node, peer in sorted(chosen.items()))} out of {bids}"


def _measured(detail: Detail, _name: Namer) -> str:
    count = len(detail.get("pairs") or ())
    return f"measured {count} connection{'' if count == 1 else 's'}"


def _refusals(done: str, failed: str) -> Callable[[Detail, Namer], str]:
    def tell(detail: Detail, _name: Namer) -> str:
        refused = detail.get("refused") or {}
        return f"{failed}: {pairs(refused)}" if refused else done

    return tell


def _started(detail: Detail, _name: Namer) -> str:
    failed = detail.get("failed") or {}
    if failed:
        return f"not started: {'; '.join(f'{key}: {why}' for key, why in sorted(failed.items()))}"
    return f"started {', '.join(detail.get('started') or ())}"


UPDATE_TELLERS: dict[str, Callable[[Detail, Namer], str]] = {
    "update_requested": _requested,
    "update_cancelled": lambda _detail, _name: "the update was cancelled",
    "update_bids": _bids,
    "update_measured": _measured,
    "update_committed": _refusals("resources reserved", "not reserved"),
    "update_allocated": _refusals("allocations made", "not allocated"),
    "update_started": _started,
    "update_due": lambda _detail, _name: "it was time to look at the update",
    "standbys_wanted": lambda _detail, _name: "standbys are wanted",
}
