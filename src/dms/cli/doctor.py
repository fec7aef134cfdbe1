"""``nunet doctor``: what stands in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from dms.node.doctor_payloads import DoctorReply

PROBLEM_EXIT_CODE = 1
SHOWN = 10
NS_PER_S = 10**9

app = typer.Typer(name="doctor", help="Find out what stands in the way.", no_args_is_help=True)


@app.callback()
def _doctor() -> None:
    """Find out what stands in the way."""


@app.command("work")
def work(
    ctx: typer.Context,
    hours: Annotated[int, typer.Option("--hours", min=1, max=48, help="How far to look back.")] = 24,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell why this machine gets no work, as a provider.

    It looks at what is offered and free, at the network, at who may ask for bids here and who was denied, at the
    requests heard and the rule by which each was not bid for, at bids sent and lost, at executors and at the clock.

    Exit codes:
      0 nothing stands against work
      1 something does

    Examples:
      nunet doctor work
      nunet doctor work --hours 4
      nunet --network devnet --node node2 doctor work --output json
    """
    from dms.cli.client import refused
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.node.doctor_payloads import DOCTOR_WORK, DoctorReply, DoctorRequest
    from dms.types import gojson

    session = Session.of(ctx)
    reply = session.client(context).call(DOCTOR_WORK, DoctorRequest(hours=hours), DoctorReply)
    if not reply.ok:
        raise refused(reply.error or "the node gave no reason")
    if output is Format.TABLE:
        _print(reply, session.peer_name)
    else:
        show(gojson.to_builtins(reply), output)
    if any(finding.level == "problem" for finding in reply.findings):
        raise typer.Exit(PROBLEM_EXIT_CODE)


def _print(reply: DoctorReply, name_peer: Callable[[str], str]) -> None:
    from dms.cli.output import clean, print_table

    print(clean(reply.summary[:1].upper() + reply.summary[1:]) + ".")
    print()
    for finding in reply.findings:
        print(clean(f"{finding.level:<8} {finding.about:<10} {finding.text}"))
        if finding.hint:
            print(clean(f"{'':<8} {'':<10} → {finding.hint}"))
    if reply.requests:
        print()
        rows = [
            (
                _ago(request.last_ns),
                name_peer(request.peer),
                str(request.nodes),
                str(request.bid),
                "dry run" if request.is_dry_run else request.outcome,
                "; ".join(f"{refused.rule}: {refused.reason}" for refused in request.refused),
            )
            for request in reply.requests[:SHOWN]
        ]
        print_table(("ASKED", "BY", "NODES", "BID", "OUTCOME", "WHY NOT"), rows)
    if reply.strangers:
        print()
        denied = [(_ago(s.last_ns), s.did or s.peer, str(s.times), s.reason) for s in reply.strangers[:SHOWN]]
        print_table(("DENIED", "WHO", "TIMES", "WHY"), denied)


def _ago(at_ns: int) -> str:
    import time

    from dms.types.units import format_duration

    return f"{format_duration(float(max(0, time.time_ns() - at_ns) // NS_PER_S))} ago"
