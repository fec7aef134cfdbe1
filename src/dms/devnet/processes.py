"""The nodes of a local network as processes: started, found, watched, ended.

They are found by their command line, which names the configuration of the node: a number in a file could by now be that
of somebody else's process, and a node that was started again by hand has a new one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from dms.devnet.errors import NodeFailed
from dms.devnet.plan import NodePlan

MODULE, PROGRAM = "dms.cli.main", "nunet"
"""What the command line of a node runs, as a module or as a program."""
START_TIMEOUT_S = 60.0
START_TIMEOUT_PER_NODE_S = 10.0
"""In addition: they share the processors of this machine."""
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0


def start(
    plan: NodePlan, passphrase: str, modules: Sequence[str] = (MODULE,), *, through: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a node in a session of its own; the passphrase travels in its environment.

    ``modules``: what is run, where something else shall run :data:`MODULE`, which is the last then. ``through``: a program
    with its arguments that becomes the node, such as one that takes rights away from it.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("DMS_") and k != "BOOTSTRAP_PEERS"}
    with plan.output_file.open("ab") as output:
        return subprocess.Popen(
            [*through, sys.executable, "-m", *modules, "--config", str(plan.config_file), "run", "--context", "dms"],
            env=inherited | {"DMS_PASSPHRASE": passphrase},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=plan.directory,
        )


def nodes_in(directory: Path) -> dict[Path, psutil.Process]:
    """The nodes that run with a configuration inside ``directory``, by that configuration."""
    inside, found = directory.resolve(), {}
    for process in psutil.process_iter():
        try:
            config = _config_of(process.cmdline())
            if config is None:
                continue
            path = Path(process.cwd(), config).resolve()
            if path.is_relative_to(inside) and process.status() != psutil.STATUS_ZOMBIE:
                found[directory / path.relative_to(inside)] = process
        except (psutil.Error, OSError):
            continue
    return found


def _config_of(command: Sequence[str]) -> str | None:
    """What ``--config`` names in the command line of a node, however it was started."""
    if "run" not in command or not any(MODULE in word or Path(word).name == PROGRAM for word in command[:4]):
        return None
    for word, following in itertools.pairwise(command):
        if word == "--config":
            return following
    return next((word.partition("=")[2] for word in command if word.startswith("--config=")), None)


def await_ready(
    processes: Sequence[tuple[NodePlan, subprocess.Popen[bytes]]], peers: int, *, check: Callable[[], None]
) -> None:
    """Return once every node answers and is connected to at least ``peers`` others; ``check`` may raise at any time.

    :raises NodeFailed: one ended, or takes too long; with the last thing it said.
    """
    limit_s = START_TIMEOUT_S + START_TIMEOUT_PER_NODE_S * len(processes)
    give_up = time.monotonic() + limit_s
    waiting = list(processes)
    while waiting:
        check()
        for plan, process in processes:
            if process.poll() is not None:
                raise NodeFailed(f"{plan.name} ended with code {process.returncode}: {last_words(plan.output_file)}")
        plan, _ = waiting[0]
        health = read_health(plan.rest_port)
        if health is not None and health.get("peers", 0) >= peers:
            waiting.pop(0)
            continue
        if time.monotonic() > give_up:
            why = "does not answer" if health is None else f"is connected to {health.get('peers', 0)} of {peers} nodes"
            raise NodeFailed(
                f"{plan.name} {why} after {limit_s:.0f} s", hint=f"it last said: {last_words(plan.output_file)}"
            )
        time.sleep(POLL_S)


def read_health(port: int) -> dict[str, int] | None:
    """What a node says of its health; ``None`` when it does not answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/api/v1/health")
        response = connection.getresponse()
        body = json.loads(response.read(1 << 16))
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return body if response.status == 200 and isinstance(body, dict) else None


def stop_all(processes: Sequence[psutil.Process], *, grace_s: float = STOP_TIMEOUT_S) -> None:
    """Ask all to stop, insist after ``grace_s``; those that are gone are left alone."""
    alive = list(processes)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        give_up = time.monotonic() + grace_s
        while alive and time.monotonic() < give_up:
            alive = [process for process in alive if _is_alive(process)]
            time.sleep(POLL_S)
        if not alive:
            return


def last_words(path: Path) -> str:
    """The last line that a node wrote; a hint of its own stays behind it."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return "it wrote nothing"
    return " ".join(lines[-2:]) if lines else "it wrote nothing"


def _is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one of our own children is waited for, or it would stay as a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
