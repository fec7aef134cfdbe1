"""``nunet network``: what a network of one's own needs. No node is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Format, Output

if TYPE_CHECKING:
    from dms.network.swarm_key import SwarmKey

app = typer.Typer(name="network", help="Make what a network of your own needs.", no_args_is_help=True)
keys = typer.Typer(
    name="key",
    help="The key that all nodes of a private network share; who lacks it cannot connect.",
    no_args_is_help=True,
)
app.add_typer(keys)

DEFAULT_FILE = "swarm.key"
"""In ``general.user_dir``, unless ``p2p.swarm_key_file`` says otherwise."""

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="Else p2p.swarm_key_file, or swarm.key in general.user_dir.")
]


@keys.command("new")
def new(ctx: typer.Context, file: File = None, output: Output = Format.TABLE) -> None:
    """Draw a key and write it to a file that only you can read. A file that is there is never replaced.

    Bring the file to every machine of the network, over a way that nobody listens to, and set p2p.swarm_key_file there.
    Other libp2p programs read the same file.

    Examples:
      nunet network key new
      nunet network key new ~/consortium.key
    """
    from dms.cli.session import Session
    from dms.identity.files import make_private_directory
    from dms.network.swarm_key import new_swarm_key
    from dms.network.swarm_key_file import write_swarm_key

    path, key = _where(ctx, file), new_swarm_key()
    if path.parent == (home := Session.of(ctx).user_dir):
        make_private_directory(home)
    write_swarm_key(path, key)
    _show(path, key, output)


@keys.command("show")
def show_(ctx: typer.Context, file: File = None, output: Output = Format.TABLE) -> None:
    """Print the fingerprint of a key, by which two machines compare theirs; the key itself is not shown.

    Examples:
      nunet network key show
      nunet network key show ~/consortium.key --output json
    """
    from dms.network.swarm_key_file import read_swarm_key

    path = _where(ctx, file)
    _show(path, read_swarm_key(path), output)


def _where(ctx: typer.Context, file: Path | None) -> Path:
    from dms.cli.session import Session

    if file is not None:
        return file.absolute()
    session = Session.of(ctx)
    return Path(session.settings.p2p.swarm_key_file or session.user_dir / DEFAULT_FILE)


def _show(path: Path, key: SwarmKey, output: Format) -> None:
    if output is Format.TABLE:
        print(f"{key.fingerprint}  {path}")
        return
    from dms.cli.output import show

    show({"fingerprint": key.fingerprint, "file": str(path)}, output)
