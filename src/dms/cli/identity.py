"""Where a user's keys and capability contexts lie, who signs for them, and how commands open them.

A context name says who signs (``spec/security.md`` 4.5): a key of the keystore, which may sign for a did:prism, or a
wallet.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from dms.capability.context import CapabilityContext
    from dms.identity.ids import DID
    from dms.identity.keys import PrivateKey
    from dms.identity.keystore import Keystore
    from dms.identity.trust import Provider, TrustContext


def open_keystore(ctx: typer.Context) -> Keystore:
    """The user's keystore."""
    from dms.cli.session import Session
    from dms.identity.keystore import Keystore

    return Keystore(Session.of(ctx).user_dir / "key", warn=lambda text: typer.echo(f"warning: {text}", err=True))


def context_file(ctx: typer.Context, name: str) -> Path:
    """The file of a capability context: the one that is there, else where it is to be made.

    The file of a wallet's context may have two names, of which the shorter may belong to another context.

    :raises BadName: the name cannot be a file name.
    """
    from dms.capability.store import context_path
    from dms.cli.session import Session
    from dms.identity.wallets.names import ContextName

    parsed = ContextName.parse(name)
    directory = Session.of(ctx).user_dir / "cap"
    short, *longer = (context_path(directory, file_name) for file_name in parsed.file_names)
    for path in (*longer, short):
        owner = owner_of(path)
        if path.exists() and (owner is None or parsed.could_own(owner)):
            return path
    return longer[0] if longer and short.exists() else short


def owner_of(path: Path) -> DID | None:
    """The DID that a context file names; ``None`` when there is no such file, or it is damaged."""
    import msgspec

    from dms.capability.store import MAX_FILE_BYTES
    from dms.identity.errors import InvalidDID
    from dms.identity.ids import DID

    try:
        with path.open("rb") as file:
            content = msgspec.json.decode(file.read(MAX_FILE_BYTES))
        named = {name.lower(): value for name, value in content.items()}["did"]
        return DID.parse(named["uri"])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    except (AttributeError, KeyError, TypeError, InvalidDID):  # not the shape of a context
        return None


def unlock(ctx: typer.Context, name: str) -> PrivateKey:
    """A private key; asks for its passphrase where the environment has none.

    :raises KeyNotFound: there is none of this name.
    :raises WrongPassphrase: it does not open the key.
    """
    from dms.cli.session import Session
    from dms.identity.errors import KeyNotFound

    keystore = open_keystore(ctx)
    if not keystore.exists(name):  # before anybody types a passphrase
        raise KeyNotFound(f"key not found on this node: '{name}'", hint=f"create it with `nunet key new {name}`")
    return keystore.get(name, Session.of(ctx).passphrase())


def open_provider(ctx: typer.Context, name: str) -> Provider:
    """Who signs for a context name: a wallet, or a key of the keystore for its did:key or did:prism.

    :raises WalletError: the wallet cannot be used.
    :raises KeyNotFound: there is no key of this name.
    """
    from dms.cli.session import Session
    from dms.identity.prism.associations import PrismAssociations
    from dms.identity.trust import Provider
    from dms.identity.wallets.names import ContextName, Signer

    parsed = ContextName.parse(name)
    user_dir = Session.of(ctx).user_dir
    if parsed.signer is Signer.LEDGER:
        from dms.identity.wallets.aliases import LedgerAliases
        from dms.identity.wallets.ledger import LedgerProvider

        return LedgerProvider(LedgerAliases(user_dir).account(parsed.part))
    if parsed.signer is Signer.ETERNL:
        from dms.identity.wallets.eternl import EternlProvider

        return EternlProvider()
    return Provider.of_key(unlock(ctx, name), PrismAssociations(user_dir).get(name))


def trust_for(ctx: typer.Context, *texts: bytes, providers: tuple[Provider, ...] = ()) -> TrustContext:
    """A trust context that knows the keys of the DIDs in ``texts``, tokens or the content of a context file, as far as
    they can be fetched from the configured resolver."""
    from dms.identity.trust import TrustContext, fetched_dids_in

    text = b"\n".join(texts)
    if not fetched_dids_in(text):
        return TrustContext(*providers)
    from concurrent.futures import ThreadPoolExecutor

    import trio

    from dms.cli.session import Session
    from dms.identity.prism.resolver import PrismResolver

    url = Session.of(ctx).settings.identity.prism_resolver_url
    trust = TrustContext(*providers, resolver=PrismResolver(url) if url else None)
    with ThreadPoolExecutor(1) as elsewhere:  # a command may be inside of trio already
        elsewhere.submit(lambda: trio.run(trust.resolve_mentioned, text)).result()
    return trust


def trust_of_file(ctx: typer.Context, path: Path, *texts: str) -> TrustContext:
    """A trust context for reading or changing a context file without signing, with ``texts`` that are to be added."""
    import contextlib

    from dms.capability.store import MAX_FILE_BYTES

    content = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES)
    return trust_for(ctx, content, *(text.encode("utf-8", "surrogateescape") for text in texts))


def open_context(ctx: typer.Context, name: str) -> CapabilityContext:
    """A capability context that can sign; reports what its file holds and cannot be used.

    :raises ContextNotFound: there is none of this name.
    :raises NoProvider: it belongs to another key, or another wallet, than the one that is there.
    """
    from dms.capability.errors import ContextNotFound
    from dms.capability.store import MAX_FILE_BYTES, load_context
    from dms.identity.errors import NoProvider

    path = context_file(ctx, name)
    try:
        with path.open("rb") as file:  # before anybody types a passphrase
            text = file.read(MAX_FILE_BYTES)
    except OSError:
        raise ContextNotFound(
            f"unable to open capability context file {path}", hint=f"create the context with `nunet cap new {name}`"
        ) from None
    provider, owner = open_provider(ctx, name), owner_of(path)
    if owner and owner != provider.did:
        raise NoProvider(
            f"no provider for {owner}, whose context '{name}' is: its signer is now {provider.did}",
            hint="connect the wallet, or restore the key, that the context was made with; "
            f"or begin anew with `nunet cap new {name}`",
        )
    trust = trust_for(ctx, text, providers=(provider,))
    context = load_context(path, trust, name=name)
    report_problems(context)
    return context


def report_problems(context: CapabilityContext) -> None:
    """Tell on stderr what a context file held that cannot be used."""
    for problem in context.load_problems:
        typer.echo(f"warning: context '{context.name}': skipped {problem}", err=True)
