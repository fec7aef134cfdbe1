"""``nunet events``: what happened to a deployment, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from dms.cli.options import Context, DeploymentID, Format, Output


def events(
    ctx: typer.Context,
    identifier: DeploymentID,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the deployment has ended.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell what happened to a deployment: who bid, who was chosen, what was refused and why, how each part ended.

    Times are those since it was submitted.

    Examples:
      nunet events 3f2a
      nunet events 3f2a --follow
      nunet events 3f2a --output json
    """
    from dms.cli.following import Deployment
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.cli.story import Story
    from dms.types import gojson

    session = Session.of(ctx)
    deployment = Deployment(session.client(context), identifier)
    story = Story(session.peer_name)
    if output is not Format.TABLE and not follow:
        show([gojson.to_builtins(event) for event in deployment.progress().events], output)
        return
    for progress in deployment.follow() if follow else [deployment.progress()]:
        if output is Format.TABLE:
            lines = list(story.lines(progress.events))
        else:
            lines = [gojson.encode(event).decode() for event in progress.events]
        for line in lines:
            print(line, flush=True)
