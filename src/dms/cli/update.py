"""``nunet update``, ``scale`` and ``revert``: a running deployment becomes another version of itself."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, DeploymentID, Format, Output

if TYPE_CHECKING:
    from dms.cli.client import Client
    from dms.cli.session import Session
    from dms.node.updating_payloads import UpdateOptions, UpdateReply

DEFAULT_TIMEOUT_S = 600.0
REPLY_WAIT_S = 30.0
"""The node answers at once; the message lives longer because its expiry is the deadline of the update."""
CURRENT = "current"

Batch = Annotated[
    int, typer.Option("--batch", metavar="N", min=0, help="Nodes to add or replace at a time; all, if not given.")
]
Timeout = Annotated[
    str | None,
    typer.Option("-t", "--timeout", metavar="DURATION", help="Take it back unless all is well by then [10m]."),
]
HealthyFor = Annotated[
    str,
    typer.Option("--healthy-for", metavar="DURATION", help="How long what is new must be well before the old ends."),
]
QueueTimeout = Annotated[
    str | None,
    typer.Option("--queue-timeout", metavar="DURATION", help="Wait so long for machines that are free [not at all]."),
]
NoGap = Annotated[bool, typer.Option("--no-gap", help="Rather fail than end something before its successor runs.")]
Expect = Annotated[
    int, typer.Option("--expect", metavar="VERSION", min=0, help="Refuse unless this version is in force.")
]
RequestName = Annotated[
    str | None,
    typer.Option("--request", metavar="NAME", help="The same request again, under this name, is no second one."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would become of it.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait, and show what happens.")]


def update(
    ctx: typer.Context,
    identifier: DeploymentID,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The new ensemble: YAML or JSON.", show_default=False)
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Undo the update that is under way.")] = False,
    batch: Batch = 0,
    timeout: Timeout = None,
    healthy_for: HealthyFor = "5s",
    queue_timeout: QueueTimeout = None,
    no_gap: NoGap = False,
    expect: Expect = 0,
    request: RequestName = None,
    dry_run: DryRun = False,
    wait: Wait = True,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Have a running deployment become what a file says, without ending what stays the same.

    Nodes that are new or changed are placed and started beside what runs. Once they are well, and stay so for a while, what
    they replace ends. If anything goes wrong until then all of it is taken back, and what ran runs on. Where both cannot
    run at once (the same port of one machine, data that one machine holds, no room) the old one ends first, and you are
    told why.

    Ends with code 0 once the new version is in force, 1 when it was taken back. With --dry-run: 0 if nothing would change,
    1 if something would, another if it cannot be. Ctrl-C leaves the update under way.

    Examples:
      nunet update 3f2a job.yaml
      nunet update 3f2a job.yaml --dry-run
      nunet update 3f2a job.yaml --batch 2 --healthy-for 30s --timeout 20m
      nunet update 3f2a --cancel
    """
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE
    from dms.cli.session import Session
    from dms.ensemble.loading import load_ensemble
    from dms.node.updating_payloads import UpdateReply, UpdateRequest, VersionsRequest

    session = Session.of(ctx)
    client = session.client(context)
    if cancel:
        if file is not None:
            raise typer.BadParameter("cancelling needs no file", param_hint="FILE")
        reply = client.call(f"{NAMESPACE}/update/cancel", VersionsRequest(id=identifier), UpdateReply)
        if not reply.ok:
            raise refused(reply.error, reply.hint)
        print(f"Version {reply.version} is being taken back.")
        return
    if file is None:
        raise typer.BadParameter("say what it shall become, or --cancel", param_hint="FILE")
    loaded = load_ensemble(file, os.environ)
    for warning in loaded.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    wanted = UpdateRequest(ensemble_id=identifier, ensemble=loaded.config)
    wish = _wish(wanted, batch, healthy_for, queue_timeout, no_gap, expect, request, dry_run)
    _ask(session, client, "update", identifier, wish, timeout, wait=wait, output=output)


