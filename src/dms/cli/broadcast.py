"""``nunet cap broadcast``: the revocations of a context, sent to everybody (``spec/security.md`` 3.7, 6.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dms.cli.options import Format, Output

if TYPE_CHECKING:
    from dms.actor.envelope import Envelope
    from dms.capability.token import Token, TokenList
    from dms.cli.client import Client

REVOKE = "/dms/cap/revoke/broadcast"
TOPIC = "/nunet/revocation"
MAX_PAYLOAD_BYTES = 48 * 1024
"""Tokens in one message: twice in base 64, with capabilities, it stays below what gossip carries."""
OWN_NODE_TIMEOUT_S = 10.0
LIFETIME_S = 30.0


def broadcast(
    ctx: typer.Context,
    context: Annotated[str, typer.Option("--context", "-c", help="Whose revocations, and who sends them.")] = "user",
    wait: Annotated[
        str | None, typer.Option("--wait", "-w", metavar="DURATION", help="Count the nodes that confirm meanwhile.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Send the revocations that a context holds to all nodes.

    They take effect where they arrive, and nodes that are away ask for them when they come back. To publish, the context
    must be allowed to broadcast /dms/cap/revoke/broadcast on the topic /nunet/revocation. The node that the message goes
    through takes them up first.

    Examples:
      nunet cap anchor -c user --revoke "$(nunet cap revoke -c user '{"tok":[…]}')"
      nunet cap broadcast -c user
      nunet cap broadcast -c user --wait 5s
    """
    from dms.capability.store import load_context
    from dms.cli.identity import context_file, report_problems, trust_of_file
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.types.errors import NotFound
    from dms.types.units import parse_duration_ns

    path = context_file(ctx, context)
    opened = load_context(path, trust_of_file(ctx, path), name=context, need_provider=False)
    report_problems(opened)
    revocations = opened.list_roots()[3].tokens
    if not revocations:
        raise NotFound(
            f"context '{context}' holds no revocations",
            hint=f"anchor one first: nunet cap anchor -c {context} --revoke \"$(nunet cap revoke -c {context} '…')\"",
        )
    wait_s = parse_duration_ns(wait, what="wait") / 10**9 if wait else 0.0
    client = Session.of(ctx).client(context)
    own_node = _tell_own_node(client, revocations)
    confirmed = _publish(client, revocations, wait_s)
    if output is not Format.TABLE:
        result: dict[str, Any] = {"revocations": len(revocations), "own_node": own_node or "OK"}
        show(result | ({"confirmed": sorted(confirmed)} if wait_s else {}), output)
        return
    if own_node:
        typer.echo(f"warning: our own node did not take them up: {own_node}", err=True)
    print(f"Successfully broadcast {len(revocations)} revocation token(s) to all peers")
    if wait_s:
        print(f"Confirmed by {len(confirmed)} node(s)")


def _tell_own_node(client: Client, revocations: Sequence[Token]) -> str:
    """A node does not hear what it publishes itself. Why it did not take them up, or nothing."""
    from dms.node.capability_payloads import CapReply
    from dms.types.errors import DMSError

    for tokens in _portions(revocations):
        try:
            reply = client.call(REVOKE, {"Token": tokens}, CapReply, timeout_s=OWN_NODE_TIMEOUT_S)
        except DMSError as exc:
            if exc.code == "daemon_not_running":
                raise
            return exc.message
        if not reply.ok:
            return reply.error
    return ""


def _publish(client: Client, revocations: Sequence[Token], wait_s: float) -> set[str]:
    """Publish them; the DIDs of the nodes that confirmed all of it."""
    confirmed: list[set[str]] = []
    for tokens in _portions(revocations):
        message = client.broadcast_message(
            TOPIC, REVOKE, {"Token": tokens}, timeout_s=wait_s or LIFETIME_S, wants_replies=wait_s > 0
        )
        replies = client.broadcast(message)
        confirmed.append({reply.from_.did.uri for reply in replies if _is_ok(reply)})
    return set.intersection(*confirmed)


def _is_ok(reply: Envelope) -> bool:
    from dms.node.capability_payloads import CapReply
    from dms.types.errors import BadJSON

    try:
        return reply.payload(CapReply).ok
    except BadJSON:
        return False


def _portions(revocations: Sequence[Token]) -> Iterator[TokenList]:
    from dms.capability.token import TokenList

    portion: list[Token] = []
    size = 0
    for token in revocations:
        if portion and size + len(token.json) > MAX_PAYLOAD_BYTES:
            yield TokenList.of(*portion)
            portion, size = [], 0
        portion.append(token)
        size += len(token.json)
    yield TokenList.of(*portion)
