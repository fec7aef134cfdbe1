#!/bin/sh
# Writes requirements/*.txt anew out of pyproject.toml: `make lock`, or `make lock ARGS=--upgrade`.
#
# One resolution for every supported Python and platform, each file held by hashes. Addresses of registries are left
# out: where packages come from is the machine's business. What is pinned stays pinned unless --upgrade is given.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."
# shellcheck source=scripts/registry.sh
. scripts/registry.sh

if .venv/bin/python -m pip --version >/dev/null 2>&1; then
    use_pip_settings .venv/bin/python -m pip
else
    use_pip_settings
fi
# Mirrors beside the main index and folders of wheels hold a part of a release's files; a lock made from them would
# leave out the hashes of the others.
unset UV_INDEX UV_FIND_LINKS

compile() {
    output=$1
    shift
    .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links --output-file "requirements/$output" "$@"
}

compile runtime.txt pyproject.toml "$@"
compile dev.txt pyproject.toml --group dev "$@"
# These are installed into the same environment: they may not ask for other versions.
compile docs.txt --group docs --constraint requirements/dev.txt "$@"
compile package.txt --group package --constraint requirements/dev.txt "$@"
compile bench.txt --group bench --constraint requirements/dev.txt "$@"
