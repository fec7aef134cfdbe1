"""``nunet versions``: what a deployment was, is, and was meant to become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, DeploymentID, Format, Output

if TYPE_CHECKING:
    from dms.cli.following import Deployment
    from dms.node.updating_payloads import VersionsReply


def versions(
    ctx: typer.Context,
    identifier: DeploymentID,
    number: Annotated[
        int | None,
        typer.Argument(metavar="[VERSION]", min=1, help="Print the ensemble of this version.", show_default=False),
    ] = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """List the versions of a deployment: who made them and when, what they changed, and what became of them.

    With a number the ensemble of that version is printed, as YAML or JSON.

    Examples:
      nunet versions 3f2a
      nunet versions 3f2a 2 > before.yaml
      nunet versions 3f2a --output json
    """
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE, Deployment
    from dms.cli.output import clean, print_table, show
    from dms.cli.session import Session
    from dms.node.updating_payloads import VersionReply, VersionsRequest
    from dms.types import gojson

    client = Session.of(ctx).client(context)
    if number is not None:
        request = VersionsRequest(id=identifier, number=number)
        reply = client.call(f"{NAMESPACE}/version", request, VersionReply)
        if reply.ensemble is None:
            raise refused(reply.error or "the node did not send it")
        show(gojson.to_builtins(reply.ensemble), Format.YAML if output is Format.TABLE else output)
        return
    found = versions_of(Deployment(client, identifier))
    if output is not Format.TABLE:
        show(gojson.to_builtins(found), output)
        return
    rows = [
        (
            str(version.number),
            version.outcome,
            version.made_at,
            version.by,
            clean(f"as version {version.copy_of}: {version.what}" if version.copy_of else version.what),
        )
        for version in reversed(found.versions)
    ]
    print_table(("VERSION", "STATE", "MADE", "BY", "CHANGES"), rows)
    for version in found.versions:
        if version.error:
            print(clean(f"Version {version.number} was {version.outcome}: {version.error}"))
    if found.stage:
        what = "is being taken back" if found.reverts else "is being rolled out"
        print(clean(f"An update {what}: {found.stage}" + (f" ({found.why})" if found.why else "")))


def versions_of(deployment: Deployment) -> VersionsReply:
    """The history of a deployment.

    :raises Refused: the node does not know it.
    """
    from dms.cli.client import refused
    from dms.cli.following import NAMESPACE
    from dms.node.updating_payloads import VersionsReply, VersionsRequest

    reply = deployment.client.call(f"{NAMESPACE}/versions", VersionsRequest(id=deployment.id), VersionsReply)
    if not reply.id:
        raise refused(reply.error)
    return reply
