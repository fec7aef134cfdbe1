"""``nunet config``: show and change settings (``spec/platform.md`` 2.3), in the file or of the running node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from pathlib import Path

    from dms.cli.session import Session
    from dms.node.config_payloads import ConfigReply

app = typer.Typer(name="config", help="Show and change the configuration.", no_args_is_help=True)

INDENT = 4
STDIN = "-"
NS_PER_S = 10**9

OptionalKey = Annotated[
    str | None, typer.Argument(help="Dotted key or section, such as rest.port; without one, everything.")
]
Live = Annotated[bool, typer.Option("--live", help="Of the running node, which is asked, instead of the file.")]


@app.command("get")
def get(ctx: typer.Context, key: OptionalKey = None, live: Live = False, context: Context = None) -> None:
    """Print the effective configuration: defaults, file, environment and flags together. Secrets are hidden.

    Examples:
      nunet config get
      nunet config get rest.port
      nunet config get --live deployments.keep
    """
    from dms.cli.session import Session

    session = Session.of(ctx)
    if live:
        typer.echo(_shown(_tree(_ask(session, context, "get", key=key or ""), key)))
        return
    settings = session.settings
    value = settings.as_dict() if key is None else settings.get(key)
    if settings.source is not None:
        typer.echo(f"Found config file at: {settings.source}")
    typer.echo(_shown(value))


@app.command("show")
def show(
    ctx: typer.Context,
    key: OptionalKey = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Tell which file, variable or flag gave each value.")
    ] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a file with every key in comments.")] = False,
    live: Live = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """List settings with their values, and where each comes from. Secrets are hidden.

    Examples:
      nunet config show --origin
      nunet config show --changed --live
      nunet config show --example > dms_config.json
    """
    from dms.cli import output as out
    from dms.cli.session import Session

    if example:
        from dms.config.describe import example as written

        typer.echo(written(), nl=False)
        return
    session = Session.of(ctx)
    rows = _rows_of_node(_ask(session, context, "get", key=key or "")) if live else _rows_here(session, key)
    rows = [row for row in rows if not changed or row["source"] != "default"]
    if output is not Format.TABLE:
        out.show(rows, output)
        return
    with_origin = origin or live
    columns = ("KEY", "VALUE", "ORIGIN") if with_origin else ("KEY", "VALUE")
    out.print_table(columns, [_row(row)[: len(columns)] for row in rows])
    if not live:
        _tell_unknown_variables()


@app.command("set")
def set_(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="Dotted key, such as rest.port.")],
    value: Annotated[
        str, typer.Argument(help="Number, true or false, text, or a JSON list; - reads it from the standard input.")
    ],
    live: Annotated[bool, typer.Option("--live", help="Of the running node, at once, and until it is reset.")] = False,
    context: Context = None,
) -> None:
    """Change one key in the configuration file (made when missing), or of the running node.

    Secrets are not written on the command line, where others can see them: give - and type it, or file:PATH.

    Examples:
      nunet config set rest.port 10000
      nunet config set p2p.listen_address '["/ip4/0.0.0.0/tcp/9100"]'
      nunet config set observability.elastic.api_key -
      nunet config set --live observability.logging.level DEBUG
    """
    from dms.cli.session import Session
    from dms.config import set_key
    from dms.config.keys import known

    name = known(key).name
    text = _given(name, value)
    session = Session.of(ctx)
    if live:
        reply = _ask(session, context, "set", values={name: text})
        _tell_changes(reply)
        return
    path = _file(session)
    kept = set_key(path, name, text)
    typer.echo(f"{key} set in {path}")
    _tell_kept(kept)


@app.command("reset")
def reset(
    ctx: typer.Context,
    keys: Annotated[list[str] | None, typer.Argument(help="Dotted keys; with --live, none means all.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Forget what was set while the node runs.")] = False,
    context: Context = None,
) -> None:
    """Take keys out of the configuration file, or forget what was set at run time: the defaults hold again.

    Examples:
      nunet config reset rest.port
      nunet config reset --live observability.logging.level
      nunet config reset --live
    """
    from dms.cli.session import Session
    from dms.config import unset_key
    from dms.types.errors import BadInput

    session = Session.of(ctx)
    if live:
        _tell_changes(_ask(session, context, "reset", keys=tuple(keys or ())))
        return
    if not keys:
        raise BadInput("which keys?", hint="nunet config reset rest.port")
    path = _file(session)
    for key in keys:
        _tell_kept(unset_key(path, key))
        typer.echo(f"{key} is not set in {path} any more")


@app.command("edit")
def edit(ctx: typer.Context) -> None:
    """Open the configuration file in $EDITOR, and check it afterwards.

    Examples:
      EDITOR=nano nunet config edit
    """
    import os
    import shlex
    import subprocess

    from dms.cli.session import Session
    from dms.config import ConfigError, ConfigUnwritable, load_settings
    from dms.config.describe import example
    from dms.config.file import write_text

    editor = shlex.split(os.environ.get("EDITOR", ""))
    if not editor:
        raise ConfigError("$EDITOR not set", hint="EDITOR=nano nunet config edit")
    path = _file(Session.of(ctx))
    try:
        if not path.exists():
            write_text(path, example())
    except OSError as exc:
        raise ConfigUnwritable(f"cannot write configuration file {path}: {exc.strerror}") from None
    try:
        done = subprocess.run([*editor, str(path)], check=False)
    except OSError as exc:
        raise ConfigError(f"cannot start the editor {editor[0]}: {exc.strerror}", hint="set $EDITOR") from None
    if done.returncode != 0:
        raise ConfigError(f"the editor {editor[0]} ended with code {done.returncode}")
    load_settings(path)


@app.command("init")
def init(ctx: typer.Context) -> None:
    """Write a configuration file with every setting and its default in comments.

    Examples:
      nunet config init
      nunet --config ./dms_config.json config init
    """
    from dms.cli.session import Session
    from dms.config import ConfigUnwritable
    from dms.config.describe import example
    from dms.config.file import write_text
    from dms.types.errors import Conflict

    path = _file(Session.of(ctx))
    if path.exists():
        raise Conflict(f"there is a configuration file already: {path}", hint="nunet config edit opens it")
    try:
        write_text(path, example())
    except OSError as exc:
        raise ConfigUnwritable(f"cannot write configuration file {path}: {exc.strerror}") from None
    typer.echo(f"written: {path}")


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of the configuration file, for editors.

    Examples:
      nunet config schema > ~/.nunet/dms_config.schema.json
    """
    import json

    from dms.config.describe import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@app.command("reload")
