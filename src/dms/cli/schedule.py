"""``nunet schedule``: ensembles that the node deploys at times; ``nunet deploy --schedule`` makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from dms.node.schedule_payloads import ScheduleInfo

app = typer.Typer(name="schedule", help="List, pause, resume and delete schedules.", no_args_is_help=True)

NAMESPACE = "/dms/node/deployment/schedule"
COLUMNS = ("ID", "TIMES", "ZONE", "STATE", "NEXT", "RUNS", "LAST", "METADATA")

ScheduleID = Annotated[str, typer.Argument(metavar="ID", help="Id of the schedule; its beginning is enough.")]


@app.command("list")
def list_(ctx: typer.Context, context: Context = None, output: Output = Format.TABLE) -> None:
    """List the schedules of the node with their next time and their last run.

    Examples:
      nunet schedule list
      nunet schedule list --output json
    """
    from dms.cli.client import refused
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.node.schedule_payloads import SchedulesReply
    from dms.types import gojson

    reply = Session.of(ctx).client(context).call(f"{NAMESPACE}/list", None, SchedulesReply)
    if reply.error:
        raise refused(reply.error)
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply.schedules), output)
        return
    print_table(COLUMNS, [_row(schedule) for schedule in reply.schedules])


@app.command("delete")
def delete(ctx: typer.Context, identifier: ScheduleID, context: Context = None) -> None:
    """Forget a schedule. What it deployed goes on.

    Examples:
      nunet schedule delete 3f2a
    """
    _change(ctx, context, "delete", identifier)


@app.command("pause")
def pause(ctx: typer.Context, identifier: ScheduleID, context: Context = None) -> None:
    """Deploy nothing more for a schedule until it is resumed.

    Examples:
      nunet schedule pause 3f2a
    """
    _change(ctx, context, "pause", identifier)


@app.command("resume")
def resume(ctx: typer.Context, identifier: ScheduleID, context: Context = None) -> None:
    """Go on with a schedule from its next time on.

    Examples:
      nunet schedule resume 3f2a
    """
    _change(ctx, context, "resume", identifier)


def _change(ctx: typer.Context, context: str | None, name: str, identifier: str) -> None:
    from dms.cli.client import refused
    from dms.cli.session import Session
    from dms.node.schedule_payloads import ScheduleRequest
    from dms.orchestrator.messages import Reply

    client = Session.of(ctx).client(context)
    reply = client.call(f"{NAMESPACE}/{name}", ScheduleRequest(id=identifier), Reply)
    if not reply.ok:
        raise refused(reply.error)


def _row(schedule: ScheduleInfo) -> tuple[str, ...]:
    from dms.cli.output import clean, pairs

    last = schedule.runs[-1] if schedule.runs else None
    return (
        schedule.id[:12],
        schedule.cron,
        schedule.zone,
        "paused" if schedule.is_paused else "active",
        schedule.next_at.removesuffix(".000Z") + "Z" * bool(schedule.next_at),
        str(schedule.count),
        "" if last is None else last.deployment[:12] or clean(last.error) or "begins",
        pairs(schedule.metadata),
    )
