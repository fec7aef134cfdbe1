"""``nunet gpu``: the graphics processors of this machine (``spec/execution.md`` 10.5). No node is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dms.cli.options import Format, Output

if TYPE_CHECKING:
    from dms.hardware.gpu import GPUs
    from dms.hardware.gpu_check import GPUCheck

app = typer.Typer(name="gpu", help="List and test the GPUs of this machine.", no_args_is_help=True)

SysRoot = Annotated[
    Path, typer.Option("--sysroot", metavar="DIR", help="Look below DIR, such as where a container sees its host.")
]
ROOT = Path("/")
COLUMNS = ("INDEX", "VENDOR", "MODEL", "VRAM", "USED", "PCI ADDRESS", "UUID", "CORES", "DRIVER")
VERDICTS = {True: "passed", False: "FAILED", None: "skipped"}


@app.command("list")
def list_(sysroot: SysRoot = ROOT, output: Output = Format.TABLE) -> None:
    """List the GPUs that the drivers of this machine tell of: memory, address, identity.

    Examples:
      nunet gpu list
      nunet gpu list --output json
    """
    from dms.cli.output import print_table, show
    from dms.types.units import format_bytes

    gpus = _find(sysroot)
    if output is not Format.TABLE:
        import msgspec

        show({"gpus": msgspec.to_builtins(gpus.found), "problems": list(gpus.problems)}, output)
        return
    _tell_problems(gpus)
    if not gpus.found:
        print("No GPU found")
        return
    rows = [
        (
            str(gpu.index),
            gpu.vendor,
            gpu.model,
            format_bytes(gpu.vram_bytes) if gpu.vram_bytes else "shared",
            format_bytes(gpu.vram_used_bytes) if gpu.vram_bytes else "",
            gpu.pci_address,
            gpu.uuid,
            "" if gpu.cores is None else str(gpu.cores),
            gpu.driver,
        )
        for gpu in gpus.found
    ]
    print_table(COLUMNS, rows)


@app.command("test")
def run_test(
    index: Annotated[
        int | None, typer.Argument(metavar="[INDEX]", help="Which GPU; else the one with the most memory.")
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    sysroot: SysRoot = ROOT,
    output: Output = Format.TABLE,
) -> None:
    """Test a GPU: its driver, its device nodes, the vendor's tools, and its memory, which it fills and gives back.

    What is not installed is skipped. The test fails when a part fails, or when nothing could use the GPU at all.

    Examples:
      nunet gpu test
      nunet gpu test 1
      nunet gpu test --all --output json
    """
    from dms.cli.output import clean, print_table, show
    from dms.hardware.errors import GPUFailed

    checks, problems = _test(index, sysroot, is_all=is_all)
    if output is not Format.TABLE:
        import msgspec

        show({"tests": msgspec.to_builtins(checks), "problems": list(problems)}, output)
    else:
        for check in checks:
            print(f"GPU {check.gpu.index}: {clean(f'{check.gpu.vendor} {check.gpu.model}')} {check.gpu.pci_address}")
            print_table(("TEST", "RESULT", "DETAIL"), [(s.name, VERDICTS[s.passed], s.detail) for s in check.steps])
    if failed := [str(check.gpu.index) for check in checks if not check.passed]:
        reasons = [f"{s.name}: {s.detail}" for c in checks for s in c.steps if s.passed is False]
        told = reasons[0] if reasons else "nothing that is installed could use it"
        raise GPUFailed(f"GPU {', '.join(failed)} failed: {clean(told)}")


def _find(root: Path) -> GPUs:
    import trio

    from dms.hardware.gpus import GPUProbe

    probe = GPUProbe(root=root)
    try:
        return trio.run(probe.gpus)
    finally:
        probe.close()


def _test(index: int | None, root: Path, *, is_all: bool) -> tuple[list[GPUCheck], tuple[str, ...]]:
    """Test those that are meant; beside them, what stood in the way of finding more.

    :raises NoGPU: there is none.
    """
    import trio

    from dms.hardware.errors import NoGPU
    from dms.hardware.gpu_check import check_gpu

    gpus = _find(root)
    _tell_problems(gpus)
    found = [gpu for gpu in gpus.found if index is None or gpu.index == index]
    if not found:
        raise NoGPU("there is no GPU on this machine" if index is None else f"there is no GPU {index} on this machine")
    if not is_all:
        found = [max(found, key=lambda gpu: gpu.vram_bytes)]

    async def check() -> list[GPUCheck]:
        return [await check_gpu(gpu) for gpu in found]

    return trio.run(check), gpus.problems


def _tell_problems(gpus: GPUs) -> None:
    from dms.cli.output import clean

    for problem in gpus.problems:
        typer.echo(f"Warning: {clean(problem)}", err=True)
