"""``nunet info``: all that is known of a deployment (``spec/orchestration.md`` 2.4)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, DeploymentID, Format, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dms.node.payloads import AllocationInfo


def info(
    ctx: typer.Context,
    identifier: DeploymentID,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ALLOCATION]...", help="Only these: names or NODE.NAME.")
    ] = None,
    usage: Annotated[bool, typer.Option("--usage", help="Ask the machines what each uses now.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Copy the logs to the node and tell where they lie.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Show all that is known of a deployment: its owner, times and metadata, and each allocation in full.

    As JSON the manifest comes with it.

    Examples:
      nunet info 3f2a
      nunet info 3f2a count --usage
      nunet info 3f2a --logs --output json
    """
    from dms.cli.following import Deployment
    from dms.cli.output import clean, has_colour, paint, pairs, show
    from dms.cli.session import Session
    from dms.types import gojson

    session = Session.of(ctx)
    found = Deployment(session.client(context), identifier).info(usage=usage, logs=logs, names=names or ())
    if output is not Format.TABLE:
        show(gojson.to_builtins(found), output)
        return
    status = paint(found.status) if has_colour(sys.stdout) else found.status
    facts = {
        "Deployment": found.id,
        "Status": status,
        "Error": clean(found.error),
        "Version": str(found.version or ""),
        "Owner": found.owner,
        "Metadata": clean(pairs(found.metadata)),
        "Created": found.created_at,
        "Updated": found.updated_at,
        "Completed": found.completed_at,
    }
    for name, fact in facts.items():
        if fact:
            print(f"{name:<11}{fact}")
    for key, allocation in sorted(found.allocations.items()):
        print(f"\n{clean(key)}")
        for name, fact in _facts(allocation, session.peer_name):
            print(f"  {name:<9}{clean(fact)}")


def _facts(a: AllocationInfo, name_peer: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    from dms.types.units import format_bytes

    state = a.status if a.exit_code is None else f"{a.status}, exit code {a.exit_code}"
    yield "State", f"{state}: {a.error}" if a.error else state
    if a.progress:
        yield "Doing", a.progress
    yield "Type", a.type
    if a.peer:
        yield "Machine", name_peer(a.peer)
    if a.dns_name:
        yield "Name", f"{a.dns_name} ({a.private_address})" if a.private_address else a.dns_name
    if a.network_problem:
        yield "Network", f"no private address: {a.network_problem}"
    if a.ports:
        protocols = {public: "udp" if public in a.udp_ports else "tcp" for public in a.ports}
        yield (
            "Ports",
            ", ".join(f"{public}→{private}/{protocols[public]}" for public, private in sorted(a.ports.items())),
        )
    if a.started_at:
        yield "Started", a.started_at
    if a.ended_at:
        yield "Ended", a.ended_at
    if a.heartbeat_seq:
        yield "Alive", f"{a.heartbeat_seq} signs of life"
    if a.has_health_check and a.health is not None:
        yield "Health", "healthy" if a.health.healthy else f"ill: {a.health.message}"
    if a.resource_limit is not None:
        limit = a.resource_limit
        yield (
            "Limits",
            f"{limit.cpu.cores:g} cores, {format_bytes(limit.ram.size)}, disk {format_bytes(limit.disk.size)}",
        )
    if a.resource_usage is not None:
        use = a.resource_usage
        yield "Uses", f"{use.cpu_usage_percent:.1f} % of a core, {format_bytes(use.memory_used_bytes)}"
    if a.usage_error:
        yield "Usage", f"not known: {a.usage_error}"
    if a.logs is not None:
        yield "Logs", a.logs.logs_written_to or a.logs.error
