#!/bin/sh
# Builds every .c file of this directory into a .wasm file beside it (WASI preview 1), or of the directory given.
# The same compiler gives the same bytes.
set -eu
cd "${1:-$(dirname "$0")}"

packages="clang lld wasi-libc libclang-rt-14-dev-wasm32"
if ! command -v clang >/dev/null || ! command -v wasm-ld >/dev/null || [ ! -e /usr/include/wasm32-wasi/stdio.h ]; then
    echo "build.sh: a compiler for WebAssembly is missing. On Debian:" >&2
    echo "    apt-get install -y $packages" >&2
    exit 1
fi

for source in *.c; do
    program=${source%.c}.wasm
    clang --target=wasm32-wasi --sysroot=/usr -std=gnu17 -Wall -Wextra -Werror -Os -s -o "$program" "$source"
    chmod 644 "$program"
    echo "$program: $(wc -c <"$program") bytes"
done
