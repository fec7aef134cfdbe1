"""``nunet prune``: forget what ended long ago (``spec/orchestration.md`` 2.4)."""

from __future__ import annotations

from typing import Annotated

import typer

from dms.cli.options import Context, Format, Output


def prune(
    ctx: typer.Context,
    before: Annotated[
        str, typer.Option("--before", metavar="TIME", help="Those that ended earlier: 6s, 1h, 7d, 2030-01-02.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that have ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell which.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Forget deployments that have completed or failed, with their events and logs.

    The node does so by itself with those that are older than the setting deployments.keep.

    Examples:
      nunet prune --before 7d
      nunet prune --all --dry-run
    """
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.node.payloads import PruneReply, PruneRequest
    from dms.types import gojson
    from dms.types.errors import BadInput

    if everything == bool(before):
        raise BadInput("say which: --before TIME or --all", hint="nunet prune --before 7d")
    request = PruneRequest(before=before, all=everything, dry_run=dry_run)
    reply = Session.of(ctx).client(context).call(f"{NAMESPACE}/prune", request, PruneReply, timeout_s=120)
    if not reply.ok:
        raise refused(reply.error)
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply), output)
        return
    for identifier in reply.pruned:
        print(identifier)
    count = len(reply.pruned)
    done = "would be forgotten" if dry_run else "forgotten"
    typer.echo(f"{count} deployment{'' if count == 1 else 's'} {done}", err=True)
