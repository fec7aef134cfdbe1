"""``nunet onboard`` and ``nunet offboard``: offer this machine, or withdraw it (``spec/execution.md`` 10.4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dms.cli.client import Client
    from dms.resources.benchmark import Benchmark
    from dms.types.resources import GPU, Resources

NAMESPACE = "/dms/node/onboarding"
ONBOARD_TIMEOUT_S = 60.0
STORED_TIMEOUT_S = 5.0
"""For the figures that a node has stored."""

HALF = 50


def onboard(
    ctx: typer.Context,
    cpu: Annotated[str, typer.Option("-C", "--cpu", metavar="CORES", help="Cores, or a share such as 50%.")],
    ram: Annotated[
        str, typer.Option("-R", "--ram", metavar="SIZE", help="Memory such as 4GiB (GiB when bare), or a share.")
    ],
    disk: Annotated[
        str, typer.Option("-D", "--disk", metavar="SIZE", help="Disk such as 10GiB (GiB when bare), or a share.")
    ],
    gpus: Annotated[
        str, typer.Option("-G", "--gpus", metavar="LIST", help="GPUs and their memory, such as 0:4,1:8 or 0:50%.")
    ] = "",
    no_gpu: Annotated[bool, typer.Option("-N", "--no-gpu", help="Offer no GPU, and do not ask.")] = False,
    is_measured: Annotated[
        bool, typer.Option("--benchmark/--no-benchmark", help="Measure the machine, unless it was before.")
    ] = True,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Offer a part of the machine of the node to the network.

    GPUs are offered by index and memory (GiB when bare, or a share); nunet gpu list shows the indexes. Without --gpus
    and --no-gpu a terminal is asked, if the machine has any.

    Examples:
      nunet onboard --cpu 2 --ram 4GiB --disk 10GiB
      nunet onboard --cpu 50% --ram 25% --disk 10% --no-gpu
      nunet onboard --cpu 4 --ram 16GiB --disk 100GiB --gpus 0:8,1:50%
    """
    from dms.cli.client import refused
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.node.machine_payloads import OnboardingConfig, OnboardReply, OnboardRequest
    from dms.resources.offer import shortfalls
    from dms.types import gojson
    from dms.types.errors import BadInput

    if gpus and no_gpu:
        raise BadInput("--gpus and --no-gpu exclude each other", hint="give one of them")
    client = Session.of(ctx).client(context)
    offer = amounts(cpu, ram, disk, lambda: _machine(client))
    if not gpus and not no_gpu:
        gpus = _asked_gpus(_machine(client).gpus)
        no_gpu = not gpus
    request = OnboardRequest(
        no_gpu=no_gpu, gpus=gpus, config=OnboardingConfig(is_onboarded=True, onboarded_resources=offer)
    )
    reply = client.call(f"{NAMESPACE}/onboard", request, OnboardReply, timeout_s=ONBOARD_TIMEOUT_S)
    if not reply.success:
        raise refused(reply.error)
    offered = reply.config.onboarded_resources
    little = shortfalls(offered)
    benchmark = _benchmark(client) if is_measured else None
    if output is not Format.TABLE:
        document = gojson.to_builtins(reply.config)
        document["below_minimum"] = list(little)
        document["benchmark"] = None if benchmark is None else gojson.to_builtins(benchmark)
        show(document, output)
        return
    print(_summary(offered))
    for text in little:
        typer.echo(f"Warning: {text}", err=True)
    if benchmark is not None:
        from dms.cli.hardware import measured_line

        print(measured_line(benchmark))


def offboard(ctx: typer.Context, context: Context = None) -> None:
    """Withdraw the machine of the node from the network. It takes no new work from then on.

    Examples:
      nunet offboard
    """
    from dms.cli.client import refused
    from dms.cli.session import Session
    from dms.node.machine_payloads import OffboardReply

    reply = Session.of(ctx).client(context).call(f"{NAMESPACE}/offboard", None, OffboardReply)
    if not reply.success:
        raise refused(reply.error)
    print("Offboarded")


def _summary(offered: Resources) -> str:
    from dms.types.units import format_bytes

    cores, ram, disk = offered.cpu.cores, format_bytes(offered.ram.size), format_bytes(offered.disk.size)
    gpus = "".join(f", GPU {gpu.index} with {format_bytes(gpu.vram)}" for gpu in offered.gpus)
    return f"Onboarded {cores:g} cores, {ram} RAM, {disk} disk{gpus}"


