"""What ``nunet actor cmd`` knows of the behaviours about deployments (``spec/orchestration.md`` 2)."""

from __future__ import annotations

import os
from pathlib import Path

from dms.cli.behaviour_flags import Flag, Flags, KnownBehaviour
from dms.types.errors import BadInput
from dms.types.units import parse_duration_ns

DEPLOYMENT_TIMEOUT_S = 120.0

_SESSION = Flag("session", "What start answered.", is_required=True)
_TIMES = ("created-after", "created-before", "updated-after", "updated-before")


def _id_flag(text: str = "Id of the deployment.") -> Flag:
    return Flag("id", text, short="-i", is_required=True)


def _new(flags: Flags) -> object:
    from dms.ensemble.loading import load_ensemble
    from dms.node.payloads import NewDeployment

    return NewDeployment(ensemble=load_ensemble(Path(flags["spec_file"]), os.environ).config)


def _plan(flags: Flags) -> object:
    from dms.ensemble.loading import load_ensemble
    from dms.node.explaining_payloads import PlanRequest

    config = load_ensemble(Path(flags["spec_file"]), os.environ).config
    return PlanRequest(ensemble=config, deployment=flags["deployment"] or "")


def _why(flags: Flags) -> object:
    from dms.node.explaining_payloads import WhyRequest

    return WhyRequest(id=flags["id"])


def _list(flags: Flags) -> object:
    from dms.cli.get import metadata_filter
    from dms.node.payloads import ListRequest

    return ListRequest(
        metadata=metadata_filter(flags["filter"]),
        limit=flags["limit"] or 0,
        offset=flags["offset"] or 0,
        status=tuple(flags["status"] or ()),
        created_after=flags["created_after"] or "",
        created_before=flags["created_before"] or "",
        updated_after=flags["updated_after"] or "",
        updated_before=flags["updated_before"] or "",
        sort_by=flags["sort"] or "-created_at",
    )


def _deployment(flags: Flags) -> object:
    from dms.node.payloads import DeploymentRequest

    return DeploymentRequest(
        id=flags["id"],
        include_usage=bool(flags.get("include_usage") or flags.get("usage")),
        include_logs=bool(flags.get("logs")),
        allocation_names=tuple(flags.get("allocations") or ()),
    )


def _schedule(flags: Flags) -> object:
    from dms.node.schedule_payloads import ScheduleRequest

    return ScheduleRequest(id=flags["id"])


def _new_schedule(flags: Flags) -> object:
    from dms.ensemble.loading import load_ensemble
    from dms.node.schedule_payloads import NewSchedule

    config = load_ensemble(Path(flags["spec_file"]), os.environ).config
    return NewSchedule(ensemble=config, cron=flags["cron"], zone=flags["zone"] or "")


def _delete(flags: Flags) -> object:
    from dms.node.payloads import DeploymentRequest

    return DeploymentRequest(orchestrator_id=flags["id"])


def _logs(flags: Flags) -> object:
    from dms.node.payloads import LogsRequest

    return LogsRequest(ensemble_id=flags["id"], allocation=flags["allocation"])


def _log_job(flags: Flags) -> object:
    from dms.node.payloads import LogJobRequest

    interval = flags.get("interval")
    return LogJobRequest(
        ensemble_id=flags["id"],
        allocation=flags["allocation"],
        follow=bool(flags.get("follow")),
        interval_ns=parse_duration_ns(interval, what="interval") if interval else 0,
    )


def _exec(flags: Flags) -> object:
    from dms.node.exec_payloads import ExecStartRequest, ExecTurnRequest

    where = {"id": flags["id"], "allocation": flags["allocation"]}
    if "command" in flags:
        return ExecStartRequest(**where, command=tuple(flags["command"] or ()))
    return ExecTurnRequest(**where, session=flags["session"], offset=flags.get("offset") or 0)


def _forward(flags: Flags) -> object:
    from dms.node.forward_payloads import ForwardRequest

    try:
        ports = tuple(int(port) for port in flags["port"])
    except ValueError:
        raise BadInput("a port is a number") from None
    return ForwardRequest(id=flags["id"], allocation=flags["allocation"], ports=ports)


def _restart(flags: Flags) -> object:
    from dms.node.payloads import RestartRequest

    return RestartRequest(id=flags["id"], allocation_names=tuple(flags.get("allocations") or ()))


def _events(flags: Flags) -> object:
    from dms.node.payloads import EventsRequest

    return EventsRequest(id=flags["id"], after=flags["after"] or 0)


def _prune(flags: Flags) -> object:
    from dms.node.payloads import PruneRequest

    if bool(flags["before"]) == bool(flags["all"]):
        raise BadInput("give exactly one of --before, --all")
    return PruneRequest(before=flags["before"] or "", all=flags["all"], dry_run=bool(flags["dry_run"]))


