"""``nunet translate``: job files of other systems as ensembles (``spec/platform.md`` 2.6)."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

UNTRANSLATED_EXIT_CODE = 2


class From(StrEnum):
    """Formats that are understood."""

    COMPOSE = "docker-compose"
    KUBERNETES = "kubernetes"
    NOMAD = "nomad"


class Form(StrEnum):
    """How the result is written."""

    YAML = "yaml"
    JSON = "json"


def translate(
    file: Annotated[Path, typer.Argument(help="A Compose file, Kubernetes manifests, or a Nomad job (HCL or JSON).")],
    source: Annotated[From | None, typer.Option("-f", "--from", help="What it is; found out otherwise.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; printed otherwise.", show_default=False)
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="json: the ensemble's text and the notes.")] = Form.YAML,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with code 2 when something was left out.")] = False,
) -> None:
    """Turn the job file of another system into an ensemble.

    Whatever has no counterpart is named on standard error, and in comments of the result: where it stands, what it means
    that it is left out, and what to do instead. The result is valid. Ends with code 2 when there is none.

    Examples:
      nunet translate docker-compose.yaml -o ensemble.yaml
      nunet translate manifests.yaml --from kubernetes
      nunet translate job.nomad.hcl --strict
    """
    import os
    from dataclasses import asdict

    from dms.cli.ensemble import write_new
    from dms.cli.options import Format
    from dms.cli.output import as_json, clean, show
    from dms.ensemble.translate.translation import Source, translate_file

    done = translate_file(file, os.environ, Source(source.value) if source else None)
    found = {"source": done.source, "ensemble": done.text, "notes": [asdict(note) for note in done.notes]}
    if form is not Form.JSON:
        for note in done.notes:
            print(clean(f"Warning: {note}"), file=sys.stderr)
    if output is not None:
        write_new(output, done.text if form is Form.YAML else as_json(found) + "\n", force=force)
        print(f"Translated {done.source} to {output}. Check it with: nunet validate {output}")
    elif form is Form.JSON:
        show(found, Format.JSON)
    else:
        print(done.text, end="")
    if strict and done.notes:
        raise typer.Exit(UNTRANSLATED_EXIT_CODE)
