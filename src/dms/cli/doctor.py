"""``nunet doctor``: what stands in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dms.node.diagnosis import Finding
    from dms.node.doctor_payloads import CheckupReply, DoctorReply, NetworkReply

PROBLEM_EXIT_CODE = 1
SHOWN = 10
MIN_WIDTH = 10
NETWORK_S = 40.0
NS_PER_S = 10**9

app = typer.Typer(name="doctor", help="Find out what stands in the way.")


@app.callback(invoke_without_command=True)
def doctor(
    ctx: typer.Context,
    context: Context = None,
    output: Output = Format.TABLE,
    json_: Annotated[bool, typer.Option("--json", help="As --output json.")] = False,
) -> None:
    """Look at everything that a node needs, all at once, and tell what mends it.

    Without a running node: configuration, directories, keys, ports, disk. With one, which is asked: its ports, peers and the
    time to each, clock (against theirs), disk, database, executors, drivers of graphics processors, authority, settings
    and tasks.

    Exit codes:
      0 nothing stands in the way
      1 something does

    Examples:
      nunet doctor
      nunet doctor --json
      nunet --network devnet --node node2 doctor
      nunet doctor work
    """
    if ctx.invoked_subcommand is not None:
        return
    import trio

    from dms.cli.local_checks import always, not_running, without_node
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.node.checks import examine
    from dms.node.diagnosis import ok, problem, summary, worst_first
    from dms.node.doctor_payloads import DOCTOR_CHECKUP, CheckupReply
    from dms.types import gojson
    from dms.types.errors import DMSError, Unavailable

    session = Session.of(ctx)
    _ = session.settings  # nothing else can be looked at while they cannot be used
    client = session.client(context)
    reply, checks = CheckupReply(), always(session)
    try:
        health = client.rest.health()
        about_node = ok("node", f"runs, with {health.get('peers', 0)} peers")
    except DMSError as exc:
        about_node, checks = not_running(exc), [*checks, *without_node(session)]
    else:
        try:
            reply = client.call(DOCTOR_CHECKUP, None, CheckupReply)
            if not reply.ok:
                about_node = problem("node", reply.error or "the node gave no reason")
        except DMSError as exc:
            hint = exc.hint if isinstance(exc, Unavailable) else exc.hint or "it answers its owner: --context"
            about_node = problem("node", f"it runs, and does not let itself be looked at: {exc.message}", hint)
    findings = worst_first((about_node, *trio.run(examine, checks), *reply.findings))
    if json_ or output is not Format.TABLE:
        document = {
            "summary": summary(findings, "nothing stands in the way"),
            "findings": [gojson.to_builtins(finding) for finding in findings],
            "peers": [gojson.to_builtins(peer) for peer in reply.peers],
        }
        show(document, Format.JSON if json_ else output)
    else:
        _print_findings(summary(findings, "nothing stands in the way"), findings)
        _print_peers(reply, session.peer_name)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(PROBLEM_EXIT_CODE)


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


@app.command("network")
def network(
    ctx: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Tell what is known, and ask nobody.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell what other peers see of this node: whether they can reach it, where, and why not.

    Connected peers are asked to dial this node back at each of its public addresses, which takes up to 20 seconds.

    Exit codes:
      0 others reach this node, directly or through a relay, or nobody can tell
      1 they do not

    Examples:
      nunet doctor network
      nunet doctor network --quick
      nunet --network devnet --node node2 doctor network --output json
    """
    from dms.cli.client import refused
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.node.doctor_payloads import DOCTOR_NETWORK, NetworkReply, NetworkRequest
    from dms.types import gojson

    session = Session.of(ctx)
    reply = session.client(context).call(DOCTOR_NETWORK, NetworkRequest(quick=quick), NetworkReply, timeout_s=NETWORK_S)
    if not reply.ok:
        raise refused(reply.error or "the node gave no reason")
    if output is Format.TABLE:
        _print_network(reply)
    else:
        show(gojson.to_builtins(reply), output)
    if any(finding.level == "problem" for finding in reply.findings):
        raise typer.Exit(PROBLEM_EXIT_CODE)


def _print_network(reply: NetworkReply) -> None:
    from dms.cli.output import print_table

    _print_findings(reply.summary, reply.findings)
    if reply.addresses:
        print()
        rows = [
            (
                one.address,
                "yes" if one.told else "no",
                f"by {one.reached_by}" if one.reached_by else "no" if one.failed_for else "not tried",
                one.why,
            )
            for one in reply.addresses
        ]
        print_table(("ADDRESS", "TOLD TO OTHERS", "REACHED", "WHY NOT"), rows)


def _print(reply: DoctorReply, name_peer: Callable[[str], str]) -> None:
    from dms.cli.output import print_table

    _print_findings(reply.summary, reply.findings)
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


def _print_findings(summary: str, findings: Sequence[Finding]) -> None:
    from dms.cli.output import clean

    print(clean(summary[:1].upper() + summary[1:]) + ".")
    print()
    width = max((len(finding.about) for finding in findings), default=0)
    width = max(width, MIN_WIDTH)
    for finding in findings:
        print(clean(f"{finding.level:<8} {finding.about:<{width}} {finding.text}"))
        if finding.hint:
            print(clean(f"{'':<8} {'':<{width}} → {finding.hint}"))


def _print_peers(reply: CheckupReply, name_peer: Callable[[str], str]) -> None:
    from dms.cli.output import print_table

    if not reply.peers:
        return
    print()
    rows = [
        (
            name_peer(peer.peer),
            "silent" if peer.rtt_ms is None else f"{peer.rtt_ms:.1f} ms",
            "?" if peer.ahead_ms is None else f"{peer.ahead_ms / 1000:+.2f} s",
        )
        for peer in reply.peers
    ]
    print_table(("PEER", "THERE AND BACK", "CLOCK"), rows)


def _ago(at_ns: int) -> str:
    import time

    from dms.types.units import format_duration

    return f"{format_duration(float(max(0, time.time_ns() - at_ns) // NS_PER_S))} ago"
