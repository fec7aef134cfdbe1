#!/bin/sh
# Every check that needs no test to run: `make check`. Runs all of them and names those that failed at the end.
set -u
unset CDPATH
cd "$(dirname "$0")/.." || exit 1
failed=''

check() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed="$failed, $name"
}

check lint .venv/bin/ruff check
check formatting .venv/bin/ruff format --check
check types .venv/bin/mypy src tests scripts bench
check layers .venv/bin/lint-imports
check reference .venv/bin/python scripts/reference.py --check
check hygiene .venv/bin/python scripts/hygiene.py

if [ -n "$failed" ]; then
    printf '\nfailed: %s\n' "${failed#, }"
    exit 1
fi
printf '\nall checks passed\n'
