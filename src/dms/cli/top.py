"""``nunet top``: what the allocations of deployments use, again and again."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from dms.cli.client import Client
    from dms.cli.session import Session
    from dms.node.payloads import StatusReply

CLEAR = "\x1b[H\x1b[2J"
COLUMNS = ("ID", "ALLOCATION", "MACHINE", "STATE", "CPU", "MEMORY", "OF", "RECEIVED", "SENT")


def top(
    ctx: typer.Context,
    identifier: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One deployment; without it, all that run.")
    ] = None,
    every: Annotated[float, typer.Option("--every", min=0.5, metavar="SECONDS", help="How often to look.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once; so it is in a pipe.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what each running allocation uses: processor in percent of one core, memory, network since its start.

    Ctrl-C ends it.

    Examples:
      nunet top
      nunet top 3f2a --every 5
      nunet top 3f2a --once --output json
    """
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.types import gojson

    session = Session.of(ctx)
    client = session.client(context)
    while True:
        found = _sample(client, identifier)
        if output is not Format.TABLE:
            show({id_: gojson.to_builtins(reply.allocation_usage) for id_, reply in found.items()}, output)
            return
        if sys.stdout.isatty() and not once:
            print(CLEAR, end="")
        print_table(COLUMNS, [row for id_, reply in found.items() for row in _rows(id_, reply, session)])
        if once or not sys.stdout.isatty():
            return
        sys.stdout.flush()
        time.sleep(every)


def _sample(client: Client, identifier: str | None) -> dict[str, StatusReply]:
    """The statuses of those that are meant, with what they use."""
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE
    from dms.node.payloads import DeploymentRequest, ListReply, ListRequest, StatusReply

    if identifier:
        wanted = [identifier]
    else:
        listed = client.call(f"{NAMESPACE}/list", ListRequest(status=("Running",)), ListReply)
        wanted = [d.orchestrator_id for d in listed.deployments]
    found = {}
    for one in wanted:
        request = DeploymentRequest(id=one, include_usage=True)
        reply = client.call(f"{NAMESPACE}/status", request, StatusReply, timeout_s=60)
        if reply.status:
            found[one] = reply
        elif identifier:
            raise refused(reply.error)
    return found


def _rows(identifier: str, reply: StatusReply, session: Session) -> list[tuple[str, ...]]:
    from dms.cli.output import short_id
    from dms.types.units import format_bytes

    rows: list[tuple[str, ...]] = []
    for key, a in sorted(reply.allocation_info.items()):
        use = reply.allocation_usage.get(key)
        if use is None and not a.usage_error:
            continue
        start = (short_id(identifier), key, session.peer_name(a.peer), a.status)
        if use is None:
            rows.append((*start, "", a.usage_error, "", "", ""))
            continue
        limit = format_bytes(use.memory_limit_bytes) if use.memory_limit_bytes else ""
        received, sent = format_bytes(use.network_rx_bytes), format_bytes(use.network_tx_bytes)
        cpu, memory = f"{use.cpu_usage_percent:.1f} %", format_bytes(use.memory_used_bytes)
        rows.append((*start, cpu, memory, limit, received, sent))
    return rows
