"""``nunet hardware``: what this machine is, and what it does in a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.gpu import ROOT, SysRoot
from dms.cli.options import Context, Format, Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dms.hardware.inventory import Inventory
    from dms.resources.benchmark import Benchmark

app = typer.Typer(name="hardware", help="Show and measure this machine.", no_args_is_help=True)

BENCHMARK = "/dms/node/hardware/benchmark"
BENCHMARK_TIMEOUT_S = 90.0
SHOWN_FEATURES = ("aes", "avx", "avx2", "avx512f", "amx_tile", "sha_ni", "vmx", "svm", "asimd", "sve")


@app.command("show")
def show_(ctx: typer.Context, sysroot: SysRoot = ROOT, output: Output = Format.TABLE) -> None:
    """Show what this machine has, as far as this user may use it: no node is asked.

    Control groups and processor affinity count; the disk is that of the node's work directory.

    Examples:
      nunet hardware show
      nunet hardware show --output json
    """
    import msgspec
    import trio

    from dms.cli.output import clean, print_table, show
    from dms.cli.session import Session
    from dms.hardware.gpus import GPUProbe
    from dms.hardware.machine import MachineProbe

    work_dir = Session.of(ctx).settings.general.work_dir
    probe = MachineProbe(work_dir, root=sysroot, gpus=GPUProbe(root=sysroot))
    try:
        inventory = trio.run(probe.inventory)
    finally:
        probe.close()
    if output is not Format.TABLE:
        show(msgspec.to_builtins(inventory), output)
        return
    for problem in inventory.problems:
        typer.echo(f"Warning: {clean(problem)}", err=True)
    print_table(("PART", "WHAT", "AMOUNT", "DETAIL"), inventory_rows(inventory))


@app.command("bench")
def bench(
    ctx: typer.Context,
    is_stored: Annotated[bool, typer.Option("--stored", help="Measure nothing, show what is stored.")] = False,
    is_here: Annotated[bool, typer.Option("--here", help="Measure without a node, and store nothing.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Measure processors, memory, disk and loopback of the node's machine for some seconds, and store the figures.

    Examples:
      nunet hardware bench
      nunet hardware bench --stored --output json
      nunet hardware bench --here
    """
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.types import gojson
    from dms.types.errors import BadInput

    if is_stored and is_here:
        raise BadInput("--stored and --here exclude each other", hint="give one of them")
    session = Session.of(ctx)
    found: Sequence[Benchmark]
    if is_here:
        import trio

        from dms.resources.measuring import measure

        found = (trio.run(measure, session.settings.general.work_dir),)
    else:
        from dms.cli.client import refused
        from dms.node.machine_payloads import BenchmarkReply, BenchmarkRequest

        reply = session.client(context).call(
            BENCHMARK, BenchmarkRequest(run=not is_stored), BenchmarkReply, timeout_s=BENCHMARK_TIMEOUT_S
        )
        if not reply.ok:
            raise refused(reply.error)
        found = reply.benchmarks
    if output is not Format.TABLE:
        show({"benchmarks": [gojson.to_builtins(one) for one in found]}, output)
        return
    if not found:
        print("This machine was not measured yet")
        return
    print_table(("MEASURED", "VALUE", *(["BEFORE"] if len(found) > 1 else [])), benchmark_rows(found))


def benchmark_rows(found: Sequence[Benchmark]) -> list[tuple[str, ...]]:
    """The newest, and the one before beside it."""
    from datetime import UTC, datetime

    from dms.types.units import format_bytes

    def rate(bytes_per_second: int) -> str:
        return f"{format_bytes(bytes_per_second)}/s" if bytes_per_second else ""

    def delay(seconds: float) -> str:
        return f"{seconds * 1e6:.0f} µs" if seconds else ""

    def when(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

    shown = found[:2]
    return [
        ("at", *(when(one.measured_at) for one in shown)),
        ("processor, one thread", *(rate(one.cpu_single_bps) for one in shown)),
        ("processor, all threads", *(rate(one.cpu_all_bps) for one in shown)),
        ("memory, copied", *(rate(one.memory_copy_bps) for one in shown)),
        ("disk, written", *(rate(one.disk_write_bps) for one in shown)),
        ("disk, read", *(rate(one.disk_read_bps) for one in shown)),
        ("disk, synced", *(delay(one.disk_sync_s) for one in shown)),
        ("loopback, sent", *(rate(one.loopback_bps) for one in shown)),
        ("loopback, there and back", *(delay(one.loopback_rtt_s) for one in shown)),
    ]


def measured_line(found: Benchmark) -> str:
    """The figures in one line."""
    rows = {name: value for name, value, *_ in benchmark_rows((found,))}
    parts = ("processor, all threads", "memory, copied", "disk, written", "disk, read")
    told = (f"{part.replace(',', '')} {rows[part] or 'not known'}" for part in parts)
    return f"Measured {', '.join(told)}"


def inventory_rows(inventory: Inventory) -> list[tuple[str, ...]]:
    """One line for each part."""
    from dms.types.units import format_bytes, format_hertz

    cpu, ram, disk = inventory.processor, inventory.memory, inventory.disk
    features = ", ".join(feature for feature in SHOWN_FEATURES if feature in cpu.features)
    cores = f"{cpu.cores:g} of {cpu.machine_threads} threads at {format_hertz(cpu.clock_hz)}"
    speed = f"{ram.type} {ram.clock_hz // 10**6} MT/s" if ram.clock_hz else ram.type
    rows: list[tuple[str, ...]] = [
        ("processor", cpu.model, cores, ", ".join(filter(None, (cpu.architecture, features)))),
        ("memory", speed, format_bytes(ram.total_bytes), f"{format_bytes(ram.available_bytes)} available"),
        (
            "disk",
            " ".join(filter(None, (disk.vendor, disk.model, disk.interface, disk.type))),
            format_bytes(disk.total_bytes),
            f"{format_bytes(disk.free_bytes)} free, {disk.file_system or 'file system'} of {disk.path}",
        ),
    ]
    rows += [
        (
            f"gpu {gpu.index}",
            f"{gpu.vendor} {gpu.model}",
            format_bytes(gpu.vram_bytes) if gpu.vram_bytes else "shared memory",
            f"{gpu.pci_address} {gpu.driver}",
        )
        for gpu in inventory.gpus
    ]
    rows += [
        (
            "network",
            f"{interface.name} ({interface.kind})",
            f"{interface.speed_bps // 10**6} Mbit/s" if interface.speed_bps else "",
            ", ".join(interface.addresses) if interface.is_up else "down",
        )
        for interface in inventory.interfaces
        if interface.kind != "loopback"
    ]
    return rows
