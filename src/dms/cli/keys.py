"""What the commands of ``nunet key`` do with keys: read, keep, show, list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dms.cli.options import Format
from dms.cli.output import print_table, show

if TYPE_CHECKING:
    from dms.identity.ids import DID
    from dms.identity.keys import KeyType, PrivateKey
    from dms.identity.trust import Anchor

MAX_HEX_CHARS = 1024
STDIN = "-"


def read_private_key(name: str, given: str | None, bare: KeyType) -> PrivateKey:
    """A private key in hexadecimal: as given, from stdin for ``-``, or asked for without an echo.

    :raises InvalidKey: it is none.
    """
    from dms.identity.errors import InvalidKey
    from dms.identity.keys import private_key_from_import

    text = _secret_text(name, given).strip().removeprefix("0x")
    try:
        data = bytes.fromhex(text if len(text) <= MAX_HEX_CHARS else "-")
    except ValueError:
        raise InvalidKey("invalid key: it is not hexadecimal", hint="neither quotes nor other text around it") from None
    return private_key_from_import(data, bare)


def check_new(ctx: typer.Context, name: str) -> None:
    """Ask before a key of this name is overwritten.

    :raises Cancelled: it is to stay.
    :raises BadName: a key cannot have this name.
    """
    from dms.cli.identity import open_keystore
    from dms.cli.prompts import confirm
    from dms.identity.errors import BadName
    from dms.identity.wallets.names import ContextName

    if ContextName.parse(name).is_wallet:
        raise BadName(f"The name {name!r} cannot be used.", hint="it means a wallet; give the key another name")
    if open_keystore(ctx).exists(name):
        confirm(f"A key with name '{name}' already exists. Do you want to overwrite it with a new one?")


def store_key(ctx: typer.Context, name: str, key: PrivateKey, output: Format, owner: DID | None = None) -> None:
    """Keep a key and print its DID, which is ``owner`` where that is given.

    :raises Cancelled: there is one of this name, and it is to stay.
    """
    from dms.cli.session import Session
    from dms.identity.prism.associations import PrismAssociations
    from dms.identity.trust import Provider

    check_new(ctx, name)
    keep_key(ctx, name, key)
    if owner is not None:
        PrismAssociations(Session.of(ctx).user_dir).set(name, owner)
    show_key(name, Provider.of_key(key, owner).anchor, output)


def keep_key(ctx: typer.Context, name: str, key: PrivateKey) -> None:
    """Encrypt and write a key with a new passphrase. A did:prism of the key that it replaces is not its own."""
    from dms.cli.identity import open_keystore
    from dms.cli.prompts import ask_passphrase
    from dms.cli.session import Session
    from dms.identity.prism.associations import PrismAssociations

    open_keystore(ctx).save(name, key, ask_passphrase(new=True))
    PrismAssociations(Session.of(ctx).user_dir).remove(name)


def show_key(name: str, anchor: Anchor, output: Format) -> None:
    """Print a DID alone, or with what belongs to it."""
    from dms.identity.ids import did_of

    if output is Format.TABLE:
        typer.echo(str(anchor.did))
        return
    kind = anchor.public_key.type.name.lower()
    show({"name": name, "did": anchor.did.uri, "type": kind, "key": did_of(anchor.public_key).uri}, output)


def list_keys(ctx: typer.Context, output: Format) -> None:
    """Print every key and every named account, with the DID where it is known without opening anything."""
    from dms.cli.identity import open_keystore
    from dms.cli.session import Session
    from dms.identity.prism.associations import PrismAssociations
    from dms.identity.wallets.aliases import LedgerAliases

    user_dir = Session.of(ctx).user_dir
    prisms = PrismAssociations(user_dir).all()
    entries = [
        {"name": name, "signer": "key", "did": str(prisms.get(name) or _known_did(ctx, name) or "")}
        for name in open_keystore(ctx).names()
    ]
    for alias, account in sorted(LedgerAliases(user_dir).all().items()):
        name = f"ledger:{alias}"
        did = str(_known_did(ctx, name) or "")
        entries.append({"name": name, "signer": f"ledger account {account}", "did": did})
    if output is not Format.TABLE:
        show(entries, output)
        return
    print_table(("NAME", "SIGNER", "DID"), [tuple(entry.values()) for entry in entries])


def _known_did(ctx: typer.Context, name: str) -> DID | None:
    from dms.cli.identity import context_file, owner_of
    from dms.identity.errors import BadName

    try:
        return owner_of(context_file(ctx, name))
    except BadName:  # a file that another program put there
        return None


def _secret_text(name: str, given: str | None) -> str:
    import sys

    if given is not None and given != STDIN:
        typer.echo(
            "warning: other users and the history of the shell can see the key in the arguments; "
            f"leave it out to be asked, or give - to read it from stdin: nunet key import {name} -",
            err=True,
        )
        return given
    if given is None and sys.stdin.isatty():
        from dms.cli.prompts import ask_hidden

        return ask_hidden("Private key, hexadecimal: ")
    return sys.stdin.readline(MAX_HEX_CHARS + 4)
