"""``nunet key``: make keys, show their DIDs (``spec/security.md`` 6.1)."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(name="key", help="Make keys and show their DIDs.", no_args_is_help=True)


@app.command("new")
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the key; a capability context of the same name uses it.")],
) -> None:
    """Make an Ed25519 key, encrypt it with a passphrase, and print its DID.

    The passphrase comes from DMS_PASSPHRASE, or is asked for twice.

    Examples:
      nunet key new user
      DMS_PASSPHRASE=… nunet key new dms
    """
    from dms.cli.identity import open_keystore
    from dms.cli.prompts import ask_passphrase, confirm
    from dms.identity.ids import did_of
    from dms.identity.keys import generate_key

    keystore = open_keystore(ctx)
    if keystore.exists(name):
        confirm(f"A key with name '{name}' already exists. Do you want to overwrite it with a new one?")
    key = generate_key()
    keystore.save(name, key, ask_passphrase(new=True))
    typer.echo(str(did_of(key.public)))


@app.command("did")
def did(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the key.")],
) -> None:
    """Print the DID of a key. Its passphrase is needed, for the public half is encrypted as well.

    Examples:
      nunet key did user
    """
    from dms.cli.identity import unlock
    from dms.identity.ids import did_of

    typer.echo(str(did_of(unlock(ctx, name).public)))
