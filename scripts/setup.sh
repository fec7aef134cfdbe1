#!/bin/sh
# Leaves a .venv from which everything of this project runs: `scripts/setup.sh`, or `make setup`.
#
#     scripts/setup.sh          the project, editable, with what it needs to run and to be developed
#     scripts/setup.sh docs     the above, and what builds the manual
#     scripts/setup.sh bench    the first, and what the benchmarks compare with
#     scripts/setup.sh package  the first, and what writes the Debian package
#
# Needs git, make and a Python of at least 3.11; neither pip, python3-venv, a compiler nor root. Every package is
# pinned by hash in requirements/. PYTHON=… chooses the interpreter. Does nothing, at once, when nothing changed.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."
root=$(pwd -P)
venv_python="$root/.venv/bin/python"
bootstrap="$root/.venv/bootstrap"

main() {
    if up_to_date dev; then
        [ -n "${1:-}" ] || return 0
        up_to_date "$1" && return 0
    fi
    # One setup at a time: make targets that run side by side in one checkout all come through here.
    # The lock is held by the open file and ends with this process, however it ends.
    exec 9<pyproject.toml
    if command -v flock >/dev/null; then flock 9; fi

    if ! up_to_date dev; then install_dev; fi
    if [ -n "${1:-}" ] && ! up_to_date "$1"; then install_more "$1"; fi
}

# --- what is there already -------------------------------------------------------------------------------------

# The stamp names all that an installation depends on. The path is part of it: scripts in a virtual environment name
# their interpreter by absolute path, so a checkout that was moved or copied needs a new one.
fingerprint() {
    version=$("$venv_python" -I -S -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null) || return 1
    { printf '%s\n' "$root" "$version"; cat "requirements/$1.txt" pyproject.toml scripts/setup.sh; } | sha256sum | cut -c1-64
}

up_to_date() {
    [ -f ".venv/stamp-$1" ] && [ -x .venv/bin/nunet ] || return 1
    now=$(fingerprint "$1") && [ "$now" = "$(cat ".venv/stamp-$1")" ]
}

usable_venv() {
    [ "$(cat .venv/home 2>/dev/null)" = "$root" ] || return 1
    is_recent "$venv_python" || return 1
    [ -z "${PYTHON:-}" ] || [ "$(minor "$PYTHON")" = "$(minor "$venv_python")" ]
}

minor() { "$1" -I -S -c 'import sys; print(*sys.version_info[:2])'; }

# --- installing ------------------------------------------------------------------------------------------------

install_dev() {
    rm -f .venv/stamp-dev
    usable_venv || create_venv
    find_installer
    say "installing the pinned packages"
    # Two dependencies exist as source only; they are pure Python and are built by the pinned setuptools, so that
    # nothing unpinned is fetched and nothing is compiled.
    pinned uv setuptools >.venv/bootstrap.txt
    install_first .venv/bootstrap.txt
    uv_install --require-hashes --only-binary :all: \
        --no-binary varint --no-binary python-baseconv \
        --no-build-isolation-package varint --no-build-isolation-package python-baseconv \
        -r requirements/dev.txt
    uv_install --no-deps --no-build-isolation --editable .
    # trio-typing, which libp2p needs, brings stubs of a trio of years ago; they would hide trio's own types.
    rm -rf .venv/lib/python*/site-packages/trio-stubs
    rm -rf .venv/bootstrap.txt "$bootstrap"
    fingerprint dev >.venv/stamp-dev
    say "ready: .venv/bin/nunet ($("$venv_python" --version))"
}

install_more() {
    find_installer
    say "installing what is needed for $1"
    uv_install --require-hashes --only-binary :all: -r "requirements/$1.txt"
    rm -rf "$bootstrap"
    fingerprint "$1" >".venv/stamp-$1"
}

