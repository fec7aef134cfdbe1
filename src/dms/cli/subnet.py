"""``nunet subnet``: the private network of a deployment, as its machines see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, DeploymentID, Format, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dms.subnet.messages import MemberReport, NetworkReport

app = typer.Typer(name="subnet", help="Show the private network of a deployment.", no_args_is_help=True)
MODES = {
    "kernel": "addresses inside containers",
    "user": "streams only, as its machine makes no devices",
    "off": "public ports only, as its owner wants it",
}


@app.callback()
def subnet() -> None:
    """Show the private network of a deployment."""


@app.command("status")
def status(
    ctx: typer.Context, identifier: DeploymentID, context: Context = None, output: Output = Format.TABLE
) -> None:
    """Show who is in the private network of a deployment, how packets get there, and how many did.

    Examples:
      nunet subnet status 3f2a
      nunet subnet status 3f2a --output json
    """
    from dms.cli.following import Deployment
    from dms.cli.output import clean, print_table, show
    from dms.cli.session import Session
    from dms.types import gojson

    session = Session.of(ctx)
    found = Deployment(session.client(context), identifier).network()
    if output is not Format.TABLE:
        show(gojson.to_builtins(found), output)
        return
    print(f"Network  {found.cidr}")
    for peer, report in found.machines.items():
        print(f"\n{session.peer_name(peer)}: {clean(_summary(report))}")
        if report.members:
            rows = [_row(member, session.peer_name) for member in report.members]
            print_table(("ADDRESS", "NAME", "MACHINE", "PATH", "RTT", "MTU", "IN", "OUT", "DROPPED"), rows)


@app.command("resolve")
def resolve(
    ctx: typer.Context,
    identifier: DeploymentID,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of an allocation, with or without .internal.")],
    context: Context = None,
) -> None:
    """Print the address of a name in the private network of a deployment.

    For machines that take part in it, as that of the orchestrator with subnet.join; others reach it by nunet port-forward.

    Examples:
      nunet subnet resolve 3f2a web
      curl "http://$(nunet subnet resolve 3f2a web):8080"
    """
    from dms.cli.errors import RefusedUnknown
    from dms.cli.following import Deployment
    from dms.cli.output import clean
    from dms.cli.session import Session

    session = Session.of(ctx)
    found = Deployment(session.client(context), identifier).network()
    wanted = name.lower().removesuffix(".").removesuffix(".internal")
    addresses = {known.removesuffix(".internal"): address for known, address in found.names.items()}
    if wanted not in addresses:
        raise RefusedUnknown(
            f"there is no {clean(name)} in this network", hint=f"it has {', '.join(sorted(addresses))}"
        )
    print(addresses[wanted])


def _summary(report: NetworkReport) -> str:
    return ", ".join(_summed(report))


def _summed(report: NetworkReport) -> Iterator[str]:
    if report.error:
        yield f"not known: {report.error}"
        return
    yield MODES.get(report.mode, report.mode)
    if report.queries:
        yield f"{sum(report.queries.values())} names asked for"
    for address, reason in report.lacking.items():
        yield f"{address} is not there: {reason}"
    for reason, count in report.drops.items():
        yield f"{count} packets dropped: {reason}"


def _row(member: MemberReport, name_peer: Callable[[str], str]) -> tuple[str, ...]:
    from dms.types.ids import PeerID

    way = f"{member.path} by {name_peer(PeerID(member.relay))}" if member.path and member.relay else member.path
    path = "here" if member.is_own else " ".join(part for part in (way, member.state, member.error) if part)
    return (
        " ".join(member.addresses),
        " ".join(member.names),
        name_peer(member.peer),
        path or "-",
        f"{member.rtt_us / 1000:.1f} ms" if member.rtt_us else "-",
        str(member.mtu or "-"),
        _passed(member.packets_in, member.bytes_in),
        _passed(member.packets_out, member.bytes_out),
        ", ".join(f"{count} {reason}" for reason, count in member.drops.items()) or "-",
    )


def _passed(packets: int, size_bytes: int) -> str:
    from dms.types.units import format_bytes

    return f"{format_bytes(size_bytes)} in {packets}" if packets else "-"
