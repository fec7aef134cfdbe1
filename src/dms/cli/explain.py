"""``nunet cap explain``: would this be allowed, by which token, and if not, what is missing?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dms.cli.options import Format, Output

if TYPE_CHECKING:
    from dms.actor.envelope import Envelope
    from dms.capability.context import CapabilityContext
    from dms.capability.token import TokenList
    from dms.cli.decisions import Remedy, ToldDecision

EXPLAIN = "/dms/cap/explain"
EXIT_DENIED = 3
"""As of every command that is not authorised."""


def explain(
    ctx: typer.Context,
    behavior: Annotated[
        str, typer.Option("--behavior", "--behaviour", "-b", metavar="PATH", help="What is to be called.")
    ] = "",
    from_: Annotated[
        str,
        typer.Option("--from", "-f", metavar="DID|CONTEXT", help="Who calls it; of a context here also its tokens."),
    ] = "",
    context: Annotated[str, typer.Option("--context", "-c", help="The context that decides.")] = "dms",
    audience: Annotated[
        str, typer.Option("--audience", "-a", metavar="DID", help="At whom, if not at the owner of the context.")
    ] = "",
    topic: Annotated[str, typer.Option("--topic", "-t", metavar="TOPIC", help="Broadcast on this topic.")] = "",
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="JSON", help="Tokens that the message carries: a list or one.")
    ] = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", metavar="ENVELOPE", help="A whole message, as nunet actor msg prints it."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", "-l", help="Ask the running node instead of reading its context file.")
    ] = False,
    caller: Annotated[
        str | None, typer.Option("--as", metavar="CONTEXT", help="With --live: who asks; user, unless told otherwise.")
    ] = None,
    dest: Annotated[
        str | None, typer.Option("--dest", "-d", metavar="DEST", help="With --live: another node than ours.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show how a context decides about a message: which token counts, or which rule stands against each of them, at
    which level of its chain, which anchors are missing, and the command that would mend it.

    The token that a sender signs for itself is always taken into account, as if the message had come. No passphrase is
    needed, except with --live.

    Exit codes: 0 allowed, 3 denied, others as always.

    Examples:
      nunet cap explain --behavior /dms/deployment --from did:key:z6Mk…
      nunet cap explain -b /broadcast/hello --topic /nunet/hello --from user --context dms
      nunet cap explain --message "$(nunet actor msg /public/hello null --invoke)"
      nunet cap explain --live -b /dms/node/peers/list --from did:key:z6Mk…
    """
    from dms.cli.decisions import ToldDecision, remedies

    if message is not None:
        _exclude("--message", {"--behavior": behavior, "--from": from_, "--topic": topic, "--tokens": tokens})
        _exclude("--message", {"--live": live, "--audience": audience})
        data = _of_message(ctx, context, _read(message))
    else:
        data = _of_question(ctx, context, behavior, from_, audience, topic, tokens, (live, caller, dest))
    decision = ToldDecision.of(data)
    _print(data, decision, remedies(decision, context), output)
    if not decision.allowed:
        raise typer.Exit(EXIT_DENIED)


def _of_question(
    ctx: typer.Context,
    context: str,
    behavior: str,
    from_: str,
    audience: str,
    topic: str,
    tokens: str | None,
    asked: tuple[bool, str | None, str | None],
) -> Mapping[str, Any]:
    from dms.capability.token import NO_TOKENS
    from dms.cli.tokens import parse_did, parse_token_or_list
    from dms.types.errors import BadInput
    from dms.types.ids import Capability

    live, caller, dest = asked
    if not behavior or not from_:
        raise BadInput("give --behavior and --from, or --message", hint="nunet cap explain --help shows examples")
    if not live and (caller or dest):
        raise BadInput("--as and --dest go with --live")
    carried = NO_TOKENS if tokens is None else parse_token_or_list(tokens, "--tokens")
    if not from_.startswith("did:"):
        from_, held = _local(ctx, from_)
        carried = type(carried)(tok=(*carried.tok, *held.tok))
    who, where = parse_did(from_, "subject"), parse_did(audience, "audience", optional=True)
    if live:
        payload = {"From": who.uri, "Behavior": behavior, "Audience": where.uri, "Topic": topic, "Token": carried}
        return _asked(ctx, payload, caller, dest)
    opened = _open(ctx, context, tokens or "")
    decision = opened.explain(who, [Capability(behavior)], audience=where or opened.did, topic=topic, tokens=carried)
    return decision.as_data()


def _of_message(ctx: typer.Context, context: str, message: Envelope) -> Mapping[str, Any]:
    """As the node would decide on its arrival; if it has expired, a moment before that."""
    import time

    from dms.types.ids import Capability

    now_ns = min(time.time_ns(), message.opt.exp)
    opened = _open(ctx, context, message.cap.decode("utf-8", "replace"), now_ns=now_ns)
    claimed, sender = message.from_.did, message.from_.id
    message.verify(now_ns)
    opened.consume(claimed, message.cap, sender=sender)
    return opened.decide(
        opened.did,
        sender,
        message.to.id if message.to else opened.did,
        [Capability(message.be)],
        origin=claimed,
        topic=message.opt.topic if message.is_broadcast else "",
    ).as_data()


def _asked(ctx: typer.Context, payload: object, caller: str | None, dest: str | None) -> Mapping[str, Any]:
    from dms.cli.client import refused
    from dms.cli.session import Session
    from dms.node.capability_payloads import ExplainReply

    client = Session.of(ctx).client(caller)
    reply = client.call(EXPLAIN, payload, ExplainReply, to=client.destination(dest))
    if not reply.ok or not isinstance(reply.decision, dict):
        raise refused(reply.error or "the node gave no decision")
    return reply.decision


def _open(ctx: typer.Context, context: str, *texts: str, now_ns: int | None = None) -> CapabilityContext:
    """The context that decides; it knows the keys of whom ``texts`` name, as far as they can be had."""
    import time

    from dms.capability.store import load_context
    from dms.cli.identity import context_file, report_problems, trust_of_file

    clock_ns = time.time_ns if now_ns is None else lambda: now_ns
    path = context_file(ctx, context)
    opened = load_context(path, trust_of_file(ctx, path, *texts), name=context, clock_ns=clock_ns, need_provider=False)
    report_problems(opened)
    return opened


def _local(ctx: typer.Context, name: str) -> tuple[str, TokenList]:
    """The DID and the provide anchors of a context on this machine."""
    opened = _open(ctx, name)
    return opened.did.uri, opened.list_roots()[2]


def _read(text: str) -> Envelope:
    import sys

    from dms.actor.envelope import decode_envelope

    if text == "-":
        text = sys.stdin.read()
    return decode_envelope(text.strip().encode("utf-8", "surrogateescape"))


def _exclude(flag: str, others: Mapping[str, object]) -> None:
    from dms.types.errors import BadInput

    for name, value in others.items():
        if value:
            raise BadInput(f"{flag} and {name} exclude each other", hint="the message says it all")


def _print(data: Mapping[str, Any], decision: ToldDecision, ways_out: list[Remedy], form: Format) -> None:
    from dms.cli.decisions import describe
    from dms.cli.output import clean, show

    if form is not Format.TABLE:
        show({"decision": data, "remedies": [{"what": r.what, "command": r.command} for r in ways_out]}, form)
        return
    lines = describe(decision)
    if ways_out:
        lines.append("To mend it:")
    for remedy in ways_out:
        lines += [f"  # {remedy.what}", f"  {remedy.command}"]
    for line in lines:
        print(" " * (len(line) - len(line.lstrip())) + clean(line.strip()))
