"""``nunet events``: what happened to a deployment, and why; or to the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dms.cli.session import Session
    from dms.node.watch_payloads import NodeEvent

NS_PER_S = 10**9


def events(
    ctx: typer.Context,
    identifier: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A deployment; its beginning is enough. None: the node.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the deployment has ended, or until interrupted.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="Of the node: these events only; a * at the end stands for any."),
    ] = None,
    last: Annotated[int, typer.Option("-n", "--last", min=0, metavar="N", help="Of the node: the last N of them.")] = 0,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell what happened to a deployment: who bid, who was chosen, what was refused and why, how each part ended.

    Times are those since it was submitted. Without an ID, the last events of the node: peers, offers, bids, allocations
    that it runs for others, deployments, changes of settings and anchors.

    Examples:
      nunet events 3f2a
      nunet events 3f2a --follow
      nunet events -f --name 'allocation_*' --name bid_sent
      nunet events --last 20 --output json
    """
    from dms.cli.session import Session
    from dms.types.errors import BadInput

    session = Session.of(ctx)
    if identifier is None:
        _print_node_events(session, tuple(name or ()), last, context, output, follow=follow)
        return
    if name or last:
        raise BadInput("--name and --last are for events of the node", hint="leave the ID out")
    _print_story(session, identifier, context, output, follow=follow)


def _print_story(session: Session, identifier: str, context: str | None, output: Format, *, follow: bool) -> None:
    from dms.cli.following import Deployment
    from dms.cli.output import show
    from dms.cli.story import Story
    from dms.types import gojson

    deployment = Deployment(session.client(context), identifier)
    story = Story(session.peer_name)
    if output is not Format.TABLE and not follow:
        show([gojson.to_builtins(event) for event in deployment.progress().events], output)
        return
    for progress in deployment.follow() if follow else [deployment.progress()]:
        if output is Format.TABLE:
            lines = list(story.lines(progress.events))
        else:
            lines = [gojson.encode(event).decode() for event in progress.events]
        for line in lines:
            print(line, flush=True)


def _print_node_events(
    session: Session, names: tuple[str, ...], last: int, context: str | None, output: Format, *, follow: bool
) -> None:
    from dms.cli.output import show
    from dms.cli.watching import node_events
    from dms.types import gojson

    found = node_events(session.client(context), names=names, last=last, follow=follow)
    if output is not Format.TABLE and not follow:
        show([gojson.to_builtins(event) for event in found], output)
        return
    lines = event_lines(found, session.peer_name)
    if output is not Format.TABLE:
        lines = (gojson.encode(event).decode() for event in found)
    try:
        for line in lines:
            print(line, flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def event_lines(events: Iterator[NodeEvent], name_peer: Callable[[str], str]) -> Iterator[str]:
    """Events of a node for people: when, what, and what is known of it."""
    from datetime import UTC, datetime

    from dms.cli.output import clean, short_id

    for event in events:
        at = datetime.fromtimestamp(event.at / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
        told = []
        for key, value in event.fields.items():
            if value in (None, "", [], {}):
                continue
            text = str(value)
            if key in ("peer", "orchestrator"):
                text = name_peer(text)
            elif key == "ensemble":
                text = short_id(text)
            elif key == "allocation" and "_" in text:
                text = text.partition("_")[2]
            told.append(f"{key}={text}")
        yield clean(f"{at}  {event.name:<26} {' '.join(told)}")
