"""``nunet plan``: what would become of an ensemble, without doing any of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dms.cli.client import Client
    from dms.node.explaining_payloads import PlanReply
    from dms.orchestrator.explaining.report import Report

CHANGES_EXIT_CODE = 1
"""What a plan ends with that would change something. Nothing that went wrong ends with it."""
IMPOSSIBLE_EXIT_CODE = 5
PLAN_TIMEOUT_S = 60.0
SHOWN = 50
"""Nodes of each kind of line on a terminal."""


def plan(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The ensemble: YAML or JSON.")],
    deployment: Annotated[
        str | None,
        typer.Option("--deployment", metavar="ID", help="What it would replace, instead of what seems the same."),
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="For each node, also why it would be on no other peer.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Ask for bids for an ensemble, and show where its nodes would be or which rule refused them. Nothing is reserved.

    If the ensemble runs already, the difference is shown. Which deployment is meant is told by the name in the metadata,
    without names by the names of the nodes, or by --deployment. A plan is no promise: what peers have free may be gone a
    moment later.

    Exit codes:
      0    nothing would change
      1    it can be, and something would change
      5    it cannot be
      2…6  there is no plan: what each code means stands below `nunet --help`
      255  there is no plan, for a reason without a code of its own

    Examples:
      nunet plan job.yaml
      nunet plan job.yaml --why
      nunet plan job.yaml --deployment 3f2a --output json
    """
    from dms.cli.errors import PlanFailed
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.types import gojson
    from dms.types.errors import DMSError

    session = Session.of(ctx)
    try:
        reply = _ask(session.client(context), file, deployment or "")
    except DMSError as exc:
        if exc.exit_code != CHANGES_EXIT_CODE:
            raise
        raise PlanFailed(exc.message, hint=exc.hint) from None
    if output is Format.TABLE:
        for line in lines(reply, session.peer_name):
            print(line)
        _print_reasons(reply, session.peer_name, wants_all=why)
    else:
        show(gojson.to_builtins(reply), output)
    if not reply.feasible:
        raise typer.Exit(IMPOSSIBLE_EXIT_CODE)
    if is_changing(reply):
        raise typer.Exit(CHANGES_EXIT_CODE)


def is_changing(reply: PlanReply) -> bool:
    """Whether anything would be different afterwards."""
    parts = (reply.nodes, reply.allocations)
    return any(part.added or part.removed or part.changed for part in parts) or bool(reply.settings)


def lines(reply: PlanReply, name_peer: Callable[[str], str]) -> Iterator[str]:
    """The plan for people."""
    from dms.cli.output import clean, short_id

    if reply.deployment:
        yield f"Against deployment {short_id(reply.deployment)}, which runs:"
    touched = {*reply.nodes.added, *reply.nodes.changed}
    around = sorted(reply.placed.keys() - touched)  # what is on them changes
    marked = (
        [("+", node) for node in reply.nodes.added]
        + [("~", node) for node in (*reply.nodes.changed, *around)]
        + [("-", node) for node in reply.nodes.removed]
        + [(" ", node) for node in reply.kept]
    )
    for sign, node in marked[:SHOWN]:
        place = reply.placed.get(node) or reply.kept.get(node)
        where = f"  on {name_peer(place)}" if place else ""
        yield clean(f"{sign} {node}{where}{', stays' if node in reply.kept else ''}").rstrip()
    if len(marked) > SHOWN or reply.more:
        yield f"  and {max(0, len(marked) - SHOWN) + reply.more} more"
    for name in reply.allocations.changed[:SHOWN]:
        yield clean(f"~ allocation {name}")
    for name in reply.settings:
        yield clean(f"~ {name}")
    if marked or reply.allocations.changed or reply.settings:
        yield ""
    for problem in reply.problems:
        yield clean(f"Not possible: {problem.path}: {problem.reason}") + (f" ({problem.hint})" if problem.hint else "")
    report = reply.report
    if report is not None:
        yield from _details(report, name_peer)
    if report is not None and not report.is_placed:
        yield clean(f"Not possible now: {report.summary}")
    elif report is not None and report.unmeasured:
        yield clean(f"Possible if measuring confirms it: {report.summary}")
    elif not is_changing(reply):
        yield "Nothing would change."
    elif reply.feasible:
        yield (
            f"Possible: {len(reply.nodes.added)} to add, {len(reply.nodes.changed) + len(around)} to change, "
            f"{len(reply.nodes.removed)} to remove, {len(reply.kept)} stay. Nothing was reserved."
        )


def _details(report: Report, name_peer: Callable[[str], str]) -> Iterator[str]:
    """What was measured for it, and how prices were compared."""
    from dms.cli.output import clean

    for pair in report.measured[:SHOWN]:
        ends = f"{name_peer(pair.a)} – {name_peer(pair.b)}"
        if pair.rtt_ms is None:
            yield clean(f"Not measured: {ends}: {pair.error or 'no answer'}")
            continue
        bandwidth = "" if pair.bandwidth_bps is None else f", {pair.bandwidth_bps / 1e6:.3g} Mbit/s"
        yield clean(f"Measured: {ends}: {pair.rtt_ms:.3g} ms{bandwidth}")
    if len(report.measured) > SHOWN:
        yield f"  and {len(report.measured) - SHOWN} more connections"
    if report.uncompared:
        others = ", ".join(name_peer(peer) for peer in report.uncompared[:SHOWN])
        yield clean(
            f"Prices are compared in {report.currency}; these ask in others, and count as the dearest: {others}"
        )


def _ask(client: Client, file: Path, deployment: str) -> PlanReply:
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE
    from dms.ensemble.loading import load_ensemble
    from dms.node.explaining_payloads import PlanReply, PlanRequest

    loaded = load_ensemble(file, os.environ)
    for warning in loaded.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    request = PlanRequest(ensemble=loaded.config, deployment=deployment)
    reply = client.call(f"{NAMESPACE}/plan", request, PlanReply, timeout_s=PLAN_TIMEOUT_S)
    if not reply.ok:
        raise refused(reply.error or "the node made no plan and gave no reason", reply.hint)
    return reply


def _print_reasons(reply: PlanReply, name_peer: Callable[[str], str], *, wants_all: bool) -> None:
    from dms.cli.why import print_report

    report = reply.report
    if report is not None and (wants_all or not report.is_placed):
        print_report(report, name_peer)
