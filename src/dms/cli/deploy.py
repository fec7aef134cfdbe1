"""``nunet deploy``: submit an ensemble, and show how it comes to run (``spec/orchestration.md`` 5)."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output
from dms.cli.peer_latency import ConnectedFor, MaxRTT, Nearest, choice

if TYPE_CHECKING:
    from dms.cli.following import Deployment
    from dms.cli.story import Story

DEFAULT_TIMEOUT_S = 120.0
REPLY_WAIT_S = 20.0
"""The node answers at once; the message lives longer because its expiry is the deadline of the deployment."""


class Until(StrEnum):
    """What is waited for."""

    RUNNING = "running"
    ENDED = "ended"


class Overlap(StrEnum):
    """What becomes of a time of a schedule when the last deployment still goes on."""

    SKIP = "skip"
    ALLOW = "allow"
    REPLACE = "replace"


class Missed(StrEnum):
    """What becomes of times when the node was down."""

    ONCE = "once"
    SKIP = "skip"


def deploy(
    ctx: typer.Context,
    file: Annotated[Path, typer.Option("-f", "--file", "--spec-file", help="The ensemble: YAML or JSON.")],
    timeout: Annotated[
        str | None, typer.Option("-t", "--timeout", metavar="DURATION", help="Give up unless it runs by then [2m].")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait, and show what happens.")] = True,
    until: Annotated[Until, typer.Option("--until", help="What to wait for.")] = Until.RUNNING,
    queue_timeout: Annotated[
        str | None,
        typer.Option(
            "--queue-timeout", metavar="DURATION", help="Wait so long for machines that are free [not at all]."
        ),
    ] = None,
    run_for: Annotated[
        str | None, typer.Option("--run-for", metavar="DURATION", help="End it so long after it first ran.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="PEER", help="Ask this machine, and none that is not named; may be repeated."),
    ] = None,
    max_rtt: MaxRTT = None,
    connected_for: ConnectedFor = None,
    nearest: Nearest = 0,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule", metavar="CRON", help='Deploy it at times instead of now: "0 3 * * *" is 3:00 each day.'
        ),
    ] = None,
    zone: Annotated[
        str, typer.Option("--zone", metavar="ZONE", help="Time zone of --schedule, such as Europe/Berlin.")
    ] = "UTC",
    overlap: Annotated[
        Overlap, typer.Option("--overlap", help="With --schedule: what to do while the last one still goes on.")
    ] = Overlap.SKIP,
    missed: Annotated[
        Missed,
        typer.Option("--missed", help="With --schedule: make up once for times when the node was down, or skip them."),
    ] = Missed.ONCE,
    id_only: Annotated[bool, typer.Option("--id-only", help="Print the id and nothing else; do not wait.")] = False,
    follow_logs: Annotated[bool, typer.Option("--follow-logs", help="Then print the logs until it has ended.")] = False,
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress", help="Tell what happens, line by line; by default on a terminal only."
        ),
    ] = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Deploy an ensemble and wait until it runs.

    On a terminal the progress is told line by line; in a pipe only the id is printed, at once. Ctrl-C leaves the
    deployment as it is. Ends with code 0 when it runs (or has completed), 1 when it failed.

    Examples:
      nunet deploy -f examples/wordcount.yaml
      nunet deploy -f job.yaml --until ended --timeout 5m
      ID=$(nunet deploy -f job.yaml --id-only)
      nunet deploy -f job.yaml --no-wait --output json
      nunet deploy -f train.yaml --queue-timeout 6h --run-for 2h
      nunet deploy -f grid.yaml --max-rtt 20ms --nearest 50
      nunet deploy -f backup.yaml --schedule "0 3 * * *" --zone Europe/Berlin
    """
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE, Deployment
    from dms.cli.logs import LogReader, print_logs
    from dms.cli.options import lifetime
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.cli.story import Story
    from dms.ensemble.loading import load_ensemble
    from dms.node.payloads import NewDeployment, NewDeploymentReply
    from dms.node.schedule_payloads import NewSchedule, NewScheduleReply

    loaded = load_ensemble(file, os.environ)
    for warning in loaded.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    session = Session.of(ctx)
    client = session.client(context)
    timeout_s = lifetime(timeout, None, DEFAULT_TIMEOUT_S)
    chosen = choice(max_rtt, connected_for, nearest)
    if schedule is not None and (peer or chosen != choice(None, None, 0)):
        raise typer.BadParameter("a schedule asks everybody; pin nodes with peer: in the ensemble", param_hint="--peer")
    if schedule is not None:
        order = NewSchedule(
            ensemble=loaded.config,
            cron=schedule,
            zone=zone,
            timeout_ms=int(timeout_s * 1000),
            queue_timeout_ms=milliseconds(queue_timeout, "queue timeout"),
            run_for_ms=milliseconds(run_for, "time to run"),
            overlap=overlap.value,
            missed=missed.value,
        )
        made = client.call(f"{NAMESPACE}/schedule/new", order, NewScheduleReply)
        if not made.id:
            raise refused(made.error, made.hint)
        if output is not Format.TABLE:
            show({"id": made.id, "next_at": made.next_at}, output)
        else:
            print(made.id if id_only else f"Schedule {made.id}, first at {made.next_at}")
        return
    request = NewDeployment(
        ensemble=loaded.config,
        queue_timeout_ms=milliseconds(queue_timeout, "queue timeout"),
        run_for_ms=milliseconds(run_for, "time to run"),
        peers=tuple(peer or ()),
        choice=chosen if chosen != choice(None, None, 0) else None,
    )
    reply = client.call(f"{NAMESPACE}/new", request, NewDeploymentReply, timeout_s=timeout_s, wait_s=REPLY_WAIT_S)
    if reply.status != "OK" or not reply.ensemble_id:
        raise refused(reply.error or "the node refused the ensemble without a reason", reply.hint)
    deployment = Deployment(client, reply.ensemble_id)
    try:
        tells = (sys.stdout.isatty() if progress is None else progress) and output is Format.TABLE and not id_only
        if output is Format.TABLE:
            print(f"Deployment {deployment.id}" if tells else deployment.id, flush=True)
        waits = wait and not id_only
        if waits:
            _wait(deployment, Story(session.peer_name) if tells else None, until)
        if output is not Format.TABLE:
            now = deployment.status() if waits else None
            show({"id": deployment.id, "status": now.status if now else "", "error": now.error if now else ""}, output)
        if follow_logs and waits:
            print_logs(LogReader(deployment, sorted(deployment.info().allocations), "stdout"), follow=True)
    except KeyboardInterrupt:
        _say_it_goes_on(deployment)
        raise


def _wait(deployment: Deployment, story: Story | None, until: Until) -> None:
    """Follow it until it is where it is wanted, and tell the story of that, if there is one to tell it.

    :raises DeploymentFailed: it has failed.
    """
    from dms.cli.errors import DeploymentFailed

    status = ""
    for progress in deployment.follow():
        for line in story.lines(progress.events) if story else ():
            print(line, flush=True)
        status = progress.status
        if status == "Running" and until is Until.RUNNING:
            break
    if status == "Failed":
        error = deployment.status().error or "no reason is known"
        raise DeploymentFailed(error, hint=f"nunet events {deployment.id[:12]} tells what happened")


def milliseconds(text: str | None, what: str) -> int:
    """A duration of a flag; nothing is 0.

    :raises BadInput: it is none.
    """
    from dms.types.units import parse_duration_ns

    return parse_duration_ns(text, what=what) // 10**6 if text else 0


def _say_it_goes_on(deployment: Deployment) -> None:
    short = deployment.id[:12]
    print(f"\nThe deployment goes on. nunet status {short} shows it, nunet shutdown {short} ends it.", file=sys.stderr)
