"""Payloads of ``/dms/node/deployment/plan`` and ``why``; ours, the original has neither."""

from __future__ import annotations

from typing import Any

import msgspec

from dms.orchestrator.explaining.report import Report
from dms.types.gojson import Wire
from dms.types.ids import PeerID

MAX_NAMES = 1_000
"""Of each list of names in a reply."""


class PlanRequest(Wire):
    """An ensemble as for a deployment; ``deployment``: what it would replace (empty: found by its name, or its nodes)."""

    ensemble: Any = msgspec.field(name="Ensemble")
    deployment: str = ""


class Names(Wire):
    """Names that are added, removed, or stand for something else; cut to :data:`MAX_NAMES`."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


class PlanProblem(Wire):
    """A change that a running deployment does not take."""

    path: str
    reason: str
    hint: str = ""


class PlanReply(Wire):
    """The plan. ``deployment``: what runs of this ensemble; ``placed``: node → peer of new and changed nodes, ``kept``: of the
    others; ``more`` nodes are left out of these two. ``error``: there is no plan, and why.
    """

    ok: bool = False
    error: str = ""
    hint: str = ""
    feasible: bool = False
    deployment: str = ""
    nodes: Names = msgspec.field(default_factory=Names)
    allocations: Names = msgspec.field(default_factory=Names)
    settings: tuple[str, ...] = ()
    problems: tuple[PlanProblem, ...] = ()
    placed: dict[str, PeerID] = msgspec.field(default_factory=dict)
    kept: dict[str, PeerID] = msgspec.field(default_factory=dict)
    more: int = 0
    report: Report | None = None


class WhyRequest(Wire):
    """Which deployment, by id or the beginning of one."""

    id: str


class WhyReply(Wire):
    """Where it is, and the report; ``deadline`` in UNIX nanoseconds, until which it may wait."""

    id: str = ""
    status: str = ""
    error: str = ""
    problem: str = ""
    """What the deployment says of itself: its error."""
    round: int = 0
    deadline: int = 0
    report: Report | None = None
