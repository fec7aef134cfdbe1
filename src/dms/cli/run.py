"""``nunet run``: the daemon (``spec/platform.md`` 2.2)."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Annotated

import typer

GC_THRESHOLD = 2_000
"""Objects between two looks for garbage, once the code is loaded and some of them are garbage."""


def run(
    ctx: typer.Context,
    context: Annotated[
        str,
        typer.Option("-c", "--context", metavar="NAME", help="Key and capabilities of the node; made when missing."),
    ] = "dms",
    pid_file: Annotated[
        Path | None, typer.Option("--pid-file", metavar="FILE", help="Keep the id of the process there while it runs.")
    ] = None,
) -> None:
    """Run the node until it is interrupted.

    The passphrase of its key comes from DMS_PASSPHRASE, from systemd's credential "passphrase", or is asked for.
    SIGINT and SIGTERM stop in order; a second one stops at once.

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
    os.environ.pop("DMS_PASSPHRASE", None)  # what the node starts need not know it
    if settings.flat_keys and settings.source is not None:
        _migrate(settings.source)

    from dms.daemon import process

    gc.freeze()  # what was loaded stays as long as the node runs, and need not be looked through again
    gc.set_threshold(GC_THRESHOLD)
    process.run(settings, context, passphrase, pid_path=pid_file)


def _migrate(path: Path) -> None:
    """Move the flat keys of release 0.5 in a configuration file; one that cannot be written serves as it is."""
    from dms.config import ConfigError, migrate_file

    try:
        kept = migrate_file(path)
    except ConfigError as exc:
        typer.echo(f"old keys stay where they are: {exc.message}", err=True)
        return
    if kept is not None:
        typer.echo(f"old keys in {path} are where they belong now; the file as it was is kept as {kept}", err=True)
