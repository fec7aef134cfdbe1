"""``nunet cap``: capability contexts, anchors and tokens (``spec/security.md`` 6.2)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.broadcast import broadcast
from dms.cli.explain import explain
from dms.cli.tokens import (
    exactly_one,
    parse_caps,
    parse_did,
    parse_expiry_ns,
    parse_token,
    parse_token_list,
    split,
)

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer(name="cap", help="Say whom to trust, and give capabilities to others.", no_args_is_help=True)


UPTAKE_TIMEOUT_S = 5.0


class Output(StrEnum):
    """Forms of a listing."""

    TABLE = "table"
    JSON = "json"


Context = Annotated[str, typer.Option("--context", "-c", help="Name of the capability context.")]
Audience = Annotated[str, typer.Option("--audience", "-a", help="DID at which it may be used; empty is anywhere.")]
Caps = Annotated[list[str] | None, typer.Option("--cap", help="Capability path; repeat it or separate by commas.")]
Topics = Annotated[
    list[str] | None, typer.Option("--topic", "-t", help="Broadcast topic; repeat it or separate by commas.")
]
Expiry = Annotated[
    str, typer.Option("--expiry", "-e", help="When it ends, such as 2030-12-31 or 2030-12-31T18:00:00Z.")
]
Duration = Annotated[str, typer.Option("--duration", help="How long it lasts, such as 90s, 12h or 30d.")]
Depth = Annotated[int, typer.Option("--depth", "-d", min=0, help="How often it may be passed on; 0 is any number.")]
Root = Annotated[str | None, typer.Option("--root", help="DID that is trusted fully.")]


@app.command("new")
def new(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(help="Name of the context and of its key; or ledger, ledger:N, ledger:ALIAS, eternl:NAME.")
    ],
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing context without asking.")] = False,
    prism_url: Annotated[
        str | None, typer.Option("--prism-url", metavar="URL", help="Service that must know the key's did:prism.")
    ] = None,
) -> None:
    """Make an empty capability context, and a key of the same name where there is none.

    Examples:
      nunet cap new user
      nunet cap new dms --force
      nunet cap new ledger:savings
    """
    from dms.cli.contexts import make_context

    make_context(ctx, name, force=force, prism_url=prism_url)


@app.command("grant")
def grant(
    ctx: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="DID", help="Who receives the capabilities.")],
    context: Context,
    cap: Caps = None,
    topic: Topics = None,
    audience: Audience = "",
    expiry: Expiry = "",
    duration: Duration = "",
    depth: Depth = 0,
) -> None:
    """Print a token list that gives capabilities on your own authority; it counts where you are trusted.

    Examples:
      nunet cap grant --context user --cap /dms/deployment --topic /nunet --expiry 2030-12-31 did:key:z6Mk…
      nunet cap grant -c dms --cap /public,/broadcast --duration 720h --depth 1 did:key:z6Mk…
    """
    from dms.capability.token import Action, encode_token_list
    from dms.cli.identity import open_context

    who, where = parse_did(subject, "subject"), parse_did(audience, "audience", optional=True)
    expiry_ns = parse_expiry_ns(expiry, duration)
    opened = open_context(ctx, context)
    tokens = opened.grant(Action.DELEGATE, who, where, split(topic), expiry_ns, depth, parse_caps(cap))
    typer.echo(encode_token_list(tokens))


@app.command("delegate")
def delegate(
    ctx: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="DID", help="Who receives the capabilities.")],
    context: Context,
    cap: Caps = None,
    topic: Topics = None,
    audience: Audience = "",
    expiry: Expiry = "",
    duration: Duration = "",
    auto_expire: Annotated[bool, typer.Option("--auto-expire", help="End when that which is passed on ends.")] = False,
    depth: Depth = 0,
    self_sign: Annotated[
        str, typer.Option("--self-sign", help="no, also, only: a token on your own authority beside or instead.")
    ] = "no",
) -> None:
    """Print a token list that passes on what the provide anchors of the context allow.

    Examples:
      nunet cap delegate --context user --cap /dms/deployment --topic /nunet --expiry 2030-12-31 did:key:z6Mk…
      nunet cap delegate -c user --cap /public --auto-expire did:key:z6Mk…
    """
    from dms.capability.context import SelfSign
    from dms.capability.token import encode_token_list
    from dms.cli.identity import open_context
    from dms.types.errors import BadInput

    who, where = parse_did(subject, "subject"), parse_did(audience, "audience", optional=True)
    mode = SelfSign.parse(self_sign)
    if auto_expire and (expiry or duration or mode is not SelfSign.NO):
        raise BadInput("--auto-expire excludes --expiry, --duration and --self-sign")
    expiry_ns = 0 if auto_expire else parse_expiry_ns(expiry, duration)
    opened = open_context(ctx, context)
    tokens = opened.delegate(who, where, split(topic), expiry_ns, depth, parse_caps(cap), mode)
    typer.echo(encode_token_list(tokens))


@app.command("anchor")
def anchor(
    ctx: typer.Context,
    context: Context,
    root: Root = None,
    require: Annotated[
        str | None, typer.Option("--require", help="Token list to accept authority by, as `cap grant` prints it.")
    ] = None,
    provide: Annotated[
        str | None, typer.Option("--provide", help="Token list received from others, to show in messages.")
    ] = None,
    revoke: Annotated[str | None, typer.Option("--revoke", help="Revocation token, as `cap revoke` prints it.")] = None,
) -> None:
    """Add one root of trust, or the tokens of one list, to a context. No passphrase is needed.

    A node that runs with this context takes it up at once; the command waits for that and says so.

    Examples:
      nunet cap anchor --context dms --root did:key:z6Mk…
      nunet cap anchor --context dms --require "$(nunet cap grant …)"
      nunet cap anchor --context user --provide '{"tok":[…]}'
    """
    from dms.capability.store import edit_context
    from dms.capability.token import NO_TOKENS, TokenList
    from dms.cli.identity import context_file, report_problems, trust_of_file

    exactly_one(root=root, require=require, provide=provide, revoke=revoke)
    roots = [] if root is None else [parse_did(root, "root")]
    required = NO_TOKENS if require is None else parse_token_list(require, "--require")
    provided = NO_TOKENS if provide is None else parse_token_list(provide, "--provide")
    revoked = NO_TOKENS if revoke is None else TokenList.of(parse_token(revoke, "--revoke"))
    path = context_file(ctx, context)
    trust = trust_of_file(ctx, path, require or "", provide or "", revoke or "")
    with edit_context(path, trust, name=context, need_provider=False) as opened:
        report_problems(opened)
        opened.add_roots(roots, required, provided, revoked)
    _tell_of_uptake(path)


@app.command("remove")
def remove(
    ctx: typer.Context,
    context: Context,
    root: Root = None,
    require: Annotated[str | None, typer.Option("--require", help="One token, as `cap list` prints it.")] = None,
    provide: Annotated[str | None, typer.Option("--provide", help="One token, as `cap list` prints it.")] = None,
    revoke: Annotated[str | None, typer.Option("--revoke", help="One token, as `cap list` prints it.")] = None,
) -> None:
    """Remove one anchor from a context. No passphrase is needed. A node that runs with it takes that up at once.

    Examples:
      nunet cap remove --context dms --root did:key:z6Mk…
      nunet cap remove --context dms --require '{"dms":{…}}'
    """
    from dms.capability.store import edit_context
    from dms.capability.token import NO_TOKENS, TokenList
    from dms.cli.identity import context_file, report_problems, trust_of_file
    from dms.types.errors import NotFound

    exactly_one(root=root, require=require, provide=provide, revoke=revoke)
    roots = [] if root is None else [parse_did(root, "root")]
    required = NO_TOKENS if require is None else TokenList.of(parse_token(require, "--require"))
    provided = NO_TOKENS if provide is None else TokenList.of(parse_token(provide, "--provide"))
    revoked = NO_TOKENS if revoke is None else TokenList.of(parse_token(revoke, "--revoke"))
    path = context_file(ctx, context)
    trust = trust_of_file(ctx, path)
    with edit_context(path, trust, name=context, need_provider=False) as opened:
        report_problems(opened)
        if not opened.remove_roots(roots, required, provided, revoked):
            raise NotFound(
                f"context '{context}' holds no such anchor", hint=f"see `nunet cap list --context {context}`"
            )
    _tell_of_uptake(path)


@app.command("list")
def list_(
    ctx: typer.Context,
    context: Context = "user",
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the output.")] = Output.TABLE,
) -> None:
    """Show the anchors of a context. No passphrase is needed.

    Examples:
      nunet cap list --context dms
      nunet cap list -c user --output json
    """
    from dms.capability.store import load_context
    from dms.cli.identity import context_file, report_problems, trust_of_file

    path = context_file(ctx, context)
    opened = load_context(path, trust_of_file(ctx, path), name=context, need_provider=False)
    report_problems(opened)
    roots, require, provide, revoke = opened.list_roots()
    parts: dict[str, list[str]] = {
        "require": [str(token) for token in require.tokens],
        "provide": [str(token) for token in provide.tokens],
        "revoke": [str(token) for token in revoke.tokens],
    }
    if output is Output.JSON:
        import json

        lists = {name: [json.loads(text) for text in texts] for name, texts in parts.items()}
        typer.echo(json.dumps({"did": opened.did.uri, "roots": [root.uri for root in roots], **lists}, indent=2))
        return
    for name, entries in {"roots": [root.uri for root in roots], **parts}.items():
        typer.echo(f"{name}:")
        for entry in entries:
            typer.echo(f"\t{entry}")


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    tokens: Annotated[str, typer.Argument(metavar="TOKENS", help="Token list that this context issued.")],
    context: Context,
) -> None:
    """Print revocations of tokens that this context issued, one a line; they take effect where they are anchored.

    Examples:
      nunet cap revoke --context user '{"tok":[…]}'
      nunet cap anchor --context dms --revoke "$(nunet cap revoke --context user '{"tok":[…]}')"
    """
    from dms.cli.identity import open_context

    victims = parse_token_list(tokens, "TOKENS")
    opened = open_context(ctx, context)
    for revocation in [opened.revoke(token) for token in victims.tokens]:
        typer.echo(str(revocation))


@app.command("help")
def help_(
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the output.")] = Output.TABLE,
) -> None:
    """List the behaviours that capabilities can be granted for.

    A capability for a path covers all paths below it: /dms/node covers /dms/node/peers/list, and / covers everything.

    Examples:
      nunet cap help
      nunet cap help --output json
    """
    from dms.cli.behaviours import AMONG_NODES, KNOWN
    from dms.cli.output import as_json, print_table

    rows = sorted((known.name, known.topic, known.help) for known in (*KNOWN, *AMONG_NODES))
    if output is Output.JSON:
        keys = ("behavior", "topic", "help")
        print(as_json([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    print_table(("BEHAVIOR", "TOPIC", "WHAT IT DOES"), rows)


app.command("broadcast")(broadcast)
app.command("explain")(explain)


def _tell_of_uptake(path: Path) -> None:
    """Say on stderr what the node that runs with this context, if there is one, made of the change."""
    from dms.node.holding import Uptake, wait_for_uptake

    match wait_for_uptake(path, timeout_s=UPTAKE_TIMEOUT_S):
        case Uptake.TAKEN_UP:
            typer.echo("The running node has taken this up.", err=True)
        case Uptake.NOT_YET:
            typer.echo("A node runs with this context and has not taken this up yet; its log tells why.", err=True)
        case Uptake.NO_NODE:
            return
