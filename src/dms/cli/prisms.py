"""Making a did:prism known, with progress for whoever waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from dms.identity.keys import PublicKey
    from dms.identity.prism.operation import Creation


def submit_operation(url: str, creation: Creation, timeout_s: float) -> None:
    """Hand the operation to the service at ``url``.

    :raises PrismError: the service did not take it.
    """
    import trio

    from dms.identity.prism.creation import submit

    async def run() -> str:
        return await submit(url, creation.signed_operation, timeout_s=timeout_s)

    transaction = trio.run(run)
    typer.echo(f"submitted to {url}, transaction {transaction[:128] or 'unknown'}", err=True)


def wait_for(url: str, creation: Creation, key: PublicKey, timeout_s: float) -> None:
    """Wait until the DID can be resolved; interrupting that leaves it submitted.

    :raises PrismError: it was not known in time.
    """
    import trio

    from dms.identity.prism.creation import wait_until_resolved

    async def run() -> None:
        await wait_until_resolved(url, creation.did, key, timeout_s=timeout_s)

    typer.echo(f"waiting until it can be resolved, {timeout_s:g} s at most; Ctrl-C leaves it to itself", err=True)
    trio.run(run)
    typer.echo("it can be resolved", err=True)
