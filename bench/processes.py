"""Child processes and what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

PYTHON = sys.executable
NUNET = str(Path(sys.executable).with_name("nunet"))


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process from its start to its end; memory is what was resident at the end, where that was asked for."""

    wall_s: float
    cpu_s: float
    memory_bytes: int = 0


class ChildFailed(Exception):
    """What was to be measured did not work, so its time means nothing."""


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, stdout: Path | None = None) -> Cost:
    """Run a command to its end, its output dropped or written to ``stdout``.

    :raises ChildFailed: it ended with another code than 0.
    """
    with (stdout or Path(os.devnull)).open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ChildFailed(f"{' '.join(command[:4])} ended with code {process.returncode}: {said.strip()[-300:]}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime)


def run_python(code: str) -> Cost:
    """Run some Python to its end, and have it tell its resident memory (``ru_maxrss`` would tell ours, too).

    :raises ChildFailed: it failed.
    """
    with tempfile.NamedTemporaryFile() as told:
        tell = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
        cost = run([PYTHON, "-c", f"{code}\n{tell}"], stdout=Path(told.name))
        return replace(cost, memory_bytes=int(told.read()) * 1024)


def clean_environment(**more: str) -> dict[str, str]:
    """Ours without what would redirect a node or a command."""
    return {k: v for k, v in os.environ.items() if not k.startswith("DMS_")} | more
