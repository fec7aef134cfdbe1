"""Files that a workload is given: an ensemble brings them with a script that writes them before the workload starts."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from pathlib import Path

NEEDS = "a script writes the file before the workload starts; the image needs a shell"
MAX_FILES_BYTES = 256 * 1024
"""All files of one script; a whole ensemble has to fit into one message."""
_END = "END-OF-FILE"


def writing_script(files: Mapping[str, str | bytes]) -> str:
    """A shell script that writes the files, by absolute path; text as text, bytes through ``base64``."""
    lines = ["#!/bin/sh", "set -eu"]
    for path, content in files.items():
        lines.append(f"mkdir -p {shlex.quote(path.rpartition('/')[0] or '/')}")
        if isinstance(content, bytes):
            encoded = base64.b64encode(content).decode("ascii")
            lines.append(f"printf %s {shlex.quote(encoded)} | base64 -d >{shlex.quote(path)}")
        else:
            lines.append(f"printf %s {shlex.quote(content)} >{shlex.quote(path)}")
    return "\n".join(lines) + "\n"


def including_script(path: str, placeholder: str) -> str:
    """A script that writes what a placeholder stands for; the content is known only when the ensemble is deployed."""
    return "\n".join(
        (
            "#!/bin/sh",
            "set -eu",
            f"mkdir -p {shlex.quote(path.rpartition('/')[0] or '/')}",
            f"cat >{shlex.quote(path)} <<'{_END}'",
            placeholder,
            _END,
            "",
        )
    )


def read_beside(base: Path, path: str) -> bytes | None:
    """What stands in a file below ``base``, cut soon after :data:`MAX_FILES_BYTES`; nothing where there is none to be had."""
    try:
        directory = base.resolve()
        found = (directory / path).resolve()
        if not path or not found.is_relative_to(directory) or not found.is_file():
            return None
        with found.open("rb") as file:
            return file.read(MAX_FILES_BYTES + 1)
    except (OSError, ValueError, RuntimeError):
        return None
