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
    story = Story(session.peer_name)
    past = deployment.progress().events
    _ = list(story.lines(past))  # times are told from the submission on
    deployment.shutdown()
    if not wait:
        print("Shutting down")
        return
    after = max((event.seq for event in past), default=0)
    try:
        for progress in deployment.follow(after=after):
            for line in story.lines(progress.events) if sys.stdout.isatty() else ():
                print(line, flush=True)
    except KeyboardInterrupt:
        print("\nThe shutdown goes on.", file=sys.stderr)
        raise
    now = deployment.status()
    print(f"{now.status}: {now.error}" if now.error else now.status)
