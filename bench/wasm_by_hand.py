"""What somebody would write to run a compiled program without this project: `python wasm_by_hand.py COMPILED OUTPUT`.

Uses nothing of ours; run as a file so that it imports nothing of ours.
"""

from __future__ import annotations

import sys

import wasmtime


def run_compiled(compiled: str, output: str) -> None:
    """Load, run, leave."""
    engine = wasmtime.Engine()
    module = wasmtime.Module.deserialize_file(engine, compiled)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ("program.wasm",)
    wasi.stdout_file = output
    store = wasmtime.Store(engine)
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    start = linker.instantiate(store, module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    start(store)


if __name__ == "__main__":
    run_compiled(sys.argv[1], sys.argv[2])
