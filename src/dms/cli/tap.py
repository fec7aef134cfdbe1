"""``nunet tap``: TAP devices, which give microVMs a network (``spec/platform.md`` 2.4). No node is asked."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dms.cli.options import Format, Output

COMMANDS = ("create", "remove", "list")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the device, at most 15 characters.")]
Main = Annotated[
    str | None, typer.Option("--main", "-m", metavar="DEVICE", help="The device through which its packets may leave.")
]


class TapGroup(TyperGroup):
    """Also understands ``nunet tap MAIN NAME CIDR``, as this command was once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: the context class has no public name
        """Three bare words that begin with no command mean ``create``."""
        if len(args) == 3 and args[0] not in COMMANDS and not any(word.startswith("-") for word in args):
            main, name, cidr = args
            args = ["create", name, cidr, "--main", main]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="tap", help="Make, remove and list TAP devices for microVMs.", cls=TapGroup, no_args_is_help=True
)


@app.command()
def create(
    name: Name,
    cidr: Annotated[str, typer.Argument(metavar="CIDR", help="The host's address on it, such as 10.20.0.1/24.")],
    main: Main = None,
    owner: Annotated[int | None, typer.Option("--owner", metavar="UID", help="A user who may use it.")] = None,
) -> None:
    """Make a TAP device that stays, give it an address and bring it up. Needs root or CAP_NET_ADMIN.

    With --main, packets from the device may leave through that one, and answers come back: two rules of iptables;
    forwarding must be on.

    Examples:
      sudo nunet tap create tap0 10.20.0.1/24
      sudo nunet tap create tap0 10.20.0.1/24 --main eth0
      sudo nunet tap eth0 tap0 10.20.0.1/24
    """
    from dms.executor.tap import create_tap

    tap = create_tap(name, cidr, main_interface=main or "", owner=owner)
    print(f"{tap.name} has the address {tap.address}")


@app.command()
def remove(name: Name, main: Main = None) -> None:
    """Remove a TAP device. --main names the device with which it was made, so that the rules go too.

    Examples:
      sudo nunet tap remove tap0
      sudo nunet tap remove tap0 --main eth0
    """
    from dms.executor.tap import remove_tap

    remove_tap(name, main_interface=main or "")
    print(f"{name} is removed")


@app.command("list")
def list_(output: Output = Format.TABLE) -> None:
    """List the TAP devices of this machine.

    Examples:
      nunet tap list
      nunet tap list --output json
    """
    from dms.cli.output import print_table, show
    from dms.executor.tap import list_taps

    taps = list_taps()
    if output is not Format.TABLE:
        show([{"name": tap.name, "address": tap.address, "up": tap.is_up} for tap in taps], output)
        return
    print_table(("NAME", "ADDRESS", "UP"), [(tap.name, tap.address, "yes" if tap.is_up else "no") for tap in taps])
