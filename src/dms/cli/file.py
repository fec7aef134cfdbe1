"""``nunet file``: files from a volume of one's own on one node to one on another, past the machine where this runs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Destination, Format, Output

if TYPE_CHECKING:
    from dms.actor.handle import Handle
    from dms.cli.client import Client
    from dms.node.file_payloads import FileReply, TransferInfo

app = typer.Typer(name="file", help="Send files from one node's volume to another's.", no_args_is_help=True)

NAMESPACE = "/dms/volume"
POLL_S = 0.5
COLUMNS = ("ID", "DIRECTION", "FILE", "SIZE", "DONE", "STATE", "PEER")

File = Annotated[str, typer.Argument(metavar="VOLUME/PATH", help="Name of a volume of one's own, and a file in it.")]
As = Annotated[str | None, typer.Option("--as", metavar="VOLUME/PATH", help="Where it goes; else the same name.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Begin, and do not wait for its end.")]


@app.command("send")
def send(
    ctx: typer.Context,
    file: File,
    to: Annotated[str, typer.Option("--to", metavar="DEST", help="The other node: a DID, a peer id, a handle.")],
    name: As = None,
    no_wait: NoWait = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Send a file from a volume of our node to one of another node. Needs /dms/volume on both.

    What broke off, whatever of the two was killed, goes on where it was when the command is given again. Nothing is
    overwritten, and nobody there sees the file before it is whole and checked. Ctrl-C leaves the nodes at work.

    Examples:
      nunet file send results/model.bin --to 12D3KooWKjSodxxi7UfRHzuk7eGgUF49MoPUCJvtva9K12TqDDsi
      nunet file send results/model.bin --to did:key:z6Mk... --as models/2026/first.bin
    """
    from dms.cli.session import Session

    client = Session.of(ctx).client(context)
    _pass(client, (client.node, file), (client.destination(to), name or file), output, is_waited_for=not no_wait)


@app.command("get")
def get(
    ctx: typer.Context,
    file: File,
    from_: Annotated[str, typer.Option("--from", metavar="DEST", help="The other node: a DID, a peer id, a handle.")],
    name: As = None,
    no_wait: NoWait = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Have another node send a file from a volume there to one of our node; otherwise as send.

    Examples:
      nunet file get checkpoints/last.pt --from 12D3KooWKjSodxxi7UfRHzuk7eGgUF49MoPUCJvtva9K12TqDDsi
    """
    from dms.cli.session import Session

    client = Session.of(ctx).client(context)
    _pass(client, (client.destination(from_), file), (client.node, name or file), output, is_waited_for=not no_wait)


@app.command("list")
def list_(ctx: typer.Context, dest: Destination = None, context: Context = None, output: Output = Format.TABLE) -> None:
    """List one's own files under way on the node, and the last that were.

    Examples:
      nunet file list
      nunet file list --dest 12D3KooWKjSodxxi7UfRHzuk7eGgUF49MoPUCJvtva9K12TqDDsi
    """
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.types import gojson

    client = Session.of(ctx).client(context)
    found = _transfers(client, client.destination(dest))
    if output is not Format.TABLE:
        show({"transfers": [gojson.to_builtins(one) for one in found]}, output)
        return
    print_table(COLUMNS, [_row(one) for one in found])


def _pass(
    client: Client, source: tuple[Handle, str], target: tuple[Handle, str], output: Format, *, is_waited_for: bool
) -> None:
    from dms.cli.output import show
    from dms.node.file_payloads import FileRequest, ReceiveRequest, SendRequest
    from dms.types import gojson

    (sender, file), (receiver, name) = source, target
    volume, path = _parts(file)
    volume_there, path_there = _parts(name)
    found = _call(client, sender, "file", FileRequest(name=volume, path=path))
    wanted = ReceiveRequest(
        name=volume_there, path=path_there, size=found.size, version=found.version, peer=sender.addr.host
    )
    granted = _call(client, receiver, "receive", wanted)
    order = SendRequest(name=volume, path=path, version=found.version, peer=receiver.addr.host, ticket=granted.ticket)
    begun = _call(client, sender, "send", order)
    if not is_waited_for:
        show({"id": begun.id, "size": found.size, "received": granted.received}, output)
        return
    try:
        ended = _follow(client, sender, begun.id)
    except KeyboardInterrupt:
        typer.echo("\nthe nodes go on: nunet file list", err=True)
        raise typer.Exit(130) from None
    if output is not Format.TABLE:
        show(gojson.to_builtins(ended), output)
    _refuse_failed(ended)
    if output is Format.TABLE:
        from dms.types.units import format_bytes

        print(f"{volume_there}/{path_there} is there: {format_bytes(ended.size)}")


def _follow(client: Client, sender: Handle, id_: str) -> TransferInfo:
    from dms.cli.errors import BadReply
    from dms.types.units import format_bytes

    is_shown = sys.stderr.isatty()
    while True:
        one = next((one for one in _transfers(client, sender) if one.id == id_), None)
        if one is None:
            raise BadReply("the node forgot the transfer", hint="it was restarted: give the command again, it goes on")
        if is_shown:
            print(f"\r{format_bytes(one.done)} of {format_bytes(one.size)}\x1b[K", end="", file=sys.stderr, flush=True)
        if one.state != "running":
            if is_shown:
                print(file=sys.stderr)
            return one
        time.sleep(POLL_S)


def _call(client: Client, node: Handle, name: str, request: object) -> FileReply:
    from dms.cli.client import refused
    from dms.node.file_payloads import FileReply

    reply = client.call(f"{NAMESPACE}/{name}", request, FileReply, to=node)
    if not reply.ok:
        raise refused(reply.error, reply.hint)
    return reply


def _transfers(client: Client, node: Handle) -> tuple[TransferInfo, ...]:
    from dms.cli.client import refused
    from dms.node.file_payloads import TransfersReply

    reply = client.call(f"{NAMESPACE}/transfers", None, TransfersReply, to=node)
    if not reply.ok:
        raise refused(reply.error, reply.hint)
    return reply.transfers


def _refuse_failed(ended: TransferInfo) -> None:
    from dms.cli.client import refused

    if ended.state != "done":
        raise refused(ended.error or "the transfer broke off", "give the command again: it goes on where it was")


def _parts(text: str) -> tuple[str, str]:
    from dms.types.errors import BadInput

    volume, slash, path = text.partition("/")
    if not (volume and slash and path):
        raise BadInput(f"{text!r} names no file", hint="write VOLUME/PATH, such as results/model.bin")
    return volume, path


def _row(one: TransferInfo) -> tuple[str, ...]:
    from dms.types.units import format_bytes

    share = f"{100 * one.done // one.size} %" if one.size else ""
    state = f"{one.state}: {one.error}" if one.error else one.state
    return one.id, one.direction, f"{one.volume}/{one.path}", format_bytes(one.size), share, state, one.peer