def reload(ctx: typer.Context, context: Context = None) -> None:
    """Have the running node read its file again, as SIGHUP does; says what holds now and what needs a restart.

    Examples:
      nunet config reload
    """
    from dms.cli.session import Session

    reply = _ask(Session.of(ctx), context, "reload")
    for setting in reply.settings:
        typer.echo(f"{setting.key} = {_cell(setting.value)}")
    if not reply.settings and not reply.needs_restart:
        typer.echo("nothing has changed")
    if reply.needs_restart:
        typer.echo(f"changed, and in force after a restart: {', '.join(reply.needs_restart)}")


@app.command("history")
def history(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many changes.")] = 20,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell who changed which settings of the running node, newest first.

    Examples:
      nunet config history
      nunet config history --limit 100 --output json
    """
    from datetime import UTC, datetime

    from dms.cli import output as out
    from dms.cli.session import Session
    from dms.types import gojson

    reply = _ask(Session.of(ctx), context, "history", limit=limit)
    if output is not Format.TABLE:
        out.show([gojson.to_builtins(change) for change in reply.changes], output)
        return
    rows = [
        (
            datetime.fromtimestamp(change.at_ns // NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            change.key,
            change.how,
            change.old,
            change.new,
            change.by,
        )
        for change in reply.changes
    ]
    out.print_table(("WHEN (UTC)", "KEY", "HOW", "OLD", "NEW", "BY"), rows)


def _ask(session: Session, context: str | None, behaviour: str, **request: Any) -> ConfigReply:  # its members
    """Ask the running node.

    :raises DMSError: it does not answer, or refuses.
    """
    from dms.cli.client import refused
    from dms.node.config_payloads import CONFIG, ConfigReply

    reply = session.client(context).call(f"{CONFIG}/{behaviour}", request or None, ConfigReply)
    if not reply.ok:
        raise refused(reply.error or "the node gave no reason", reply.hint)
    return reply


def _given(name: str, value: str) -> str:
    """The value as text: as it stands there, from the standard input, or typed unseen.

    :raises BadInput: a secret on the command line.
    """
    import sys

    from dms.cli.prompts import ask_hidden
    from dms.config.keys import keys
    from dms.config.load import holds_secret
    from dms.types.errors import BadInput

    if value == STDIN:
        is_typed = sys.stdin.isatty() and keys()[name].is_secret
        return ask_hidden(f"{name}: ") if is_typed else sys.stdin.readline().rstrip("\r\n")
    if holds_secret(name, value):
        raise BadInput(
            f"{name} is a secret, and the command line is visible to others",
            hint=f"nunet config set {name} - asks for it; file:PATH names a file that holds it",
        )
    return value


def _rows_here(session: Session, key: str | None) -> list[dict[str, Any]]:
    from dms.config.keys import keys, known

    settings, wanted = session.settings, (key or "").lower()
    names = [name for name in keys() if not wanted or name == wanted or name.startswith(f"{wanted}.")]
    if not names:
        known(wanted)
    rows = []
    for name in names:
        origin, value = settings.origin(name), settings.get(name)
        shown = [str(each) for each in value] if isinstance(value, tuple) else value
        plain = shown if isinstance(shown, bool | int | list) else str(shown)
        rows.append({"key": name, "value": plain, "source": origin.source.value, "place": origin.place})
    return rows


def _rows_of_node(reply: ConfigReply) -> list[dict[str, Any]]:
    return [
        {
            "key": each.key,
            "value": each.value,
            "source": each.source,
            "place": each.place,
            "live": each.live,
            "pending": each.pending,
        }
        for each in reply.settings
    ]


def _row(row: dict[str, Any]) -> tuple[str, str, str]:
    origin = f"{row['source']} {row['place']}".rstrip()
    return row["key"], _cell(row["value"]), origin + (", needs a restart" if row.get("pending") else "")


def _tree(reply: ConfigReply, key: str | None) -> object:
    """Settings of a node as ``get`` shows them: one value, or objects in objects."""
    from dms.config.load import nested

    values = {each.key: each.value for each in reply.settings}
    if key is not None and list(values) == [key.lower()]:
        return values[key.lower()]
    tree: Any = nested(values)
    for part in (key or "").lower().split(".") if key else ():
        tree = tree[part]
    return tree


def _tell_changes(reply: ConfigReply) -> None:
    if not reply.changes:
        typer.echo("nothing has changed")
    for change in reply.changes:
        typer.echo(f"{change.key}: {change.old} → {change.new}, in force now")


def _tell_kept(kept: Path | None) -> None:
    if kept is not None:
        typer.echo(f"comments and old keys are not written; the file as it was is kept as {kept}", err=True)


def _tell_unknown_variables() -> None:
    import os

    from dms.config.load import unknown_variables

    for name, meant in unknown_variables(os.environ).items():
        hint = f"; did you mean {meant}?" if meant else ""
        typer.echo(f"the environment variable {name} is no setting{hint}", err=True)


def _cell(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(value: object) -> str:
    import json
    from pathlib import Path

    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value, indent=INDENT, ensure_ascii=False, default=str)


def _file(session: Session) -> Path:
    import os

    from dms.config import file_to_write

    return session.config_file or file_to_write(os.environ)
