#!/bin/sh
# Builds a container image out of the newest package in dist/: `make image`, or `make image BASE=… TAG=…`.
#
# BASE is the builder's: an image that the engine has or can fetch, such as debian:bookworm-slim, or one made of a folder
# that debootstrap wrote (tar -C FOLDER -c . | docker import - NAME). DOCKER may be podman.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
package=${PACKAGE:-$(find dist -name 'nunet-dms_*.deb' | sort | tail -n 1)}
[ -n "$package" ] || {
    printf 'image: there is no package in dist/\n       make one: make deb\n' >&2
    exit 1
}
cp "$package" "$context/nunet-dms.deb"
cp packaging/Containerfile "$context/Dockerfile"
"${DOCKER:-docker}" build --quiet --build-arg "BASE=${BASE:-debian:bookworm-slim}" --tag "${TAG:-nunet-dms}" "$context"