def _asked_gpus(there: Sequence[GPU]) -> str:
    """What whoever sits at the terminal offers of them; a script is told how to."""
    import sys

    from dms.cli.output import clean
    from dms.types.units import format_bytes

    if not there:
        return ""
    for gpu in there:
        typer.echo(f"GPU {gpu.index}: {clean(f'{gpu.vendor} {gpu.model}')}, {format_bytes(gpu.vram)}", err=True)
    if not sys.stdin.isatty():
        typer.echo(f"No GPU is offered; --gpus {there[0].index}:90% would offer the first", err=True)
        return ""
    typer.echo("Offer which, and how much memory of each (such as 0:4,1:50%; empty: none)? ", nl=False, err=True)
    return sys.stdin.readline().strip()


def _benchmark(client: Client) -> Benchmark | None:
    """The figures of the machine, measured now where they never were; that this fails is told and no failure."""
    from dms.cli.hardware import BENCHMARK, BENCHMARK_TIMEOUT_S
    from dms.node.machine_payloads import BenchmarkReply, BenchmarkRequest
    from dms.types.errors import DMSError

    try:
        for run, timeout_s in ((False, STORED_TIMEOUT_S), (True, BENCHMARK_TIMEOUT_S)):
            reply = client.call(BENCHMARK, BenchmarkRequest(run=run), BenchmarkReply, timeout_s=timeout_s)
            if reply.benchmarks or not reply.ok:
                break
    except DMSError as exc:
        typer.echo(f"Warning: the machine was not measured: {exc.message}", err=True)
        return None
    if not reply.ok:
        typer.echo(f"Warning: the machine was not measured: {reply.error}", err=True)
    return reply.benchmarks[0] if reply.benchmarks else None


def amounts(cpu: str, ram: str, disk: str, machine: Callable[[], Resources]) -> Resources:
    """What the flags stand for; ``machine`` is asked only where a share is given.

    :raises BadInput: no number, or nothing.
    """
    from dms.types.errors import BadInput
    from dms.types.resources import CPU, RAM, Disk, Resources
    from dms.types.units import parse_bytes

    whole = machine() if any(text.strip().endswith("%") for text in (cpu, ram, disk)) else Resources()
    cores = _share(cpu, whole.cpu.cores, "cpu")
    if cores is None:
        try:
            cores = float(cpu)
        except ValueError:
            raise BadInput(
                f'invalid cpu value: "{cpu}"', hint="write cores, such as 2 or 1.5, or a share, such as 50%"
            ) from None
    ram_bytes = _share(ram, whole.ram.size, "ram")
    disk_bytes = _share(disk, whole.disk.size, "disk")
    offer = Resources(
        cpu=CPU(cores=round(cores, 2)),
        ram=RAM(size=int(parse_bytes(ram, what="ram") if ram_bytes is None else ram_bytes)),
        disk=Disk(size=int(parse_bytes(disk, what="disk") if disk_bytes is None else disk_bytes)),
    )
    if not (offer.cpu.cores > 0 and offer.ram.size > 0 and offer.disk.size > 0):
        raise BadInput("cpu, ram and disk must all be more than nothing")
    return offer


def _share(text: str, whole: float, what: str) -> float | None:
    from dms.types.errors import BadInput

    if not text.strip().endswith("%"):
        return None
    try:
        percent = float(text.strip()[:-1])
    except ValueError:
        percent = -1.0
    if not 0 < percent <= 100:
        raise BadInput(f'invalid {what} value: "{text}"', hint="a share lies between 0% and 100%")
    share = whole * percent / 100
    if isinstance(whole, int):  # bytes; towards the middle, so that a share at the node's own limit is not beyond it
        return math.ceil(share) if percent < HALF else math.floor(share)
    return share


def _machine(client: Client) -> Resources:
    from dms.cli.client import refused
    from dms.node.machine_payloads import ResourcesReply

    reply = client.call("/dms/node/hardware/spec", None, ResourcesReply)
    if not reply.ok:
        raise refused(reply.error)
    return reply.resources
