"""``nunet validate``: check an ensemble without sending it anywhere (``spec/ensemble.md`` 7)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dms.ensemble.problem import Problem

INVALID_EXIT_CODE = 2


class Output(StrEnum):
    """How the findings are shown."""

    TABLE = "table"
    JSON = "json"


def validate(
    file: Annotated[Path | None, typer.Argument(help="The ensemble: YAML or JSON.", show_default=False)] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="One problem per line, or JSON.")] = Output.TABLE,
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
    if schema:
        _print_schema()
        return
    if file is None:
        raise typer.BadParameter("which file?", param_hint="FILE")
    problems, warnings = _findings(file)
    is_valid = not problems and not (strict and warnings)
    if output is Output.JSON:
        _print_json(problems, warnings, is_valid=is_valid)
    else:
        for problem in problems:
            typer.echo(str(problem))
        for warning in warnings:
            typer.echo(f"warning: {warning}")
        if is_valid:
            typer.echo("Configuration is valid.")
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


def _print_json(problems: tuple[Problem, ...], warnings: tuple[Problem, ...], *, is_valid: bool) -> None:
    import json

    found: dict[str, Any] = {
        "valid": is_valid,
        "problems": [_as_dict(p) for p in problems],
        "warnings": [_as_dict(p) for p in warnings],
    }
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))


def _as_dict(problem: Problem) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(problem)


def _print_schema() -> None:
    import json

    from dms.ensemble.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
