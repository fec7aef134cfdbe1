"""``nunet monitor``: the log of the node, as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD = ("timestamp", "level", "message", "logger", "caller", "did", "exception")
COLOURS = {"DEBUG": "2", "WARN": "33", "ERROR": "31", "FATAL": "1;31"}


def monitor(
    ctx: typer.Context,
    level: Annotated[
        str | None, typer.Option("-l", "--level", metavar="LEVEL", help="From this level on: DEBUG, INFO, WARN, ERROR.")
    ] = None,
    logger: Annotated[
        str | None, typer.Option("--logger", metavar="NAME", help="Of this module and those below, such as dms.node.")
    ] = None,
    match: Annotated[
        str | None, typer.Option("-m", "--match", metavar="TEXT", help="Entries that hold this text, in any case.")
    ] = None,
    last: Annotated[int, typer.Option("-n", "--last", min=1, metavar="N", help="Begin with the last N.")] = 20,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on until interrupted.")] = True,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the log of the node while it is written: its last entries, and those to come.

    It is asked of the node, so that it works from elsewhere too, and goes on when the node restarts. The node decides what
    is logged at all: nunet logger --level DEBUG shows more.

    Examples:
      nunet monitor
      nunet monitor --level WARN
      nunet monitor --logger dms.orchestrator --match 3f2a --output json
      nunet monitor --no-follow --last 200
    """
    import sys

    from dms.cli.output import has_colour, show
    from dms.cli.session import Session
    from dms.cli.watching import log_entries
    from dms.types import gojson

    client = Session.of(ctx).client(context)
    found = log_entries(client, level=level or "", logger=logger or "", match=match or "", last=last, follow=follow)
    if output is not Format.TABLE and not follow:
        show([dict(entry.entry) for entry in found], output)
        return
    try:
        for entry in found:
            if output is Format.TABLE:
                print(line_of(entry.entry, is_coloured=has_colour(sys.stdout)), flush=True)
            else:
                print(gojson.encode(entry.entry).decode(), flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def line_of(entry: Mapping[str, Any], *, is_coloured: bool = False) -> str:
    """An entry for people: when, how grave, what, and its fields; a traceback below."""
    from dms.cli.output import clean

    level = str(entry.get("level", ""))
    fields = " ".join(f"{key}={value}" for key, value in entry.items() if key not in HEAD)
    text = clean(f"{entry.get('message', '')} {fields}".strip())
    mark = f"{level:<5}"
    if is_coloured and level in COLOURS:
        mark = f"\x1b[{COLOURS[level]}m{mark}\x1b[0m"
    line = f"{clean(str(entry.get('timestamp', '')))} {mark} {clean(str(entry.get('logger', '')))}: {text}"
    trace = str(entry.get("exception", ""))
    return "\n".join([line, *(f"    {clean(part)}" for part in trace.splitlines())]) if trace else line
