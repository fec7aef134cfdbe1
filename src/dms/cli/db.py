"""``nunet db``: look at the database of the node, copy it, put a copy back. No node is asked; only a restore needs it stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Format, Output

if TYPE_CHECKING:
    from dms.store import DatabaseURL
    from dms.store.examine import Examination

app = typer.Typer(name="db", help="Check, back up and restore the database.", no_args_is_help=True)

BACKUPS = "backups"
"""In ``general.work_dir``."""

AsJSON = Annotated[bool, typer.Option("--json", help="As --output json.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


@app.command("check")
def check(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A backup; else the database of the node.")] = None,
    json_: AsJSON = False,
    output: Output = Format.TABLE,
) -> None:
    """Read a whole database and tell what is wrong with it; the node may run meanwhile. Nothing is changed.

    Ends with 5 if something is wrong. A backup is compared with its checksum too.

    Examples:
      nunet db check
      nunet db check backups/dms-20300102T030405Z.sqlite --json
    """
    from dms.cli.output import show
    from dms.store.backup import verify
    from dms.store.errors import NoDatabase, StoreCorrupt
    from dms.store.examine import examine

    where = file if file is not None else _where(ctx)
    if isinstance(where, Path) and not where.exists():
        raise NoDatabase(
            f"there is no file {where}", hint="see general.work_dir" if file is None else "look at its name"
        )
    found = verify(where) if isinstance(where, Path) else examine(where)
    if (form := _form(output, json_)) is Format.TABLE:
        _print(found)
    else:
        show(_as_json(found), form)
    if found.problems:
        hint = "" if file is None else "take another backup: nunet db backup"
        raise StoreCorrupt(f"the database {found.database} is not sound: {found.problems[0]}", hint=hint)


@app.command("backup")
def backup(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="Where to; else backups/ in general.work_dir, named by the time.")
    ] = None,
    json_: AsJSON = False,
    output: Output = Format.TABLE,
) -> None:
    """Copy the database, as it is at one moment, into one file; the node may run meanwhile.

    The copy is verified, readable by you only, and never overwrites anything. Its SHA-256 lies beside it.

    Examples:
      nunet db backup
      nunet db backup /mnt/backups/node.sqlite --json
    """
    from dms.cli.output import show
    from dms.store.backup import take
    from dms.types.units import format_bytes

    source = _file(ctx, to="dump")
    made = take(source, file or _default_target(source))
    if (form := _form(output, json_)) is not Format.TABLE:
        show({**_as_json(made.examination), "sha256": made.sha256}, form)
        return
    print(made.path)
    count = sum(made.examination.records.values())
    typer.echo(f"{count} records, {format_bytes(made.examination.size_bytes)}, SHA-256 {made.sha256}", err=True)


@app.command("restore")
def restore(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="The backup.")] = None,
    is_empty: Annotated[bool, typer.Option("--empty", help="No backup: begin anew.")] = False,
    yes: Yes = False,
    json_: AsJSON = False,
    output: Output = Format.TABLE,
) -> None:
    """Put a backup in the place of the database. The node must not run; what is replaced is kept aside.

    A backup that is damaged, changed since, or of a newer release is refused. What happened after the backup was taken
    is forgotten: the node ends work that it finds running and does not know.

    Examples:
      nunet db restore backups/dms-20300102T030405Z.sqlite
      nunet db restore --empty --yes
    """
    from dms.cli.output import show
    from dms.cli.prompts import confirm
    from dms.store import backup as backups
    from dms.types.errors import BadInput

    if (file is None) != is_empty:
        raise BadInput("say what to restore: a backup, or --empty", hint="nunet db restore FILE")
    target = _file(ctx, to="restore")
    if file is not None:
        backups.require(file)
    if not yes:
        confirm(f"Replace the database {target} by {file or 'an empty one'}?")
    aside = backups.restore(file, target)
    if (form := _form(output, json_)) is not Format.TABLE:
        show({"database": str(target), "restored": str(file or ""), "aside": str(aside or "")}, form)
        return
    if aside is not None:
        typer.echo(f"the old one is kept as {aside}", err=True)
    print(target)


@app.command("downgrade")
def downgrade(
    ctx: typer.Context,
    revision: Annotated[str, typer.Argument(help="The schema that the older release has, such as 0004.")],
    yes: Yes = False,
) -> None:
    """Make the database readable for an older release. The node must not run; a backup is taken first.

    A newer release does the way forward by itself when it starts; a database that is too new for a release says so.

    Examples:
      nunet db downgrade 0004
    """
    import trio

    from dms.cli.prompts import confirm
    from dms.store import Store
    from dms.store.backup import take
    from dms.store.migrate import check_downgrade
    from dms.store.migrate import downgrade as undo

    where = _where(ctx)
    if not yes:
        confirm(f"Undo all changes of the schema after {revision}, with what only newer releases know?")

    async def run() -> None:
        async with await Store.open(where) as store:
            await store.run(lambda session: check_downgrade(session, revision))
            if isinstance(where, Path):
                made = await trio.to_thread.run_sync(take, where, _default_target(where))
                typer.echo(f"backup: {made.path}", err=True)
            await store.run(lambda session: undo(session, revision))

    trio.run(run)
    print(revision)


def _where(ctx: typer.Context) -> Path | DatabaseURL:
    from dms.cli.session import Session
    from dms.store import locate

    settings = Session.of(ctx).settings
    return locate(settings.database.url.get_secret_value(), settings.general.work_dir)


def _file(ctx: typer.Context, *, to: str) -> Path:
    from dms.store.errors import StoreOnServer

    where = _where(ctx)
    if isinstance(where, Path):
        return where
    command = where.dump_command if to == "dump" else where.restore_command
    raise StoreOnServer(f"the database {where} is on a server", hint=f"use its own program: {command}")


def _default_target(source: Path) -> Path:
    from dms.identity.files import make_private_directory
    from dms.store.backup import default_name
    from dms.store.faults import of_system

    directory = source.parent / BACKUPS
    try:
        if source.exists():
            make_private_directory(directory)
    except OSError as exc:
        raise of_system(exc, directory) from None
    path = directory / default_name(source, time.time())
    stem, number = path.stem, 1
    while path.exists():  # another one within the same second
        number += 1
        path = path.with_stem(f"{stem}-{number}")
    return path


def _form(output: Format, json_: bool) -> Format:
    return Format.JSON if json_ else output


def _as_json(found: Examination) -> dict[str, object]:
    import msgspec

    return {"is_sound": not found.problems, **msgspec.to_builtins(found)}


def _print(found: Examination) -> None:
    from dms.cli.output import clean
    from dms.types.units import format_bytes

    print(f"database  {found.database}")
    print(f"schema    {found.revision or '-'}")
    print(f"size      {format_bytes(found.size_bytes)}, {format_bytes(found.free_bytes)} of it free")
    filled = ", ".join(f"{count} {name}" for name, count in found.records.items() if count)
    print(f"records   {filled or 'none'}")
    for problem in found.problems:
        print(f"problem   {clean(problem)}")
    if not found.problems:
        print("sound")
