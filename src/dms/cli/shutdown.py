"""``nunet shutdown``: end a deployment (``spec/orchestration.md`` 5.5)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dms.cli.options import Context, DeploymentID


def shutdown(
    ctx: typer.Context,
    identifier: DeploymentID,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything has ended.")] = True,
    context: Context = None,
) -> None:
    """End a deployment, whatever it does: allocations are stopped and their resources given back.

    Ctrl-C while waiting leaves the shutdown going on.

    Examples:
      nunet shutdown 3f2a
      nunet shutdown 3f2a --no-wait
    """
    from dms.cli.following import Deployment
    from dms.cli.session import Session
    from dms.cli.story import Story

    session = Session.of(ctx)
    deployment = Deployment(session.client(context), identifier)
    before = max((event.seq for event in deployment.progress().events), default=0)
    deployment.shutdown()
    if not wait:
        print("Shutting down")
        return
    story, tells = Story(session.peer_name), sys.stdout.isatty()
    try:
        for progress in deployment.follow():
            for event in progress.events:
                line = story.line(event)  # every event, for the time that the first sets
                if tells and event.seq > before:
                    print(line, flush=True)
    except KeyboardInterrupt:
        print("\nThe shutdown goes on.", file=sys.stderr)
        raise
    now = deployment.status()
    print(f"{now.status}: {now.error}" if now.error else now.status)
