"""``nunet ps``: the deployments that go on (``spec/orchestration.md`` 2.4)."""

from __future__ import annotations

from typing import Annotated

import typer

from dms.cli.get import Filters, Limit, Offset, Sort, list_deployments, metadata_filter
from dms.cli.options import Context, Format, Output

ENDED = ("Failed", "Completed")


def ps(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Those that have ended, too.")] = False,
    filters: Filters = None,
    limit: Limit = 0,
    offset: Offset = 0,
    sort: Sort = "-created_at",
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """List the deployments that go on; UP tells how many of their allocations run.

    nunet get deployments filters by more.

    Examples:
      nunet ps
      nunet ps --all --limit 10
      nunet ps --filter team=blue --output json
    """
    from dms.cli.session import Session
    from dms.node.payloads import ListRequest
    from dms.orchestrator.lifecycle.state import Phase

    states = () if everything else tuple(phase.value for phase in Phase if phase.value not in ENDED)
    request = ListRequest(metadata=metadata_filter(filters), limit=limit, offset=offset, status=states, sort_by=sort)
    list_deployments(Session.of(ctx), context, request, output)