create_venv() {
    python=$(choose_python) || fail "no Python of version 3.11 or newer was found" \
        "install one (Debian: apt-get install python3) or name it: make setup PYTHON=/path/to/python3"
    say "creating .venv with $("$python" --version) ($python)"
    rm -rf .venv
    # Debian ships ensurepip apart from Python, in python3-venv. Without it a bare environment is made.
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        "$python" -m venv --without-pip .venv || fail "$python cannot make virtual environments" \
            "install its venv module (Debian: apt-get install python3-venv)"
    fi
    printf '%s\n' "$root" >.venv/home
}

choose_python() {
    # shellcheck disable=SC2086 # PYTHON may be several names
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        path=$(command -v "$candidate") || continue
        if is_recent "$path"; then
            printf '%s\n' "$path"
            return
        fi
    done
    return 1
}

# Being there is not enough: version managers leave names on PATH that do not run.
is_recent() { "$1" -I -S -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Finds something that can put the first package into .venv: sets $first (pip, uv) and $pip (the command).
find_installer() {
    if "$venv_python" -m pip --version >/dev/null 2>&1; then
        set -- "$venv_python" -m pip
    elif [ -n "${python:-}" ] && "$python" -m pip --python "$venv_python" --version >/dev/null 2>&1; then
        set -- "$python" -m pip --python "$venv_python"
    elif [ -x .venv/bin/uv ] || command -v uv >/dev/null; then
        set --
    elif pip_wheel=$(fetch_pip_from_apt); then
        set -- "$venv_python" "$pip_wheel/pip"
    else
        fail "this Python has neither pip nor the means to get it" \
            "install python3-venv (Debian: apt-get install python3-venv) or uv, then run this again"
    fi
    # shellcheck source=scripts/registry.sh
    . scripts/registry.sh
    use_pip_settings "$@"
    if [ "$#" -gt 0 ]; then
        printf '#!/bin/sh\nexec' >.venv/first-pip
        printf " '%s'" "$@" >>.venv/first-pip
        printf ' "$@"\n' >>.venv/first-pip
        chmod +x .venv/first-pip
    else
        rm -f .venv/first-pip
    fi
}

# Gets pip's wheel out of a Debian package, with apt's state in a folder of our own: neither root nor any change to
# the machine is needed. Prints the wheel's path.
fetch_pip_from_apt() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    say "fetching pip with apt-get into .venv (python3-venv is not installed)" >&2
    rm -rf "$bootstrap"
    mkdir -p "$bootstrap/lists/partial" "$bootstrap/cache/archives/partial"
    for attempt in 1 2 3; do
        if private_apt update && (cd "$bootstrap" && private_apt download python3-pip-whl); then break; fi
        [ "$attempt" = 3 ] && return 1
        sleep 5
    done
    dpkg-deb -x "$bootstrap"/python3-pip-whl_*.deb "$bootstrap/unpacked" || return 1
    set -- "$bootstrap"/unpacked/usr/share/python-wheels/pip-*.whl
    [ -f "$1" ] && printf '%s\n' "$1"
}

private_apt() {
    apt-get -qq -o Dir::State::lists="$bootstrap/lists" -o Dir::Cache="$bootstrap/cache" -o APT::Sandbox::User= \
        -o APT::Update::Post-Invoke::= -o APT::Update::Post-Invoke-Success::= -o Debug::NoLocking=1 "$@" >&2
}

# pinned NAME…: prints the lines of these packages, hashes and all.
pinned() {
    names=$(printf '|%s' "$@")
    awk -v names="^(${names#|})==" '/^[^ #]/ { keep = $0 ~ names } keep' requirements/dev.txt
}

install_first() {
    if [ -x .venv/first-pip ]; then
        .venv/first-pip install --quiet --no-input --disable-pip-version-check --no-warn-script-location \
            --require-hashes --no-deps --only-binary :all: -r "$1"
        rm -f .venv/first-pip
    else
        uv_install --require-hashes --no-deps --only-binary :all: -r "$1"
    fi
}

uv_install() {
    uv=.venv/bin/uv
    [ -x "$uv" ] || uv=uv
    UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 UV_LINK_MODE="${UV_LINK_MODE:-copy}" \
        "$uv" pip install --quiet --python "$venv_python" "$@"
}

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: %s\n       %s\n' "$1" "$2" >&2
    exit 1
}

main "$@"
