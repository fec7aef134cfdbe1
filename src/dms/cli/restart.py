"""``nunet restart``: end allocations and run them again, where they are."""

from __future__ import annotations

from typing import Annotated

import typer

from dms.cli.options import Context, DeploymentID


def restart(
    ctx: typer.Context,
    identifier: DeploymentID,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ALLOCATION]...", help="Names or NODE.NAME; without any, all that run."),
    ] = None,
    context: Context = None,
) -> None:
    """End allocations and run them again on their machines; ports and names stay. nunet events tells how it goes.

    Examples:
      nunet restart 3f2a
      nunet restart 3f2a text.serve
    """
    from dms.cli.following import Deployment
    from dms.cli.output import clean
    from dms.cli.session import Session

    restarted = Deployment(Session.of(ctx).client(context), identifier).restart(names or ())
    print(f"Restarting {clean(', '.join(restarted))}")
