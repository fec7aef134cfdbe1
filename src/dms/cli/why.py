"""``nunet why``: why a deployment waits, failed, or is where it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from dms.cli.options import Context, DeploymentID, Format, Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from dms.orchestrator.explaining.report import Report

_PEER = re.compile(r"\b(?:12D3Koo|Qm)\w{30,}")
COLUMNS = ("NODE", "PEER", "RULE", "WHY")


def why(ctx: typer.Context, identifier: DeploymentID, context: Context = None, output: Output = Format.TABLE) -> None:
    """Tell why a deployment waits or failed: for each node and each peer that was heard from the rule that refused.

    First comes one sentence: the smallest set of wishes that cannot be met together. Then, node by node, what each peer
    said or what is known of it, and at last what would mend it. Of a deployment that runs it tells why its nodes are
    where they are and not elsewhere.

    Examples:
      nunet why 3f2a
      nunet why 3f2a --output json
    """
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE
    from dms.cli.output import clean, short_id, show
    from dms.cli.session import Session
    from dms.node.explaining_payloads import WhyReply, WhyRequest
    from dms.types import gojson

    session = Session.of(ctx)
    reply = session.client(context).call(f"{NAMESPACE}/why", WhyRequest(id=identifier), WhyReply)
    if not reply.id or reply.report is None:
        raise refused(reply.error or "the node knows no reason")
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply), output)
        return
    rounds = f", {reply.round} round{'s' * (reply.round > 1)} of bids" if reply.round else ""
    print(f"Deployment {short_id(reply.id)} is {clean(reply.status)}{rounds}.")
    if reply.problem and reply.problem != reply.report.summary:
        print(clean(reply.problem))
    print(clean(reply.report.summary))
    print_report(reply.report, session.peer_name)


def print_report(report: Report, name_peer: Callable[[str], str]) -> None:
    """The table and what would mend it."""
    from dms.cli.output import clean, print_table

    def named(text: str) -> str:
        return _PEER.sub(lambda found: name_peer(found[0]), text)

    rows = []
    for node in report.nodes:
        name = node.node + (f" (and {node.count - 1} like it)" if node.count > 1 else "")
        if node.peer:
            rows.append((name, name_peer(node.peer), "hosts", ""))
        rows += [(name, name_peer(reason.peer), reason.rule, named(reason.text)) for reason in node.reasons]
        rows += [(name, name_peer(peer), "could", "it would host it") for peer in node.could]
        if node.more:
            rows.append((name, f"{node.more} more", "", ""))
    rows += [("", name_peer(reason.peer), reason.rule, named(reason.text)) for reason in report.peers]
    if rows:
        print()
        print_table(COLUMNS, rows)
    if report.more_nodes:
        print(f"and {report.more_nodes} more nodes")
    if report.mends:
        print()
        print("Any one of these mends it:" if report.is_proven else "What may mend it:")
        for mend in report.mends:
            print(clean(f"  {named(mend)}"))
