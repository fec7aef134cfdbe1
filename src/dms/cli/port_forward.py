"""``nunet port-forward``: ports of this machine that lead to those of an allocation."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, DeploymentID
from dms.types.errors import BadInput

if TYPE_CHECKING:
    import trio

    from dms.cli.tunnel import Tunnels

PIECE_BYTES = 64 * 1024
MAX_PORT = 65535
TICKET_VARIABLE = "DMS_FORWARD_TICKET"
"""Of a ticket that whoever starts us has already: then nothing is signed, and nobody asked for a passphrase."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A local port, 0 for any that is free, and the one that it leads to."""

    local: int
    remote: int


def port_forward(
    ctx: typer.Context,
    identifier: DeploymentID,
    allocation: Annotated[str, typer.Argument(help="Its name or NODE.NAME.")],
    ports: Annotated[
        list[str],
        typer.Argument(metavar="[LOCAL:]REMOTE...", help="TCP ports; without LOCAL the same, with 0 any that is free."),
    ],
    address: Annotated[str, typer.Option(help="Where to listen on this machine.")] = "127.0.0.1",
    stdio: Annotated[bool, typer.Option("--stdio", help="One connection, over standard input and output.")] = False,
    context: Context = None,
) -> None:
    """Reach TCP ports of an allocation at ports of this machine, whatever machine it runs on, until Ctrl-C.

    Only who submitted the deployment may. It needs no public port and no private network: inside a container every port is
    reached, also of what listens on its loopback only; elsewhere those that the ensemble names.

    Examples:
      nunet port-forward 3f2a web 8080:80
      nunet port-forward 3f2a db 5432 0:9187
      ssh -o ProxyCommand='nunet port-forward --stdio 3f2a box 22' root@box
    """
    import trio

    from dms.cli.session import Session
    from dms.cli.tunnel import Tunnels

    wanted = [read_ports(text) for text in ports]
    if stdio and len(wanted) != 1:
        raise BadInput("--stdio is one connection to one port", hint="name one port")
    remotes = tuple(dict.fromkeys(each.remote for each in wanted))
    ticket = os.environ.get(TICKET_VARIABLE, "") if stdio else ""
    tunnels = Tunnels(Session.of(ctx).client(context), identifier, allocation, remotes, ticket)
    if ticket:
        trio.run(over_stdio, tunnels, remotes[0])
        return
    told = tunnels.ask()
    if stdio:
        trio.run(over_stdio, tunnels, remotes[0])
        return
    try:
        trio.run(_listen, tunnels, told.allocation, address, wanted)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise typer.Exit(130) from None


def read_ports(text: str) -> Forwarded:
    """``[LOCAL:]REMOTE``.

    :raises BadInput: it is no such thing.
    """
    local, colon, remote = text.rpartition(":")
    numbers = [
        int(one) if one.isascii() and one.isdecimal() else -1 for one in ((local or "0") if colon else remote, remote)
    ]
    if not 0 <= numbers[0] <= MAX_PORT or not 0 < numbers[1] <= MAX_PORT:
        raise BadInput(f"{text} is no port and no pair of ports", hint="write REMOTE or LOCAL:REMOTE, such as 8080:80")
    return Forwarded(*numbers)


async def over_stdio(tunnels: Tunnels, port: int) -> None:
    """One connection between the port and our input and output.

    :raises DMSError: there is none.
    """
    from dms.subnet.pipes import join

    await join(await tunnels.open(port), StdioPipe())


class StdioPipe:
    """Our input and output as a pipe; each is read and written in threads, whatever it is."""

    async def read(self, max_bytes: int) -> bytes:
        """See :class:`dms.subnet.pipes.Pipe`."""
        import trio

        return await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), max_bytes, abandon_on_cancel=True)

    async def write(self, data: bytes) -> None:
        """See :class:`dms.subnet.pipes.Pipe`."""
        import trio

        from dms.network.errors import StreamEnded

        try:
            await trio.to_thread.run_sync(_write_all, sys.stdout.fileno(), data, abandon_on_cancel=True)
        except OSError as error:
            raise StreamEnded("nobody reads the output") from error

    async def close(self) -> None:
        """The other side has no more to say: whoever reads us sees the end."""
        from dms.network.errors import StreamEnded

        raise StreamEnded("the other side has ended")

    async def reset(self) -> None:
        """Nothing is left to end."""


async def _listen(tunnels: Tunnels, name: str, address: str, wanted: list[Forwarded]) -> None:
    import trio

    listeners: list[tuple[trio.SocketListener, Forwarded]] = []
    try:
        for each in wanted:
            try:
                opened = await trio.open_tcp_listeners(each.local, host=address)
            except OSError as exc:
                raise BadInput(
                    f"cannot listen on {address} port {each.local}: {exc.strerror or exc}",
                    hint=f"choose another one, such as 0:{each.remote} for any that is free",
                ) from None
            listeners += [(one, each) for one in opened]
        for one, each in listeners:
            host, port = one.socket.getsockname()[:2]
            typer.echo(f"{f'[{host}]' if ':' in host else host}:{port} -> {name}:{each.remote}")
        async with trio.open_nursery() as nursery:
            for one, each in listeners:
                nursery.start_soon(_serve, tunnels, one, each.remote)
    finally:
        for one, _ in listeners:
            one.socket.close()


async def _serve(tunnels: Tunnels, listener: trio.SocketListener, port: int) -> None:
    import trio

    from dms.subnet.pipes import TrioPipe, join
    from dms.types.errors import DMSError

    async def on_connection(stream: trio.SocketStream) -> None:
        pipe = TrioPipe(stream)
        try:
            other = await tunnels.open(port)
        except DMSError as exc:
            typer.echo(f"port {port}: {exc.message}", err=True)
            await pipe.reset()
            return
        await join(pipe, other)

    await trio.serve_listeners(on_connection, [listener])


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
