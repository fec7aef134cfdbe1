#!/bin/sh
# Builds the .wasm of every .c (WASI preview 1) and, of probe.wasm, probe.component.wasm (WASI 0.2): the same program behind the adapter
# that belongs to Wasmtime, as jco carries it. The same versions give the same bytes: Debian's clang 14, jco 1.35.0.
set -eu
cd "$(dirname "$0")"

sh ../../examples/programs/build.sh "$PWD"
npx --yes @bytecodealliance/jco@1.35.0 new probe.wasm --wasi-command -o probe.component.wasm
chmod 644 probe.component.wasm
