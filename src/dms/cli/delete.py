"""``nunet delete``: forget deployments that have ended (``spec/orchestration.md`` 2.4)."""

from __future__ import annotations

from typing import Annotated

import typer

from dms.cli.options import Context


def delete(
    ctx: typer.Context,
    identifiers: Annotated[list[str], typer.Argument(metavar="ID...", help="Their ids; the beginnings are enough.")],
    context: Context = None,
) -> None:
    """Forget deployments that have ended, with their events and logs. One that goes on must be shut down first.

    Examples:
      nunet delete 3f2a
      nunet delete 3f2a 77c1
    """
    from dms.cli.following import Deployment
    from dms.cli.session import Session

    client = Session.of(ctx).client(context)
    for identifier in identifiers:
        Deployment(client, identifier).delete()
        print(f"Deleted {identifier}")
