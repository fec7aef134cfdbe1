"""What ``nunet actor cmd`` knows of the behaviours of a node: their flags, and the payloads made of them.

A behaviour that is not here can be called all the same, with ``--payload``. See ``spec/security.md`` 6.3 for the flags,
``spec/orchestration.md`` 2 for the payloads.
"""

from __future__ import annotations

from collections.abc import Mapping

from dms.cli.behaviour_flags import Flag, Flags, KnownBehaviour
from dms.cli.capability_behaviours import CAPABILITIES
from dms.cli.deployment_behaviours import DEPLOYMENTS
from dms.cli.settings_behaviours import SETTINGS
from dms.cli.update_behaviours import UPDATES
from dms.cli.volume_behaviours import VOLUMES
from dms.cli.watching_behaviours import WATCHING
from dms.types.units import parse_bytes

__all__ = ["ABSENT", "AMONG_NODES", "KNOWN", "Flag", "KnownBehaviour", "absent", "find"]


def _onboard(flags: Flags) -> object:
    from dms.node.machine_payloads import OnboardingConfig, OnboardRequest
    from dms.types.resources import CPU, RAM, Disk, Resources

    offer = Resources(
        cpu=CPU(cores=flags["cpu"]),
        ram=RAM(size=parse_bytes(flags["ram"], what="ram")),
        disk=Disk(size=parse_bytes(flags["disk"], what="disk")),
    )
    config = OnboardingConfig(is_onboarded=True, onboarded_resources=offer)
    return OnboardRequest(no_gpu=flags["no_gpu"], gpus=flags["gpus"] or "", config=config)


def _benchmark(flags: Flags) -> object:
    from dms.node.machine_payloads import BenchmarkRequest

    return BenchmarkRequest(run=bool(flags["run"]))


def _ping(flags: Flags) -> object:
    from dms.node.peer_payloads import PingRequest

    return PingRequest(host=flags["host"])


def _connect(flags: Flags) -> object:
    from dms.node.peer_payloads import ConnectRequest

    return ConnectRequest(address=flags["address"])


def _doctor_work(flags: Flags) -> object:
    from dms.node.doctor_payloads import DoctorRequest

    return DoctorRequest(hours=flags["hours"] or 0)


def _doctor_network(flags: Flags) -> object:
    from dms.node.doctor_payloads import NetworkRequest

    return NetworkRequest(quick=bool(flags["quick"]))


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
    from dms.node.machine_payloads import AllocationRequest

    return AllocationRequest(allocation_id=flags["id"])


def _vm_stop(flags: Flags) -> object:
    from dms.node.vm_payloads import StopRequest

    return StopRequest(execution_id=flags["id"])


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
    *DEPLOYMENTS,
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
    *CAPABILITIES,
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
