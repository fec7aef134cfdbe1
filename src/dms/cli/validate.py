"""``nunet validate``: check an ensemble without sending it anywhere (``spec/ensemble.md`` 7)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Format, Output

if TYPE_CHECKING:
    from dms.ensemble.problem import Problem

INVALID_EXIT_CODE = 2


def validate(
    file: Annotated[Path | None, typer.Argument(help="The ensemble: YAML or JSON.", show_default=False)] = None,
    output: Output = Format.TABLE,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of the format, for editors.")] = False,
) -> None:
    """Check an ensemble file: every problem at once, with its line and how to mend it.

    Placeholders such as ${NAME} and ${file:path} are resolved as for a deployment. Ends with code 0 when the file is
    valid, 2 when it is not, 4 when there is no such file.

    Examples:
      nunet validate examples/wordcount.yaml
      nunet validate job.yaml --output json
      nunet validate --schema > ensemble.schema.json
    """
    from dataclasses import asdict

    from dms.cli.output import show

    if schema:
        from dms.ensemble.schema import json_schema

        show(json_schema(), Format.JSON)
        return
    if file is None:
        raise typer.BadParameter("which file?", param_hint="FILE")
    problems, warnings = _findings(file)
    is_valid = not problems and not (strict and warnings)
    if output is Format.TABLE:
        _print_lines(problems, warnings, is_valid=is_valid)
    else:
        found = {"problems": [asdict(p) for p in problems], "warnings": [asdict(w) for w in warnings]}
        show({"valid": is_valid, **found}, output)
    if not is_valid:
        raise typer.Exit(INVALID_EXIT_CODE)


def _findings(file: Path) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    import os

    from dms.ensemble.errors import InvalidEnsemble
    from dms.ensemble.loading import load_ensemble

    try:
        return (), load_ensemble(file, os.environ).warnings
    except InvalidEnsemble as exc:
        return exc.problems, exc.warnings


def _print_lines(problems: tuple[Problem, ...], warnings: tuple[Problem, ...], *, is_valid: bool) -> None:
    from dms.cli.output import clean

    for problem in problems:
        typer.echo(clean(str(problem)))
    for warning in warnings:
        typer.echo(clean(f"warning: {warning}"))
    if is_valid:
        typer.echo("Configuration is valid.")
