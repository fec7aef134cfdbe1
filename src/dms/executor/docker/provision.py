"""Provision scripts: what runs in a container before the workload (``spec/execution.md`` 2.5).

They lie in a directory of their own, mounted read-only; a runner executes them in their order and then *becomes* the
workload, whose arguments are passed on as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dms.executor.docker.params import DockerParams
from dms.executor.errors import InvalidEngineSpec

PROVISION_RUNNER = "run_provision_scripts.sh"


def effective_command(params: DockerParams, image: Mapping[str, Any]) -> tuple[str, ...]:
    """What would run without provision scripts: given parts win over the image's, and an entrypoint that is given
    cancels the image's command.

    :raises InvalidEngineSpec: nothing would.
    """
    own = image.get("Config") or {}
    entrypoint = params.entrypoint or tuple(own.get("Entrypoint") or ())
    cmd = params.cmd or (() if params.entrypoint else tuple(own.get("Cmd") or ()))
    if not entrypoint + cmd:
        raise InvalidEngineSpec(f"the image {params.image} has no command of its own", hint="give cmd or entrypoint")
    return entrypoint + cmd


def provision_files(scripts: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """The files of the scripts directory: the scripts in their order, and the runner."""
    files = {
        f"{index:03d}-{re.sub(r'[^a-zA-Z0-9_.-]', '-', name)[:64]}": body for index, (name, body) in enumerate(scripts)
    }
    lines = ["#!/bin/sh", 'here=$(dirname "$0")']
    for (name, _), file in zip(scripts, files, strict=True):
        shown = re.sub(r"[^a-zA-Z0-9_. -]", "-", name)[:64]
        lines += [f'echo "provision: {shown}"', f'"$here/{file}" || exit $?']
    files[PROVISION_RUNNER] = "\n".join([*lines, 'exec "$@"', ""]).encode()
    return files
