"""``nunet devnet``: a whole network of real nodes on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dms.cli.options import Format, Output

app = typer.Typer(no_args_is_help=True, help="Run a whole network on this machine.")

Directory = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="Where the network lives, instead of the usual place.")
]


@app.command()
def up(
    nodes: Annotated[int, typer.Option("-n", "--nodes", metavar="N", help="How many nodes.")] = 3,
    providers: Annotated[
        int | None,
        typer.Option("--providers", metavar="N", help="How many of them offer resources (all but the last)."),
    ] = None,
    directory: Directory = None,
    output: Output = Format.TABLE,
) -> None:
    """Start a network: keys, mutual trust, ports and onboarding included.

    Every node is a process of its own. The last node offers nothing unless told to: it is the one that the other commands
    address, and from which ensembles are deployed to the rest.

    Examples:
      nunet devnet up
      nunet devnet up -n 5 --dir /tmp/mynet
      nunet --network devnet deploy -f examples/wordcount.yaml
    """
    from dms.cli.networks import FILE_VARIABLE, devnet_dir
    from dms.cli.output import print_table, show
    from dms.devnet import network
    from dms.types import gojson

    offering = max(1, nodes - 1) if providers is None else providers
    place = devnet_dir(directory)
    is_quiet = output is not Format.TABLE
    try:
        profile = network.up(place, nodes, offering, say=_mute if is_quiet else typer.echo)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted; nothing of the network is left.", err=True)
        raise
    if is_quiet:
        show(gojson.to_builtins(profile), output)
        return
    rows = [
        (n.name, n.peer_id, f"{n.rest_addr}:{n.rest_port}", _cell(n.is_provider), str(n.pid)) for n in profile.nodes
    ]
    print_table(("NODE", "PEER", "REST", "PROVIDER", "PID"), rows)
    typer.echo("")
    if directory is None:
        typer.echo("Address it with: nunet --network devnet COMMAND")
    else:
        typer.echo(f"Address it with: export DMS_NETWORK=devnet {FILE_VARIABLE}={place / 'network.json'}")


@app.command()
def status(
    directory: Directory = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the nodes of the network.

    Examples:
      nunet devnet status
      nunet devnet status --output json
    """
    from dms.cli.networks import devnet_dir
    from dms.cli.output import print_table, show
    from dms.devnet import network

    found = network.status(devnet_dir(directory))
    described = [
        {
            "name": s.profile.name,
            "peer_id": s.profile.peer_id,
            "rest": f"{s.profile.rest_addr}:{s.profile.rest_port}",
            "provider": s.profile.is_provider,
            "pid": s.pid,
            "state": "up" if s.is_answering else ("starting" if s.pid else "down"),
            "peers": s.peers,
        }
        for s in found
    ]
    if output is not Format.TABLE:
        show(described, output)
        return
    columns = ("name", "state", "peers", "provider", "rest", "pid", "peer_id")
    print_table([c.upper() for c in columns], [[_cell(d[c]) for c in columns] for d in described])


@app.command()
def down(
    directory: Directory = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the directory with logs and databases.")] = False,
) -> None:
    """End the network, everything that runs on it, and remove its directory.

    Examples:
      nunet devnet down
      nunet devnet down --keep
    """
    from dms.cli.networks import devnet_dir
    from dms.devnet import network

    network.down(devnet_dir(directory), keep=keep, say=typer.echo)


def _mute(_text: str) -> None:
    """Machine-readable output stays alone."""


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
