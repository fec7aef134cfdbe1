"""``nunet get``: lists of what a node knows (``spec/platform.md`` 2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from dms.cli.session import Session
    from dms.node.payloads import ListRequest

app = typer.Typer(name="get", help="List deployments, allocations or resources.", no_args_is_help=True)


Filters = Annotated[
    list[str] | None, typer.Option("--filter", metavar="KEY=VALUE", help="Only those with this in their metadata.")
]
Offset = Annotated[int, typer.Option("--offset", min=0, help="Leave out so many of the beginning.")]
Limit = Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0 is the node's own limit.")]
Sort = Annotated[
    str,
    typer.Option(
        "--sort", help="created_at, updated_at, completed_at, status or orchestrator_id; a leading - turns it round."
    ),
]
_TIME = "TIME"


@app.command("deployments")
def deployments(
    ctx: typer.Context,
    filters: Filters = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Only those in this state; may be repeated.")
    ] = None,
    created_after: Annotated[
        str, typer.Option("--created-after", metavar=_TIME, help="Only later ones: 2h, or 2030-01-02.")
    ] = "",
    created_before: Annotated[str, typer.Option("--created-before", metavar=_TIME, help="Only earlier ones.")] = "",
    updated_after: Annotated[
        str, typer.Option("--updated-after", metavar=_TIME, help="Only those of which something was heard since.")
    ] = "",
    updated_before: Annotated[str, typer.Option("--updated-before", metavar=_TIME, help="… nothing.")] = "",
    limit: Limit = 0,
    offset: Offset = 0,
    sort: Sort = "-created_at",
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """List the deployments of the node, the latest first: running, completed and failed.

    Examples:
      nunet get deployments
      nunet get deployments --status Running --filter team=blue
      nunet get deployments --created-after 2d --limit 20 --offset 20
      nunet get deployments --output json
    """
    from dms.cli.session import Session
    from dms.node.payloads import ListRequest

    request = ListRequest(
        metadata=metadata_filter(filters),
        limit=limit,
        offset=offset,
        status=tuple(status or ()),
        created_after=created_after,
        created_before=created_before,
        updated_after=updated_after,
        updated_before=updated_before,
        sort_by=sort,
    )
    list_deployments(Session.of(ctx), context, request, output)


def list_deployments(session: Session, context: str | None, request: ListRequest, output: Format) -> None:
    """Ask for a page of deployments and print it.

    :raises Refused: the node does not like a filter.
    """
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE
    from dms.cli.output import age, pairs, print_table, short_id, show
    from dms.node.payloads import ListReply
    from dms.types import gojson

    reply = session.client(context).call(f"{NAMESPACE}/list", request, ListReply)
    if reply.error:
        raise refused(reply.error)
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply), output)
        return
    rows = [
        (
            short_id(d.orchestrator_id),
            d.status,
            f"{d.running}/{d.allocations}" if d.allocations else "",
            age(d.created_at),
            age(d.created_at, d.completed_at) if d.completed_at else "",
            pairs(d.metadata),
            d.error,
        )
        for d in reply.deployments
    ]
    print_table(("ID", "STATUS", "UP", "AGE", "TOOK", "METADATA", "ERROR"), rows)
    if reply.has_more:
        first = request.offset + 1
        last = request.offset + len(rows)
        typer.echo(f"{first} to {last} of {reply.total}; more with --offset {reply.next_offset}", err=True)


@app.command("allocations")
def allocations(ctx: typer.Context, context: Context = None, output: Output = Format.TABLE) -> None:
    """List the allocations that the node runs for others, as a provider.

    Examples:
      nunet get allocations
      nunet --network devnet --node node1 get allocations --output json
    """
    from dms.cli.client import refused
    from dms.cli.output import age, print_table, show
    from dms.cli.session import Session
    from dms.node.machine_payloads import HostedAllocations
    from dms.types import gojson
    from dms.types.units import format_bytes

    session = Session.of(ctx)
    reply = session.client(context).call("/dms/node/allocations/list", None, HostedAllocations)
    if reply.error:
        raise refused(reply.error)
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply), output)
        return
    rows = [
        (
            _short_allocation(a.id),
            a.type,
            a.status,
            a.executor,
            f"{a.resources.cpu.cores:g}",
            format_bytes(a.resources.ram.size),
            ",".join(str(port) for port in a.using_ports),
            age(a.started_at or a.created_at),
        )
        for a in reply.allocations
    ]
    print_table(("ALLOCATION", "TYPE", "STATE", "EXECUTOR", "CORES", "RAM", "PORTS", "AGE"), rows)


@app.command("resources")
def resources(ctx: typer.Context, context: Context = None, output: Output = Format.TABLE) -> None:
    """Show what the machine has, and how much of it is offered, in use and free.

    Examples:
      nunet get resources
      nunet --network devnet --node 2 get resources --output json
    """
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.node.machine_payloads import ResourcesReply
    from dms.types import gojson
    from dms.types.units import format_bytes

    client = Session.of(ctx).client(context)
    kinds = {
        "machine": "/dms/node/hardware/spec",
        "onboarded": "/dms/node/resources/onboarded",
        "allocated": "/dms/node/resources/allocated",
        "free": "/dms/node/resources/free",
    }
    replies = {kind: client.call(behaviour, None, ResourcesReply) for kind, behaviour in kinds.items()}
    if output is not Format.TABLE:
        show({kind: gojson.to_builtins(r.resources) for kind, r in replies.items()}, output)
        return
    rows = []
    for kind, reply in replies.items():
        found = reply.resources
        rows.append(
            (
                kind,
                f"{found.cpu.cores:g}",
                format_bytes(found.ram.size),
                format_bytes(found.disk.size),
                str(len(found.gpus)),
                reply.error,
            )
            if reply.ok
            else (kind, "", "", "", "", reply.error)
        )
    print_table(("RESOURCES", "CORES", "RAM", "DISK", "GPUS", "NOTE"), rows)


def metadata_filter(filters: list[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` texts as a map.

    :raises BadInput: one has no ``=``.
    """
    from dms.types.errors import BadInput

    found = {}
    for text in filters or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadInput(f'invalid filter "{text}"', hint="write it like team=blue")
        found[key] = value
    return found


def _short_allocation(identifier: str) -> str:
    ensemble, _, key = identifier.partition("_")
    return f"{ensemble[:12]}_{key}" if key else identifier
