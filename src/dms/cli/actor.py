"""``nunet actor``: messages to actors, by hand and by behaviour (``spec/security.md`` 6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dms.cli.cmd import app as cmd_app
from dms.cli.options import Context, Destination, Expiry, Timeout

if TYPE_CHECKING:
    from dms.actor.envelope import Envelope

app = typer.Typer(name="actor", help="Send messages to actors, call behaviours.", no_args_is_help=True)
app.add_typer(cmd_app, name="cmd")

Message = Annotated[
    str, typer.Argument(metavar="MESSAGE", help="A signed message, as nunet actor msg prints it; - reads it.")
]


@app.command("msg")
def msg(
    ctx: typer.Context,
    behaviour: Annotated[str, typer.Argument(metavar="BEHAVIOR", help="Path of the behaviour.")],
    payload: Annotated[str, typer.Argument(help="JSON; anything else is sent as text.")],
    dest: Destination = None,
    broadcast: Annotated[
        str, typer.Option("-b", "--broadcast", metavar="TOPIC", help="Send to everybody on a topic.")
    ] = "",
    invoke: Annotated[bool, typer.Option("-i", "--invoke", help="Ask for a reply.")] = False,
    context: Context = None,
    timeout: Timeout = None,
    expiry: Expiry = None,
) -> None:
    """Print a signed message, without sending it.

    Examples:
      nunet actor msg /public/hello null --invoke
      nunet actor msg /broadcast/hello null --broadcast /nunet/hello
      nunet actor msg /dms/node/peers/ping '{"Host":"12D3KooW…"}' -i -d did:key:z6Mk…
    """
    from dms.cli.client import DEFAULT_TIMEOUT_S
    from dms.cli.options import lifetime
    from dms.cli.session import Session
    from dms.types.errors import BadInput

    for flag, given in (("--dest", dest), ("--invoke", invoke)):
        if broadcast and given:
            raise BadInput(f"{flag} and --broadcast exclude each other")
    timeout_s = lifetime(timeout, expiry, DEFAULT_TIMEOUT_S)
    client = Session.of(ctx).client(context)
    content = _payload(payload)
    if broadcast:
        message = client.broadcast_message(broadcast, behaviour, content, timeout_s=timeout_s)
    else:
        to = client.destination(dest)
        message = client.message(to, behaviour, content, timeout_s=timeout_s, wants_reply=invoke)
    print(message.encode().decode())


@app.command("send")
def send(ctx: typer.Context, message: Message) -> None:
    """Send a signed message without waiting for a reply; print what the node answers.

    Examples:
      nunet actor send "$(nunet actor msg /public/hello null)"
    """
    from dms.cli.client import send_signed
    from dms.cli.session import Session

    print(send_signed(Session.of(ctx).client().rest, _read(message)).decode("utf-8", "replace"))


@app.command("invoke")
def invoke(ctx: typer.Context, message: Message) -> None:
    """Send a signed message and print the reply, a signed message too.

    Examples:
      nunet actor invoke "$(nunet actor msg /public/hello null --invoke)"
    """
    from dms.cli.client import invoke_signed
    from dms.cli.session import Session

    print(invoke_signed(Session.of(ctx).client().rest, _read(message)).encode().decode())


@app.command("broadcast")
def broadcast(ctx: typer.Context, message: Message) -> None:
    """Publish a signed message and print the list of replies that came until it expired.

    Examples:
      nunet actor broadcast "$(nunet actor msg /broadcast/hello null -b /nunet/hello -t 5s)"
    """
    from dms.cli.client import broadcast_signed
    from dms.cli.session import Session

    replies = broadcast_signed(Session.of(ctx).client().rest, _read(message))
    print("[" + ",".join(reply.encode().decode() for reply in replies) + "]")


def _payload(text: str) -> Any:  # JSON of unknown shape
    """JSON where it is JSON, else the text itself."""
    from dms.types import gojson
    from dms.types.errors import BadJSON

    try:
        return gojson.parse(text.encode())
    except BadJSON:
        return text


def _read(text: str) -> Envelope:
    import sys

    from dms.actor.envelope import decode_envelope

    if text == "-":
        text = sys.stdin.read()
    return decode_envelope(text.strip().encode("utf-8", "surrogateescape"))