DEPLOYMENTS: tuple[KnownBehaviour, ...] = (
    KnownBehaviour(
        "/dms/node/deployment/new",
        "Deploy an ensemble",
        (Flag("spec-file", "The ensemble.", short="-f", is_required=True),),
        _new,
        timeout_s=DEPLOYMENT_TIMEOUT_S,
    ),
    KnownBehaviour(
        "/dms/node/deployment/list",
        "Deployments of the node",
        (
            Flag("filter", "KEY=VALUE in the metadata.", list, "-f"),
            Flag("limit", "At most so many.", int),
            Flag("offset", "Leave out so many.", int),
            Flag("status", "In this state.", list),
            *(Flag(name, "A time, or an age such as 1h.") for name in _TIMES),
            Flag("sort", "By which field; default -created_at."),
        ),
        _list,
    ),
    KnownBehaviour(
        "/dms/node/deployment/status",
        "Status of a deployment",
        (_id_flag(), Flag("include-usage", "With the resources in use.", bool, "-u")),
        _deployment,
    ),
    KnownBehaviour(
        "/dms/node/deployment/info",
        "Status, manifest and allocations of a deployment",
        (
            _id_flag(),
            Flag("usage", "With the resources in use.", bool),
            Flag("logs", "With where the logs lie.", bool),
            Flag("allocations", "Only these.", list),
        ),
        _deployment,
    ),
    KnownBehaviour(
        "/dms/node/deployment/network",
        "The private network of a deployment, as each of its machines sees it",
        (_id_flag(),),
        _deployment,
    ),
    KnownBehaviour(
        "/dms/node/deployment/logs",
        "Have the logs of an allocation written on the node",
        (_id_flag(), Flag("allocation", "Name of the allocation.", short="-a", is_required=True)),
        _logs,
        timeout_s=DEPLOYMENT_TIMEOUT_S,
    ),
    *(
        KnownBehaviour(
            f"/dms/node/deployment/logs/async{name}",
            text,
            (
                _id_flag(),
                Flag("allocation", "Name of the allocation.", short="-a", is_required=True),
                *(
                    (Flag("follow", "Go on while they grow.", bool), Flag("interval", "How often; default 10s."))
                    if not name
                    else ()
                ),
            ),
            _log_job,
        )
        for name, text in (
            ("", "Have logs written on the node in the background"),
            ("/status", "How far that is"),
            ("/stop", "End that"),
        )
    ),
    KnownBehaviour("/dms/node/deployment/manifest", "Manifest of a deployment", (_id_flag(),), _deployment),
    *(
        KnownBehaviour(
            f"/dms/node/deployment/exec/{name}",
            text,
            (_id_flag(), Flag("allocation", "Name of the allocation.", short="-a", is_required=True), *flags),
            _exec,
        )
        for name, text, flags in (
            ("start", "Run a command in an allocation", (Flag("command", "A word of it; once for each.", list),)),
            ("io", "Hear what it says", (_SESSION, Flag("offset", "Bytes that were heard already.", int))),
            ("stop", "End it", (_SESSION,)),
        )
    ),
    KnownBehaviour(
        "/dms/node/deployment/forward",
        "Get a ticket for connections to ports of an allocation",
        (
            _id_flag(),
            Flag("allocation", "Name of the allocation.", short="-a", is_required=True),
            Flag("port", "A TCP port; once for each.", list, is_required=True),
        ),
        _forward,
    ),
    KnownBehaviour(
        "/dms/node/deployment/restart",
        "End allocations and run them again",
        (_id_flag(), Flag("allocations", "Only these.", list)),
        _restart,
    ),
    KnownBehaviour(
        "/dms/node/deployment/events",
        "What happened to a deployment",
        (_id_flag(), Flag("after", "Only entries after this number.", int)),
        _events,
    ),
    KnownBehaviour(
        "/dms/node/deployment/plan",
        "Show what would become of an ensemble",
        (
            Flag("spec-file", "The ensemble.", short="-f", is_required=True),
            Flag("deployment", "What it would replace."),
        ),
        _plan,
        timeout_s=60.0,
    ),
    KnownBehaviour(
        "/dms/node/deployment/why", "Why a deployment waits, failed, or is where it is", (_id_flag(),), _why
    ),
    KnownBehaviour("/dms/node/deployment/shutdown", "End a deployment", (_id_flag(),), _deployment),
    KnownBehaviour(
        "/dms/node/deployment/prune",
        "Forget deployments that have ended",
        (
            Flag("before", "Those that ended before this time or age."),
            Flag("all", "All of them.", bool),
            Flag("dry-run", "Only tell which.", bool),
        ),
        _prune,
    ),
    KnownBehaviour(
        "/dms/node/deployment/schedule/new",
        "Deploy an ensemble at times",
        (
            Flag("spec-file", "The ensemble.", short="-f", is_required=True),
            Flag("cron", "Its times, in five fields.", is_required=True),
            Flag("zone", "Their time zone; UTC if not given."),
        ),
        _new_schedule,
    ),
    KnownBehaviour("/dms/node/deployment/schedule/list", "Schedules of the node"),
    *(
        KnownBehaviour(f"/dms/node/deployment/schedule/{name}", text, (_id_flag("Id of the schedule."),), _schedule)
        for name, text in (("pause", "Pause a schedule"), ("resume", "Resume one"), ("delete", "Forget one"))
    ),
    KnownBehaviour("/dms/node/deployment/delete", "Forget one deployment", (_id_flag(),), _delete),
)