def scale(
    ctx: typer.Context,
    identifier: DeploymentID,
    counts: Annotated[list[str], typer.Argument(metavar="GROUP=N...", help="Nodes with a count, and their new count.")],
    batch: Batch = 0,
    timeout: Timeout = None,
    healthy_for: HealthyFor = "5s",
    queue_timeout: QueueTimeout = None,
    expect: Expect = 0,
    request: RequestName = None,
    dry_run: DryRun = False,
    wait: Wait = True,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Change how many members groups of a running deployment have. Those that stay are not touched.

    Members are added as nunet update adds nodes, and the last ones are removed. Ends with code 0 once it is so, 1 when it
    was taken back.

    Examples:
      nunet scale 3f2a worker=20
      nunet scale 3f2a worker=20 cache=3 --batch 5
      nunet scale 3f2a worker=100 --queue-timeout 1h
    """
    from dms.cli.session import Session
    from dms.node.updating_payloads import ScaleRequest

    session = Session.of(ctx)
    wanted = ScaleRequest(id=identifier, counts=_counts(counts))
    wish = _wish(wanted, batch, healthy_for, queue_timeout, False, expect, request, dry_run)
    _ask(session, session.client(context), "scale", identifier, wish, timeout, wait=wait, output=output)


def revert(
    ctx: typer.Context,
    identifier: DeploymentID,
    to: Annotated[
        int, typer.Option("--to", metavar="VERSION", min=0, help="Which one; if not given, the one before the present.")
    ] = 0,
    batch: Batch = 0,
    timeout: Timeout = None,
    healthy_for: HealthyFor = "5s",
    queue_timeout: QueueTimeout = None,
    no_gap: NoGap = False,
    expect: Expect = 0,
    request: RequestName = None,
    dry_run: DryRun = False,
    wait: Wait = True,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Have a running deployment become an earlier version of itself, as nunet update does with a file.

    nunet versions lists them. An update that is still under way is undone with nunet update ID --cancel.

    Examples:
      nunet revert 3f2a
      nunet revert 3f2a --to 2 --dry-run
    """
    from dms.cli.session import Session
    from dms.node.updating_payloads import RevertRequest

    session = Session.of(ctx)
    wanted = RevertRequest(id=identifier, to=to)
    wish = _wish(wanted, batch, healthy_for, queue_timeout, no_gap, expect, request, dry_run)
    _ask(session, session.client(context), "revert", identifier, wish, timeout, wait=wait, output=output)


def _wish(
    wanted: UpdateOptions,
    batch: int,
    healthy_for: str,
    queue_timeout: str | None,
    no_gap: bool,
    expect: int,
    request: str | None,
    dry_run: bool,
) -> UpdateOptions:
    import msgspec

    from dms.cli.deploy import milliseconds

    return msgspec.structs.replace(
        wanted,
        batch=batch,
        healthy_for_ms=milliseconds(healthy_for, "time to be healthy"),
        queue_timeout_ms=milliseconds(queue_timeout, "queue timeout"),
        no_gap=no_gap,
        expect=expect,
        request=request or secrets.token_hex(12),
        dry_run=dry_run,
    )


def _ask(
    session: Session,
    client: Client,
    name: str,
    identifier: str,
    wish: UpdateOptions,
    timeout: str | None,
    *,
    wait: bool,
    output: Format,
) -> None:
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE, Deployment
    from dms.cli.options import lifetime
    from dms.cli.output import clean, show
    from dms.node.updating_payloads import UpdateReply
    from dms.types import gojson

    deployment = Deployment(client, identifier)
    after = max((event.seq for event in deployment.progress().events), default=0)
    reply = client.call(
        f"{NAMESPACE}/{name}",
        wish,
        UpdateReply,
        timeout_s=lifetime(timeout, None, DEFAULT_TIMEOUT_S),
        wait_s=REPLY_WAIT_S,
    )
    if not reply.ok:
        raise refused(reply.error or "the node refused the update without a reason", reply.hint)
    if wish.dry_run:
        _show_plan(session, reply, output)
        return
    if output is Format.TABLE:
        if not reply.changed and reply.what == "nothing":
            print(f"Nothing would change: version {reply.version} says the same.")
            return
        print(clean(f"Version {reply.version}: {reply.what}"), flush=True)
        for node, why in sorted(reply.stops.items()):
            print(clean(f"  {node} ends before its successor starts: {why}"), flush=True)
    try:
        if wait and reply.version:
            _wait(session, deployment, reply.version, after, tells=output is Format.TABLE and sys.stdout.isatty())
    except KeyboardInterrupt:
        print(f"\nThe update goes on. nunet versions {identifier} shows it, --cancel undoes it.", file=sys.stderr)
        raise
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply), output)


def _wait(session: Session, deployment: object, version: int, after: int, *, tells: bool) -> None:
    """Follow it until that version is in force, or is not to be.

    :raises DeploymentFailed: it was taken back.
    """
    from dms.cli.errors import DeploymentFailed
    from dms.cli.following import Deployment
    from dms.cli.output import clean
    from dms.cli.story import Story
    from dms.cli.versions import versions_of

    assert isinstance(deployment, Deployment)
    story = Story(session.peer_name)
    for progress in deployment.follow(after=after):
        for line in story.lines(progress.events) if tells else ():
            print(line, flush=True)
        found = next((v for v in versions_of(deployment).versions if v.number == version), None)
        if found is None or found.outcome != "pending":
            break
    if found is None or found.outcome != CURRENT:
        why = found.error if found is not None else "it is not known any more"
        outcome = found.outcome if found is not None else "gone"
        raise DeploymentFailed(
            f"version {version} was {outcome}: {why}", hint=f"nunet events {deployment.id[:12]} tells what happened"
        )
    print(clean(f"Version {version} is in force."))


def _show_plan(session: Session, reply: UpdateReply, output: Format) -> None:
    from dms.cli.output import clean, show
    from dms.cli.plan import CHANGES_EXIT_CODE, IMPOSSIBLE_EXIT_CODE, is_changing, lines
    from dms.cli.why import print_report
    from dms.types import gojson

    plan = reply.plan
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply), output)
    elif plan is not None:
        for line in lines(plan, session.peer_name):
            print(line)
        for node, why in sorted(reply.stops.items()):
            print(clean(f"{node} would end before its successor starts: {why}"))
        if plan.report is not None and not plan.report.is_placed:
            print_report(plan.report, session.peer_name)
    if plan is not None and not plan.feasible:
        raise typer.Exit(IMPOSSIBLE_EXIT_CODE)
    if plan is not None and is_changing(plan):
        raise typer.Exit(CHANGES_EXIT_CODE)


def _counts(texts: list[str]) -> dict[str, int]:
    """``worker=20`` as name and number.

    :raises BadParameter: it is none.
    """
    counts = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if not (name and equals and number.isdecimal() and len(number) <= 6):
            raise typer.BadParameter(f"{text} is not GROUP=N, such as worker=20", param_hint="GROUP=N")
        counts[name] = int(number)
    return counts
