"""``nunet onboard`` and ``nunet offboard``: offer this machine, or withdraw it (``spec/execution.md`` 10.4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from dms.cli.client import Client
    from dms.types.resources import Resources

NAMESPACE = "/dms/node/onboarding"
ONBOARD_TIMEOUT_S = 60.0
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
        str, typer.Option("-G", "--gpus", metavar="LIST", help="GPUs and their memory, such as 0:4,1:8.")
    ] = "",
    no_gpu: Annotated[bool, typer.Option("-N", "--no-gpu", help="Offer no GPU.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Offer a part of the machine of the node to the network.

    Examples:
      nunet onboard --cpu 2 --ram 4GiB --disk 10GiB
      nunet onboard --cpu 50% --ram 25% --disk 10%
    """
    from dms.cli.client import refused
    from dms.cli.output import show
    from dms.cli.session import Session
    from dms.node.payloads import OnboardingConfig, OnboardReply, OnboardRequest
    from dms.types import gojson
    from dms.types.units import format_bytes

    client = Session.of(ctx).client(context)
    offer = amounts(cpu, ram, disk, lambda: _machine(client))
    request = OnboardRequest(
        no_gpu=no_gpu, gpus=gpus, config=OnboardingConfig(is_onboarded=True, onboarded_resources=offer)
    )
    reply = client.call(f"{NAMESPACE}/onboard", request, OnboardReply, timeout_s=ONBOARD_TIMEOUT_S)
    if not reply.success:
        raise refused(reply.error)
    if output is not Format.TABLE:
        show(gojson.to_builtins(reply.config), output)
        return
    found = reply.config.onboarded_resources
    print(
        f"Onboarded {found.cpu.cores:g} cores, {format_bytes(found.ram.size)} RAM, {format_bytes(found.disk.size)} disk"
    )


def offboard(ctx: typer.Context, context: Context = None) -> None:
    """Withdraw the machine of the node from the network. It takes no new work from then on.

    Examples:
      nunet offboard
    """
    from dms.cli.client import refused
    from dms.cli.session import Session
    from dms.node.payloads import OffboardReply

    reply = Session.of(ctx).client(context).call(f"{NAMESPACE}/offboard", None, OffboardReply)
    if not reply.success:
        raise refused(reply.error)
    print("Offboarded")


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
    from dms.node.payloads import ResourcesReply

    reply = client.call("/dms/node/hardware/spec", None, ResourcesReply)
    if not reply.ok:
        raise refused(reply.error)
    return reply.resources
