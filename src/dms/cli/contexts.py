"""Making a capability context, with the key or the wallet that signs for it (``spec/security.md`` 4.5, 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from dms.identity.trust import Provider

CHECK_TIMEOUT_S = 15.0


def make_context(ctx: typer.Context, name: str, *, force: bool, prism_url: str | None) -> None:
    """Write an empty context for ``name``; a key is made where there is none.

    :raises Cancelled: there is a context already, and it is to stay.
    """
    from dms.capability.context import CapabilityContext
    from dms.capability.store import save_context
    from dms.cli.identity import context_file
    from dms.cli.prompts import confirm
    from dms.identity.trust import TrustContext

    path = context_file(ctx, name)
    if path.exists() and not force:
        confirm(
            f"WARNING: A capability context file already exists at {path}. "
            "Creating a new one will overwrite the existing context. Do you want to proceed?"
        )
    provider = _provider(ctx, name)
    check_prism(ctx, provider, prism_url)
    save_context(CapabilityContext(name, provider.did, TrustContext(provider)), path)


def check_prism(ctx: typer.Context, provider: Provider, url: str | None) -> None:
    """Where ``provider`` signs for a did:prism: see whether that has its key. It may be known only later, so not being
    able to tell is a warning, unless ``url`` says whom to ask.

    :raises InvalidKey: it has another key.
    :raises UnresolvedDID: ``url`` does not know it.
    """
    from dms.cli.session import Session
    from dms.identity.errors import InvalidKey, NoResolver, UnresolvedDID
    from dms.identity.ids import PRISM_METHOD
    from dms.identity.prism.resolver import PrismResolver

    did = provider.did
    if did.method != PRISM_METHOD:
        return
    import trio

    from dms.identity.resolution import FetchedKeys

    given = url or Session.of(ctx).settings.identity.prism_resolver_url
    keys = FetchedKeys(PrismResolver(given) if given else None, lambda: 0.0)
    try:
        key = trio.run(keys.fetch, did, CHECK_TIMEOUT_S)
    except UnresolvedDID as exc:
        if url:
            raise
        hint = f" ({exc.hint})" if isinstance(exc, NoResolver) else ""
        typer.echo(f"warning: not checked whether {did} has this key: {exc.message}{hint}", err=True)
        return
    if key != provider.anchor.public_key:
        raise InvalidKey(f"invalid key: {did} has another key", hint="import the key that it has now")


def _provider(ctx: typer.Context, name: str) -> Provider:
    from dms.cli.identity import open_keystore, open_provider
    from dms.cli.keys import keep_key
    from dms.identity.keys import generate_key
    from dms.identity.trust import Provider
    from dms.identity.wallets.names import ContextName

    parsed = ContextName.parse(name)
    if parsed.is_wallet:
        typer.echo(f"Using the {parsed.signer} wallet for '{name}' context...")
        return open_provider(ctx, name)
    keystore = open_keystore(ctx)
    if keystore.exists(name):
        typer.echo(f"Using identity at {keystore.path(name)}...")
        return open_provider(ctx, name)
    typer.echo(f"A new identity will be created for '{name}' context...")
    key = generate_key()
    keep_key(ctx, name, key)
    return Provider.of_key(key)
