"""``nunet plugin``: parts that other packages bring. No node is asked."""

from __future__ import annotations

from dataclasses import asdict

import typer

from dms.cli.options import Format, Output

app = typer.Typer(name="plugin", help="List the plugins of this machine.", no_args_is_help=True)

COLUMNS = ("GROUP", "NAME", "PACKAGE", "VERSION", "STATE")


@app.callback()
def plugin() -> None:
    """Parts of the node that other packages bring."""


@app.command("list")
def list_(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """List the plugins that are installed beside this program, and why some of them are not used.

    Whether one works in a running node, its log tells. Ends with code 1 if one is broken.

    Examples:
      nunet plugin list
      nunet plugin list --output json
      nunet config set plugins.disabled example.echo
    """
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.plugins.finding import find_plugins

    plugins = find_plugins(Session.of(ctx).settings.plugins.disabled)
    if output is not Format.TABLE:
        show({"plugins": [asdict(each) for each in plugins.all]}, output)
    elif not plugins.all:
        print("No plugins are installed")
    else:
        rows = [
            (
                each.group,
                each.name,
                each.package,
                each.version,
                each.problem or ("disabled" if each.is_disabled else "ok"),
            )
            for each in plugins.all
        ]
        print_table(COLUMNS, rows)
    if plugins.problems:
        raise typer.Exit(1)
