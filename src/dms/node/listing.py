"""Which deployments somebody asks for, in which order, and which page of them (``spec/orchestration.md`` 2.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from dms.node import payloads as p
from dms.orchestrator.journal import DeploymentRecord
from dms.orchestrator.lifecycle.state import PHASE_NUMBERS, UPDATING, Phase
from dms.types.errors import BadInput
from dms.types.units import parse_duration_ns

MAX_LISTED = 1000
NS_PER_S = 10**9


def listing(records: Iterable[DeploymentRecord], request: p.ListRequest, now_ns: int) -> p.ListReply:
    """The page that is asked for.

    :raises BadInput: a field, a state or a time that there is not.
    """
    wanted = {_phase(text) for text in request.status or ()}
    bounds = [(parse_before(text, now_ns), which) for text, which in _bounds(request) if text]
    found = [record for record in records if _matches(record, request, wanted, bounds)]
    sort_by = request.sort_by or "-created_at"
    order = _SORT_KEYS.get(sort_by.removeprefix("-"))
    if order is None:
        raise BadInput(f"cannot sort by {sort_by.removeprefix('-')}", hint=f"sort by one of {', '.join(_SORT_KEYS)}")
    found.sort(key=order, reverse=sort_by.startswith("-"))
    limit = min(request.limit, MAX_LISTED) if request.limit > 0 else MAX_LISTED
    start = max(0, request.offset)
    page = found[start : start + limit]
    has_more = start + len(page) < len(found)
    return p.ListReply(
        deployments=tuple(_listed(record) for record in page),
        total=len(found),
        has_more=has_more,
        next_offset=start + len(page) if has_more else 0,
    )


def rfc3339(at_ns: int) -> str:
    """UNIX nanoseconds as RFC 3339 in UTC with milliseconds; 0 is empty."""
    if not at_ns:
        return ""
    return datetime.fromtimestamp(at_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_before(text: str, now_ns: int) -> int:
    """A moment in UNIX nanoseconds: an age (``1h``, ``7d``), RFC 3339, ``2006-01-02 15:04:05`` or ``2006-01-02``.

    :raises BadInput: none of these.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return now_ns - parse_duration_ns(text, what="time")
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * NS_PER_S)


def _phase(text: str) -> Phase | str:
    """A state by its name in any case, or by the original's number; one that updates runs, too."""
    for phase, number in PHASE_NUMBERS.items():
        if text.lower() == phase.value.lower() or text == str(number):
            return phase
    if text.lower() == UPDATING.lower():
        return UPDATING
    raise BadInput(f"there is no state {text}", hint=f"it is one of {', '.join(phase.value for phase in Phase)}")


_SORT_KEYS: dict[str, Callable[[DeploymentRecord], Any]] = {  # anything that has an order
    "created_at": lambda r: r.state.created_ns,
    "updated_at": lambda r: r.state.updated_ns,
    "completed_at": lambda r: r.state.completed_ns,
    "status": lambda r: r.state.status,
    "orchestrator_id": lambda r: r.id,
}


def _bounds(request: p.ListRequest) -> tuple[tuple[str, str], ...]:
    return (
        (request.created_after, "created_after"),
        (request.created_before, "created_before"),
        (request.updated_after, "updated_after"),
        (request.updated_before, "updated_before"),
    )


def _matches(
    record: DeploymentRecord, request: p.ListRequest, wanted: set[Phase | str], bounds: list[tuple[int, str]]
) -> bool:
    state = record.state
    if wanted and state.phase not in wanted and state.status not in wanted:
        return False
    if any(record.config.v1.metadata.get(key) != value for key, value in request.metadata.items()):
        return False
    for limit_ns, which in bounds:
        at_ns = state.created_ns if which.startswith("created") else state.updated_ns
        if at_ns < limit_ns if which.endswith("after") else at_ns > limit_ns:
            return False
    return True


def _listed(record: DeploymentRecord) -> p.ListedDeployment:
    state = record.state
    return p.ListedDeployment(
        orchestrator_id=record.id,
        status=state.status,
        created_at=rfc3339(state.created_ns),
        updated_at=rfc3339(state.updated_ns),
        completed_at=rfc3339(state.completed_ns),
        metadata=record.config.v1.metadata,
        error=state.error,
        allocations=len(state.allocations),
        running=sum(a.status == "running" for a in state.allocations.values()),
        version=state.version,
    )
