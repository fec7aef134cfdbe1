"""The nodes of a local network as processes: started, watched, ended. A process is known by its id *and* its start time,
so that an id which the system gave to somebody else since is left alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from dms.devnet.errors import NodeFailed
from dms.devnet.plan import NodePlan

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0


def start(plan: NodePlan, passphrase: str) -> subprocess.Popen[bytes]:
    """Start a node in a session of its own; the passphrase travels in its environment."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("DMS_") and k != "BOOTSTRAP_PEERS"}
    with plan.output_file.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "dms.cli.main", "--config", str(plan.config_file), "run", "--context", "dms"],
            env=inherited | {"DMS_PASSPHRASE": passphrase},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=plan.directory,
        )


def await_ready(processes: Sequence[tuple[NodePlan, subprocess.Popen[bytes]]], peers: int) -> None:
    """Return once every node answers and is connected to at least ``peers`` others.

    :raises NodeFailed: one ended, or takes too long; with the last thing it said.
    """
    give_up = time.monotonic() + START_TIMEOUT_S
    waiting = list(processes)
    while waiting:
        plan, process = waiting[0]
        if process.poll() is not None:
            raise NodeFailed(f"{plan.name} ended with code {process.returncode}: {last_words(plan.output_file)}")
        health = read_health(plan.rest_port)
        if health is not None and health.get("peers", 0) >= peers:
            waiting.pop(0)
            continue
        if time.monotonic() > give_up:
            why = "does not answer" if health is None else f"is connected to {health.get('peers', 0)} of {peers} nodes"
            raise NodeFailed(f"{plan.name} {why} after {START_TIMEOUT_S:.0f} s", hint=f"see {plan.output_file}")
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


def started_at(pid: int) -> float:
    """When a process started, seconds since 1970; 0 when there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def is_running(pid: int, start_time: float) -> bool:
    """Whether that very process still runs."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - start_time) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop_all(processes: Sequence[tuple[int, float]]) -> None:
    """Ask all to stop, insist after a while; those that are gone are left alone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        alive = [(pid, at) for pid, at in processes if is_running(pid, at)]
        for pid, _ in alive:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        give_up = time.monotonic() + STOP_TIMEOUT_S
        while alive and time.monotonic() < give_up:
            alive = [(pid, at) for pid, at in alive if is_running(pid, at)]
            time.sleep(POLL_S)
        _reap(processes)
        if not alive:
            return


def last_words(path: Path) -> str:
    """The last line that a node wrote; a hint of its own stays behind it."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return "it wrote nothing"
    return " ".join(lines[-2:]) if lines else "it wrote nothing"


def _reap(processes: Sequence[tuple[int, float]]) -> None:
    """Those that are our own children must be waited for, or they stay as zombies."""
    for pid, _ in processes:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue
