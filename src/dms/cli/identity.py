"""Where a user's keys and capability contexts lie, and how commands open them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from dms.capability.context import CapabilityContext
    from dms.identity.keys import PrivateKey
    from dms.identity.keystore import Keystore
    from dms.identity.trust import TrustContext


def open_keystore(ctx: typer.Context) -> Keystore:
    """The user's keystore."""
    from dms.cli.session import Session
    from dms.identity.keystore import Keystore

    return Keystore(Session.of(ctx).user_dir / "key")


def context_file(ctx: typer.Context, name: str) -> Path:
    """The file of a capability context.

    :raises BadName: the name cannot be a file name.
    """
    from dms.capability.store import context_path
    from dms.cli.session import Session

    return context_path(Session.of(ctx).user_dir / "cap", name)


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


def trust_of(key: PrivateKey) -> TrustContext:
    """A trust context that signs with ``key``."""
    from dms.identity.trust import Provider, TrustContext

    return TrustContext(Provider.of_key(key))


def open_context(ctx: typer.Context, name: str) -> CapabilityContext:
    """A capability context that can sign; reports what its file holds and cannot be used.

    :raises ContextNotFound: there is none of this name.
    """
    from dms.capability.errors import ContextNotFound
    from dms.capability.store import load_context

    path = context_file(ctx, name)
    if not path.exists():  # before anybody types a passphrase
        raise ContextNotFound(
            f"unable to open capability context file {path}", hint=f"create the context with `nunet cap new {name}`"
        )
    context = load_context(path, trust_of(unlock(ctx, name)), name=name)
    report_problems(context)
    return context


def report_problems(context: CapabilityContext) -> None:
    """Tell on stderr what a context file held that cannot be used."""
    for problem in context.load_problems:
        typer.echo(f"warning: context '{context.name}': skipped {problem}", err=True)
