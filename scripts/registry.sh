# Sourced by setup.sh and lock.sh: lets uv fetch packages from wherever pip is set up to fetch them.
#
# uv reads neither PIP_* variables nor pip.conf, so a machine behind a mirror, a proxy or a private certificate
# authority would work with pip and fail with uv. Whatever uv is told by its own variables wins.
# shellcheck shell=sh

# use_pip_settings [PIP…]: PIP is the command that runs pip, absent where there is none.
use_pip_settings() {
    pip_config=''
    [ "$#" -eq 0 ] || pip_config=$("$@" config list 2>/dev/null) || pip_config=''

    default_to UV_DEFAULT_INDEX "${UV_INDEX_URL:-$(pip_setting index-url "${PIP_INDEX_URL:-}")}"
    # shellcheck disable=SC2046 # several, apart by spaces
    default_to UV_INDEX "${UV_EXTRA_INDEX_URL:-$(reachable $(pip_setting extra-index-url "${PIP_EXTRA_INDEX_URL:-}"))}"
    # shellcheck disable=SC2046
    default_to UV_FIND_LINKS "$(reachable $(pip_setting find-links "${PIP_FIND_LINKS:-}") | tr -s ' ' ',')"
    default_to UV_INSECURE_HOST "$(pip_setting trusted-host "${PIP_TRUSTED_HOST:-}")"
    default_to UV_HTTP_TIMEOUT "$(pip_setting default-timeout "${PIP_DEFAULT_TIMEOUT:-}")"
    default_to SSL_CERT_FILE "$(pip_setting cert "${PIP_CERT:-}")"
    default_to ALL_PROXY "$(pip_setting proxy "${PIP_PROXY:-}")"
    default_to UV_HTTP_RETRIES 5
    # pip takes the best candidate of all indexes; uv stops at the first index that knows the name. Every package
    # is held by its hash, so looking further cannot let in a package that was not meant.
    default_to UV_INDEX_STRATEGY unsafe-best-match
    unset UV_INDEX_URL UV_EXTRA_INDEX_URL
}

# pip_setting NAME ENVIRONMENT: prints the value of the environment, else that of pip's configuration files.
pip_setting() {
    if [ -n "$2" ]; then
        printf '%s\n' "$2"
        return
    fi
    printf '%s\n' "$pip_config" | sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" | head -n 1 | sed 's/\\n/ /g; s/^ *//; s/ *$//'
}

# reachable LOCATION…: prints those that are not folders missing from this machine; pip passes over them, uv fails.
reachable() {
    kept=''
    for location in "$@"; do
        case ${location#file://} in
            *://*) ;;
            *) [ -e "${location#file://}" ] || continue ;;
        esac
        kept="$kept $location"
    done
    printf '%s\n' "${kept# }"
}

# default_to NAME VALUE: exports NAME with VALUE where it has none yet and VALUE is something.
default_to() {
    eval "[ -z \"\${$1:-}\" ]" || return 0
    [ -n "$2" ] || return 0
    eval "$1=\$2; export $1"
}
