"""``nunet config``: show and change settings (``spec/platform.md`` 2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer(name="config", help="Show and change the configuration.", no_args_is_help=True)

INDENT = 4


@app.command("get")
def get(
    ctx: typer.Context,
    key: Annotated[str | None, typer.Argument(help="Dotted key, such as rest.port; without one, everything.")] = None,
) -> None:
    """Print the effective configuration: defaults, file, environment and flags together.

    Examples:
      nunet config get
      nunet config get rest.port
    """
    from dms.config import load_settings

    settings = load_settings(_config_flag(ctx))
    value = settings.as_dict() if key is None else settings.get(key)
    if settings.source is not None:
        typer.echo(f"Found config file at: {settings.source}")
    typer.echo(_shown(value))


@app.command("set")
def set_(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="Dotted key, such as rest.port.")],
    value: Annotated[str, typer.Argument(help="Number, true or false, text, or a JSON list.")],
) -> None:
    """Change one key in the configuration file; the file is made when missing.

    Examples:
      nunet config set rest.port 10000
      nunet config set p2p.listen_address '["/ip4/0.0.0.0/tcp/9100"]'
    """
    from dms.config import set_key

    path = _file(ctx)
    kept = set_key(path, key, value)
    typer.echo(f"{key} set in {path}")
    if kept is not None:
        typer.echo(f"comments are not written; the file as it was is kept as {kept}", err=True)


@app.command("edit")
def edit(ctx: typer.Context) -> None:
    """Open the configuration file in $EDITOR, and check it afterwards.

    Examples:
      EDITOR=nano nunet config edit
    """
    import os
    import shlex
    import subprocess

    from dms.config import ConfigError, load_settings
    from dms.config.file import write_document

    editor = shlex.split(os.environ.get("EDITOR", ""))
    if not editor:
        raise ConfigError("$EDITOR not set", hint="EDITOR=nano nunet config edit")
    path = _file(ctx)
    if not path.exists():
        write_document(path, {})
    try:
        done = subprocess.run([*editor, str(path)], check=False)
    except OSError as exc:
        raise ConfigError(f"cannot start the editor {editor[0]}: {exc.strerror}", hint="set $EDITOR") from None
    if done.returncode != 0:
        raise ConfigError(f"the editor {editor[0]} ended with code {done.returncode}")
    load_settings(path)


def _shown(value: object) -> str:
    import json
    from pathlib import Path

    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value, indent=INDENT, ensure_ascii=False)


def _config_flag(ctx: typer.Context) -> Path | None:
    """The file that the global flags name: ``--config``, or that of the node which ``--network`` addresses."""
    from dms.cli.session import Session

    return Session.of(ctx).config_file


def _file(ctx: typer.Context) -> Path:
    import os

    from dms.config import file_to_write

    return _config_flag(ctx) or file_to_write(os.environ)
