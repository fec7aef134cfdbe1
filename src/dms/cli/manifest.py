"""``nunet manifest``: what was made of an ensemble (``spec/ensemble.md`` 6)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dms.cli.options import Context, DeploymentID, Format


class Form(StrEnum):
    """How it is written."""

    JSON = "json"
    YAML = "yaml"


def manifest(
    ctx: typer.Context,
    identifier: DeploymentID,
    context: Context = None,
    output: Annotated[Form, typer.Option("-o", "--output", help="Format of the result.")] = Form.JSON,
) -> None:
    """Print the manifest of a deployment: which machine got which node, the actors, names, addresses and ports.

    Examples:
      nunet manifest 3f2a
      nunet manifest 3f2a --output yaml
    """
    from dms.cli.following import Deployment
    from dms.cli.output import show
    from dms.cli.session import Session

    found = Deployment(Session.of(ctx).client(context), identifier).manifest()
    show(found, Format(output.value))
