"""``nunet run``: the daemon (``spec/platform.md`` 2.2)."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    ctx: typer.Context,
    context: Annotated[
        str,
        typer.Option("-c", "--context", metavar="NAME", help="Key and capabilities of the node; made when missing."),
    ] = "dms",
) -> None:
    """Run the node until it is interrupted.

    The passphrase of its key comes from DMS_PASSPHRASE, or is asked for.

    Examples:
      nunet run
      DMS_PASSPHRASE=… nunet --config /etc/nunet/dms_config.json run --context dms
    """
    from dms.cli.session import Session
    from dms.identity.wallets.names import check_daemon_context

    check_daemon_context(context)  # before anybody types a passphrase
    session = Session.of(ctx)
    settings = session.settings
    is_new = not (settings.general.user_dir / "key" / f"{context}.json").exists()
    passphrase = session.passphrase(new=is_new)

    from dms import app

    app.run(settings, context, passphrase)
