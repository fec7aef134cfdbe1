"""``nunet key``: make keys, take them over, show their DIDs (``spec/security.md`` 6.1)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Format

if TYPE_CHECKING:
    from dms.identity.keys import KeyType

app = typer.Typer(name="key", help="Make keys, take them over, show their DIDs.", no_args_is_help=True)
aliases = typer.Typer(name="ledger-alias", help="Name the accounts of a Ledger device.", no_args_is_help=True)
app.add_typer(aliases)

DEFAULT_PRISM_URL = "http://localhost:8080"


class Kind(StrEnum):
    """Kinds of keys that the keystore holds."""

    ED25519 = "ed25519"
    SECP256K1 = "secp256k1"

    def key_type(self) -> KeyType:
        """As the identities know it."""
        from dms.identity.keys import KeyType

        return KeyType[self.name]


Name = Annotated[str, typer.Argument(help="Name of the key; a capability context of the same name uses it.")]
Output = Annotated[Format, typer.Option("-o", "--output", help="Format of the result.")]
Hex = Annotated[
    str | None,
    typer.Argument(
        metavar="[HEX]",
        help="The private key in hexadecimal; - reads it from stdin. Leave it out to be asked: arguments are visible "
        "to other users and stay in the history of the shell.",
    ),
]
BareKind = Annotated[Kind, typer.Option("--key-type", help="What 32 bytes without a description are.")]
PrismUrl = Annotated[
    str | None, typer.Option("--prism-url", metavar="URL", help="Service that knows did:prism identities.")
]


@app.command("new")
def new(ctx: typer.Context, name: Name, output: Output = Format.TABLE) -> None:
    """Make an Ed25519 key, encrypt it with a passphrase, and print its DID.

    The passphrase comes from DMS_PASSPHRASE, or is asked for twice.

    Examples:
      nunet key new user
      DMS_PASSPHRASE=… nunet key new dms
    """
    from dms.cli.keys import store_key
    from dms.identity.keys import generate_key

    store_key(ctx, name, generate_key(), output)


@app.command("did")
def did(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a key, ledger, ledger:N, ledger:ALIAS or eternl.")],
    output: Output = Format.TABLE,
) -> None:
    """Print the DID of a key or a wallet. The passphrase of a key is needed, for its public half is encrypted as well.

    Examples:
      nunet key did user
      nunet key did ledger:savings
    """
    from dms.cli.identity import open_provider
    from dms.cli.keys import show_key

    show_key(name, open_provider(ctx, name).anchor, output)


@app.command("import")
def import_(
    ctx: typer.Context, name: Name, hex_: Hex = None, kind: BareKind = Kind.ED25519, output: Output = Format.TABLE
) -> None:
    """Store a private key from elsewhere and print its DID.

    It is serialised as libp2p does, or bare: 32 bytes of seed (or scalar), or 64 bytes of Ed25519 seed and public key.

    Examples:
      nunet key import user
      nunet key import user - < key.hex
    """
    from dms.cli.keys import read_private_key, store_key

    store_key(ctx, name, read_private_key(name, hex_, kind.key_type()), output)


@app.command("import-prism")
def import_prism(
    ctx: typer.Context,
    name: Name,
    did: Annotated[str, typer.Argument(metavar="DID", help="The did:prism that has this key.")],
    hex_: Hex = None,
    kind: BareKind = Kind.SECP256K1,
    prism_url: PrismUrl = None,
    output: Output = Format.TABLE,
) -> None:
    """Store the private key of a did:prism, which the context of the same name then uses.

    Examples:
      nunet key import-prism user did:prism:4f3a…
      nunet key import-prism user did:prism:4f3a… - --prism-url https://resolver.example.org < key.hex
    """
    from dms.cli.contexts import check_prism
    from dms.cli.keys import read_private_key, store_key
    from dms.identity.prism.associations import parse_prism_did
    from dms.identity.trust import Provider

    owner = parse_prism_did(did)
    key = read_private_key(name, hex_, kind.key_type())
    check_prism(ctx, Provider.of_key(key, owner), prism_url)
    store_key(ctx, name, key, output, owner)


@app.command("create-prism")
def create_prism(
    ctx: typer.Context,
    name: Name,
    prism_url: PrismUrl = None,
    kind: Annotated[Kind, typer.Option("--key-type", help="Kind of the key.")] = Kind.SECP256K1,
    wait: Annotated[
        bool, typer.Option("--wait-confirmation/--no-wait-confirmation", help="Wait until the DID can be resolved.")
    ] = True,
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for that.")] = "20m",
    submission_timeout: Annotated[
        str, typer.Option("--submission-timeout", metavar="DURATION", help="How long the service may take to accept.")
    ] = "2m",
    output: Output = Format.TABLE,
) -> None:
    """Make a key and a did:prism for it, submit the DID to a service, and print it.

    The key is kept whatever the service says. Without --prism-url the configured resolver is asked, or
    http://localhost:8080.

    Examples:
      nunet key create-prism user
      nunet key create-prism user --prism-url https://prism.example.org --key-type ed25519 --timeout 5m
    """
    from dms.cli.keys import check_new, keep_key, show_key
    from dms.cli.prisms import submit_operation, wait_for
    from dms.cli.session import Session
    from dms.identity.keys import generate_key
    from dms.identity.prism.associations import PrismAssociations
    from dms.identity.prism.operation import create_did
    from dms.identity.trust import Provider
    from dms.types.units import parse_duration_ns

    timeout_s = parse_duration_ns(timeout, what="timeout") / 1e9
    submission_timeout_s = parse_duration_ns(submission_timeout, what="submission timeout") / 1e9
    url = prism_url or Session.of(ctx).settings.identity.prism_resolver_url or DEFAULT_PRISM_URL
    check_new(ctx, name)
    key = generate_key(kind.key_type())
    creation = create_did(key)
    keep_key(ctx, name, key)
    submit_operation(url, creation, submission_timeout_s)
    PrismAssociations(Session.of(ctx).user_dir).set(name, creation.did)
    show_key(name, Provider.of_key(key, creation.did).anchor, output)
    if wait:
        wait_for(url, creation, key.public, timeout_s)


@app.command("list")
def list_(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """Show the keys of the keystore and the named accounts of a Ledger device. No passphrase is needed.

    DIDs are those that the capability contexts name; a key without a context keeps its own until it is opened.

    Examples:
      nunet key list
      nunet key list --output json
    """
    from dms.cli.keys import list_keys

    list_keys(ctx, output)


@aliases.command("set")
def set_alias(
    ctx: typer.Context,
    alias: Annotated[str, typer.Argument(help="The name; no colon, and not a number.")],
    index: Annotated[str, typer.Argument(help="Number of the account, from 0.")],
) -> None:
    """Name an account, so that the context ledger:ALIAS is signed by it.

    Examples:
      nunet key ledger-alias set savings 3
    """
    from dms.cli.session import Session
    from dms.identity.wallets.aliases import LedgerAliases, parse_index

    account = parse_index(index)
    LedgerAliases(Session.of(ctx).user_dir).set(alias, account)
    typer.echo(f'Alias "{alias}" → account {account} saved')
