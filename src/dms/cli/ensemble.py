"""``nunet ensemble``: begin an ensemble, look at what it says, and help editors with it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dms.cli.options import Format

app = typer.Typer(no_args_is_help=True, help="Begin an ensemble, look at what it says.")

STDOUT = "-"


class Sample(StrEnum):
    """Kinds of work for which there is a commented example."""

    SERVICE = "service"
    BATCH = "batch"
    GPU = "gpu"
    VM = "vm"
    WASM = "wasm"


@app.command()
def init(
    file: Annotated[str, typer.Argument(help="Where to write it; - prints it.")] = "ensemble.yaml",
    kind: Annotated[Sample, typer.Option("-k", "--kind", help="What the work is like.")] = Sample.SERVICE,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented example to begin with.

    Examples:
      nunet ensemble init
      nunet ensemble init train.yaml --kind gpu
      nunet ensemble init - --kind wasm
    """
    from dms.ensemble.samples import Kind, sample

    text = sample(Kind(kind.value))
    if file == STDOUT:
        print(text, end="")
        return
    write_new(Path(file), text, force=force)
    print(f"Wrote {file}. Edit it, then: nunet validate {file}")


@app.command()
def schema() -> None:
    """Print the JSON schema of the format, for editors that check and complete.

    First line for editors with the YAML language server:
      # yaml-language-server: $schema=ensemble.schema.json

    Examples:
      nunet ensemble schema > ensemble.schema.json
    """
    from dms.cli.output import show
    from dms.ensemble.schema import json_schema

    show(json_schema(), Format.JSON)


@app.command("show")
def show_ensemble(
    file: Annotated[Path, typer.Argument(help="The ensemble: YAML or JSON.", show_default=False)],
    expand: Annotated[bool, typer.Option("--expand", help="Write out the members of groups.")] = False,
    canonical: Annotated[bool, typer.Option("--canonical", help="The JSON that is sent to the node.")] = False,
) -> None:
    """Print an ensemble as it is understood: templates, placeholders, units and old spellings resolved.

    Ends with code 2 when it is not valid.

    Examples:
      nunet ensemble show job.yaml
      nunet ensemble show --expand job.yaml
      nunet ensemble show --canonical job.yaml > job.json
    """
    import os

    from dms.ensemble.groups import expanded
    from dms.ensemble.loading import load_ensemble
    from dms.ensemble.rendering import render
    from dms.types import gojson

    loaded = load_ensemble(file, os.environ)
    for warning in loaded.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    config = expanded(loaded.config) if expand else loaded.config
    print(gojson.encode(config).decode() + "\n" if canonical else render(config), end="")


def write_new(path: Path, text: str, *, force: bool) -> None:
    """Write a file of the user's, readable by all.

    :raises BadInput: it exists and ``force`` is not given, or it cannot be written.
    """
    from dms.types.errors import BadInput

    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"{path} exists already", hint="name another file, or give --force") from None
    except OSError as exc:
        raise BadInput(f"{path} cannot be written: {exc.strerror}") from None
