"""What ``nunet actor cmd`` knows of the behaviours of a node: their flags, and the payloads made of them.

A behaviour that is not here can be called all the same, with ``--payload``. See ``spec/security.md`` 6.3 for the flags,
``spec/orchestration.md`` 2 for the payloads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dms.cli.behaviour_flags import Flag, Flags, KnownBehaviour
from dms.cli.settings_behaviours import SETTINGS
from dms.cli.update_behaviours import UPDATES
from dms.cli.volume_behaviours import VOLUMES
from dms.cli.watching_behaviours import WATCHING
from dms.types.errors import BadInput
from dms.types.units import parse_bytes, parse_duration_ns

__all__ = ["ABSENT", "AMONG_NODES", "KNOWN", "Flag", "KnownBehaviour", "absent", "find"]

DEPLOYMENT_TIMEOUT_S = 120.0


def _id_flag(text: str = "Id of the deployment.") -> Flag:
    return Flag("id", text, short="-i", is_required=True)


def _onboard(flags: Flags) -> object:
    from dms.node.payloads import OnboardingConfig, OnboardRequest
    from dms.types.resources import CPU, RAM, Disk, Resources

    offer = Resources(
        cpu=CPU(cores=flags["cpu"]),
        ram=RAM(size=parse_bytes(flags["ram"], what="ram")),
        disk=Disk(size=parse_bytes(flags["disk"], what="disk")),
    )
    config = OnboardingConfig(is_onboarded=True, onboarded_resources=offer)
    return OnboardRequest(no_gpu=flags["no_gpu"], gpus=flags["gpus"] or "", config=config)


def _benchmark(flags: Flags) -> object:
    from dms.node.payloads import BenchmarkRequest

    return BenchmarkRequest(run=bool(flags["run"]))


def _ping(flags: Flags) -> object:
    from dms.node.payloads import PingRequest

    return PingRequest(host=flags["host"])


def _connect(flags: Flags) -> object:
    from dms.node.payloads import ConnectRequest

    return ConnectRequest(address=flags["address"])


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


def _doctor_work(flags: Flags) -> object:
    from dms.node.doctor_payloads import DoctorRequest

    return DoctorRequest(hours=flags["hours"] or 0)


def _doctor_network(flags: Flags) -> object:
    from dms.node.doctor_payloads import NetworkRequest

    return NetworkRequest(quick=bool(flags["quick"]))


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


def _token_list(flags: Flags) -> object:
    from dms.cli.tokens import parse_token_or_list
    from dms.node.capability_payloads import TokenRequest

    return TokenRequest(token=parse_token_or_list(flags["token"], "--token"))


def _list_anchors(flags: Flags) -> object:
    from dms.node.capability_payloads import ListAnchors

    return ListAnchors(context=flags["name"] or "")


def _anchor(flags: Flags) -> object:
    from dms.capability.token import NO_TOKENS
    from dms.cli.tokens import parse_token_or_list
    from dms.node.capability_payloads import AnchorRequest

    require, provide, revoke = (
        parse_token_or_list(flags[part], f"--{part}") if flags[part] else NO_TOKENS
        for part in ("require", "provide", "revoke")
    )
    return AnchorRequest(require=require, provide=provide, revoke=revoke)


def _explain(flags: Flags) -> object:
    from dms.capability.token import NO_TOKENS
    from dms.cli.tokens import parse_did, parse_token_or_list
    from dms.node.capability_payloads import ExplainRequest

    return ExplainRequest(
        from_=parse_did(flags["from_"], "subject").uri,
        behavior=flags["behavior"],
        audience=flags["audience"] or "",
        topic=flags["topic"] or "",
        token=parse_token_or_list(flags["tokens"], "--tokens") if flags["tokens"] else NO_TOKENS,
    )


def _token_flag(text: str) -> tuple[Flag, ...]:
    return (Flag("token", f"{text} One token, or a list.", is_required=True),)


def _vm_start(flags: Flags) -> object:
    import uuid

    from dms.node.vm_payloads import Execution, StartRequest
    from dms.types.resources import CPU, RAM, Resources, SpecConfig

    params: dict[str, object] = {"kernel_image": flags["kernel"], "root_file_system": flags["rootfs"]}
    params |= {key: flags[name] for key, name in (("initrd_path", "initrd"), ("kernel_args", "args")) if flags[name]}
    if flags["cmd"]:
        params["cmd"] = flags["cmd"]
    execution = Execution(
        execution_id=flags["id"] or f"vm-{uuid.uuid4().hex[:12]}",
        engine_spec=SpecConfig(type=flags["engine"] or "firecracker", params=params),
        resources=Resources(cpu=CPU(cores=flags["cpu"] or 1), ram=RAM(size=(flags["memory"] or 1024) << 20)),
    )
    return StartRequest(execution=execution)


def _hosted(flags: Flags) -> object:
    from dms.node.payloads import AllocationRequest

    return AllocationRequest(allocation_id=flags["id"])


def _vm_stop(flags: Flags) -> object:
    from dms.node.vm_payloads import StopRequest

    return StopRequest(execution_id=flags["id"])


_SESSION = Flag("session", "What start answered.", is_required=True)
_TIMES = ("created-after", "created-before", "updated-after", "updated-before")

KNOWN: tuple[KnownBehaviour, ...] = (
    KnownBehaviour("/broadcast/hello", "Ask every node for its DID", topic="/nunet/hello"),
    KnownBehaviour("/public/hello", "Ask a node for its DID"),
    KnownBehaviour("/public/status", "Ask a node what it offers"),
    KnownBehaviour("/dms/node/peers/list", "Peers that the node is connected to"),
    KnownBehaviour("/dms/node/peers/self", "Id and addresses of the node"),
    KnownBehaviour("/dms/node/peers/dht", "Peers in the routing table"),
    KnownBehaviour("/dms/node/peers/latency", "How near the connected peers are"),
    KnownBehaviour("/dms/node/peers/score", "Scores of the peers"),
    KnownBehaviour(
        "/dms/node/peers/ping",
        "Measure the round trip to a peer",
        (Flag("host", "Id of the peer.", short="-H", is_required=True),),
        _ping,
    ),
    KnownBehaviour(
        "/dms/node/peers/connect",
        "Connect to a peer",
        (Flag("address", "Multiaddress ending in /p2p/ID, or an id.", short="-a", is_required=True),),
        _connect,
    ),
    KnownBehaviour(
        "/dms/node/onboarding/onboard",
        "Offer a part of the machine",
        (
            Flag("cpu", "Cores.", float, "-C", is_required=True),
            Flag("ram", "Memory; GiB when bare.", short="-R", is_required=True),
            Flag("disk", "Disk; GiB when bare.", short="-D", is_required=True),
            Flag("gpus", "GPUs and their memory, such as 0:4,1:8.", short="-G"),
            Flag("no-gpu", "Offer no GPU.", bool, "-N"),
        ),
        _onboard,
        timeout_s=60.0,
    ),
    KnownBehaviour("/dms/node/onboarding/offboard", "Withdraw the machine"),
    KnownBehaviour("/dms/node/onboarding/status", "Whether the machine is offered"),
    KnownBehaviour("/dms/node/onboarding/resource", "What is offered"),
    KnownBehaviour("/dms/node/resources/allocated", "Resources in use"),
    KnownBehaviour("/dms/node/resources/free", "Resources that are free"),
    KnownBehaviour("/dms/node/resources/onboarded", "Resources that are offered"),
    KnownBehaviour("/dms/node/hardware/spec", "What the machine has"),
    KnownBehaviour("/dms/node/hardware/usage", "What of it is busy"),
    KnownBehaviour(
        "/dms/node/hardware/benchmark",
        "What the machine measured of itself",
        (Flag("run", "Measure now.", bool),),
        _benchmark,
        timeout_s=90.0,
    ),
    KnownBehaviour("/dms/node/allocations/list", "Allocations that the node runs for others"),
    *(
        KnownBehaviour(
            f"/dms/node/allocation/{name}",
            what,
            (Flag("id", "Its whole id.", short="-i", is_required=True),),
            _hosted,
            timeout_s=60.0,
        )
        for name, what in (
            ("restart", "Run a job on the node's machine again"),
            ("stop", "End the program of a job on the node's machine"),
        )
    ),
    KnownBehaviour("/dms/node/vm/list", "Machines that run here"),
    KnownBehaviour(
        "/dms/node/vm/start/custom",
        "Start a machine by hand",
        (
            Flag("kernel", "Kernel on the node.", short="-k", is_required=True),
            Flag("rootfs", "Root file system on the node: an image or a folder.", short="-r", is_required=True),
            Flag("initrd", "Initial RAM disk on the node.", short="-i"),
            Flag("args", "Added to the kernel's command line.", short="-a"),
            Flag("cpu", "Cores; default 1.", int, "-z"),
            Flag("memory", "Memory in MiB; default 1024.", int, "-m"),
            Flag("cmd", "A word of the program to run in it; once for each word.", list),
            Flag("engine", "firecracker (default) or qemu."),
            Flag("id", "Id by which it is stopped; made up unless given."),
        ),
        _vm_start,
        timeout_s=60.0,
    ),
    KnownBehaviour(
        "/dms/node/vm/stop",
        "End a machine that was started by hand",
        (Flag("id", "Id of its execution.", short="-i", is_required=True),),
        _vm_stop,
        timeout_s=60.0,
    ),
    *VOLUMES,
    *UPDATES,
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
    KnownBehaviour(
        "/dms/node/doctor/work",
        "Why this machine gets no work",
        (Flag("hours", "How far to look back; default 24.", int),),
        _doctor_work,
    ),
    KnownBehaviour(
        "/dms/node/doctor/network",
        "What other peers see of this node, and whether they reach it",
        (Flag("quick", "Tell what is known, and ask nobody.", bool),),
        _doctor_network,
    ),
    *WATCHING,
    *SETTINGS,
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
    KnownBehaviour(
        "/dms/cap/list",
        "Anchors of the node",
        (Flag("name", "Name of the context; the node opens its own only."),),
        _list_anchors,
    ),
    KnownBehaviour(
        "/dms/cap/anchor",
        "Anchor tokens at the node, of several kinds at once",
        (
            Flag("require", "Token list to accept authority by."),
            Flag("provide", "Token list to show in messages."),
            Flag("revoke", "Revocations, apart from the others."),
        ),
        _anchor,
    ),
    KnownBehaviour(
        "/dms/cap/provide/anchor", "Anchor what the node shows", _token_flag("Given to the node."), _token_list
    ),
    KnownBehaviour("/dms/cap/require/anchor", "Anchor what the node accepts", _token_flag("Lends trust."), _token_list),
    KnownBehaviour(
        "/dms/cap/revoke/anchor", "Anchor a revocation at the node", _token_flag("A revocation."), _token_list
    ),
    KnownBehaviour(
        "/dms/cap/revoke/broadcast",
        "Send a revocation to all nodes",
        _token_flag("A revocation."),
        _token_list,
        topic="/nunet/revocation",
    ),
    KnownBehaviour(
        "/dms/cap/explain",
        "Ask the node how it would decide",
        (
            Flag("behavior", "What is to be called.", short="-b", is_required=True),
            Flag("from", "DID of who calls it.", is_required=True),
            Flag("audience", "DID of whom it is called at; else the node."),
            Flag("topic", "Broadcast on this topic."),
            Flag("tokens", "Tokens that the message carries."),
        ),
        _explain,
    ),
)

AMONG_NODES: tuple[KnownBehaviour, ...] = (
    KnownBehaviour("/dms/deployment/request", "Look for machines: everybody may bid", topic="/nunet/deployment"),
    KnownBehaviour("/dms/deployment/bid", "Offer a machine to whoever asked"),
    KnownBehaviour("/dms/deployment", "Ask a machine to run something: all that goes with it"),
    KnownBehaviour("/dms/cap/revoke/missed", "Ask for revocations that were missed"),
)
"""What nodes call at each other; for those who grant capabilities."""

ABSENT: Mapping[str, str] = {
    "/broadcast/dms/status": "the status of all nodes",
    "/dms/debug/flightrec": "the flight recorder",
    "/dms/node/status": "the status of a node",
    "/dms/node/vm": "virtual machines outside of deployments",
    "/dms/tokenomics": "contracts and payments",
}
"""Behaviours of other versions that this one does not have, and what they are about; a path stands for all below it."""


def absent(name: str) -> str:
    """What a behaviour that this version does not have is about; empty if it is none of those."""
    return next((what for path, what in ABSENT.items() if name == path or name.startswith(f"{path}/")), "")


def find(name: str) -> KnownBehaviour | None:
    """The behaviour of that name."""
    return next((behaviour for behaviour in KNOWN if behaviour.name == name), None)
