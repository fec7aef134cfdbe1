"""``nunet status``: how the node is; or where a deployment and each of its allocations are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dms.cli.session import Session
    from dms.node.payloads import AllocationInfo, InfoReply

COLUMNS = ("NODE", "ALLOCATION", "TYPE", "PEER", "STATE", "EXIT", "PORTS", "AGE")


OptionalID = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="Id of a deployment; its beginning is enough. Without one: how the node is."),
]


def status(
    ctx: typer.Context, identifier: OptionalID = None, context: Context = None, output: Output = Format.TABLE
) -> None:
    """Show how the node is, and what is wrong with it; or the phase of a deployment, its error, and each allocation: where
    it runs, its state, ports and exit code.

    Examples:
      nunet status
      nunet status 3f2a
      nunet status 3f2a --output json
    """
    import sys

    from dms.cli.following import Deployment
    from dms.cli.output import clean, has_colour, paint, print_table, show
    from dms.cli.session import Session
    from dms.types import gojson

    session = Session.of(ctx)
    if identifier is None:
        _show_node(session, output)
        return
    info = Deployment(session.client(context), identifier).info()
    if output is not Format.TABLE:
        document = gojson.to_builtins(info)
        document.pop("manifest", None)
        show(document, output)
        return
    print(f"Deployment {info.id}")
    print(f"Status     {paint(info.status) if has_colour(sys.stdout) else info.status}")
    for line in _waits(info):
        print(line)
    if info.error and not info.queued_since:
        print(f"Error      {clean(info.error)}")
    print()
    print_table(COLUMNS, [_row(key, a, session.peer_name) for key, a in sorted(info.allocations.items())])
    for key, allocation in sorted(info.allocations.items()):
        if allocation.error and allocation.error not in info.error:
            print(f"{key}: {clean(allocation.error)}")


def _show_node(session: Session, output: Format) -> None:
    """What the node tells everybody on its machine; needs no authority."""
    from dms.cli.output import age, clean, show

    rest = session.client().rest
    health = rest.health()
    if output is not Format.TABLE:
        show({**health, "warnings": health.get("warnings", [])}, output)
        return
    handle = rest.handle()
    print(f"Node       {clean(handle.addr.host)} at {rest.addr}:{rest.port}")
    print(f"DID        {clean(handle.did.uri)}")
    print(f"Peers      {health.get('peers', 0)}")
    warnings = health.get("warnings", [])
    print(f"Health     {'well' if not warnings else f'{len(warnings)} to look at'}")
    for warning in warnings:
        since = age(str(warning.get("since", "")))
        print()
        print(clean(f"{warning.get('severity', ''):<8} {warning.get('text', '')} (for {since or '?'})"))
        if warning.get("hint"):
            print(clean(f"{'':<8} → {warning['hint']}"))


def _waits(info: InfoReply) -> Iterator[str]:
    from dms.cli.output import age, clean

    if info.queued_since:
        yield f"Queued     for {age(info.queued_since)}, until {info.queued_until} at most"
        yield f"Waits for  {clean(info.error)}"
    if info.ends_at and info.status == "Running":
        yield f"Ends       {info.ends_at}"


def _row(key: str, allocation: AllocationInfo, name_peer: Callable[[str], str]) -> tuple[str, ...]:
    from dms.cli.output import age, pairs

    code = "" if allocation.exit_code is None else str(allocation.exit_code)
    return (
        allocation.node_id,
        key.removeprefix(f"{allocation.node_id}."),
        allocation.type,
        name_peer(allocation.peer),
        allocation.status,
        code,
        pairs(allocation.ports).replace("=", "→"),
        age(allocation.started_at, allocation.ended_at),
    )
