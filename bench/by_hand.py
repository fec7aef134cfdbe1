"""What somebody would write to run one program without this project: `python by_hand.py MODULE DIRECTORY OUTPUT`.

The directory becomes ``/text`` of the program. Uses nothing of ours; run as a file so that it imports nothing of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

import wasmtime

ARGUMENTS = ("-n", "10", "/text")


def compile_module(module: Path) -> tuple[wasmtime.Engine, wasmtime.Module]:
    """What must be done once."""
    engine = wasmtime.Engine()
    return engine, wasmtime.Module.from_file(engine, str(module))


def run_module(engine: wasmtime.Engine, module: wasmtime.Module, directory: Path, output: Path) -> None:
    """What must be done each time."""
    wasi = wasmtime.WasiConfig()
    wasi.argv = ("program.wasm", *ARGUMENTS)
    wasi.preopen_dir(str(directory), "/text")
    wasi.stdout_file = str(output)
    store = wasmtime.Store(engine)
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    start = linker.instantiate(store, module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        if end.code:
            raise


if __name__ == "__main__":
    run_module(*compile_module(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
