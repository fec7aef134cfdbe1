"""What ``nunet doctor`` looks at without a running node: configuration, directories, keys, ports, and whether one runs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dms.node.checks import Check
from dms.node.diagnosis import Finding, note, ok, problem
from dms.types.errors import DMSError
from dms.types.units import format_bytes

if TYPE_CHECKING:
    from dms.cli.session import Session
    from dms.config import Settings

PRIVATE = 0o077
LOW_BYTES = 2 << 30


def always(session: Session) -> list[Check]:
    """Checks of this user's side, whether a node runs or not."""
    return [
        Check("settings", lambda: trio.to_thread.run_sync(_configuration, session)),
        Check("directories", lambda: trio.to_thread.run_sync(_directories, session.settings, session.user_dir)),
        Check("keys", lambda: trio.to_thread.run_sync(_keys, session.user_dir, session.context(None))),
        Check("network key", lambda: trio.to_thread.run_sync(_network_key, session.settings.p2p.swarm_key_file)),
    ]


def without_node(session: Session) -> list[Check]:
    """Checks that stand in for those of a node that does not run: could one start?"""
    return [
        Check("ports", lambda: trio.to_thread.run_sync(_ports, session.settings)),
        Check("disk", lambda: trio.to_thread.run_sync(_disk, session.settings.general.work_dir)),
    ]


def _configuration(session: Session) -> Iterable[Finding]:
    from dms.config.load import is_exposed, unknown_variables

    settings, found = session.settings, []
    source = settings.source
    if source is not None and is_exposed(source):
        found.append(problem("settings", f"{source} holds secrets, and others can read it", f"chmod 600 {source}"))
    if settings.flat_keys:
        told = f"{source} has keys of release 0.5: {', '.join(settings.flat_keys)}"
        found.append(note("settings", told, "nunet run moves them to where they belong now"))
    for name, meant in unknown_variables(os.environ).items():
        hint = f"did you mean {meant}?" if meant else "nunet config show lists the settings"
        found.append(note("settings", f"the environment variable {name} is no setting", hint))
    return [*found, ok("settings", f"from {source}" if source is not None else "no file: defaults")]


def _directories(settings: Settings, user_dir: Path) -> Iterable[Finding]:
    found = []
    for path in dict.fromkeys((user_dir, settings.general.work_dir, settings.general.data_dir)):
        there = path
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            found.append(problem("directories", f"{path} cannot be written", "change general.*_dir, or its rights"))
        elif path.exists() and path == user_dir and path.stat().st_mode & 0o022:
            found.append(problem("directories", f"others may write to {path}", f"chmod 700 {path}"))
    return found or [ok("directories", f"{user_dir}, {settings.general.work_dir}")]


def _keys(user_dir: Path, context: str) -> Iterable[Finding]:
    files = sorted((user_dir / "key").glob("*.json"))
    exposed = [path for path in files if path.stat().st_mode & PRIVATE]
    if exposed:
        names = ", ".join(str(path) for path in exposed)
        return [problem("keys", f"others can read {names}", f"chmod 600 {names.replace(', ', ' ')}")]
    if not files:
        return [note("keys", f"there are none in {user_dir}", f"nunet key new {context}; nunet cap new {context}")]
    return [ok("keys", ", ".join(path.stem for path in files))]


def _network_key(file: str) -> Iterable[Finding]:
    from dms.network.errors import InvalidSwarmKey
    from dms.network.swarm_key_file import read_swarm_key

    if not file:
        return []
    try:
        return [ok("network key", f"{read_swarm_key(Path(file)).fingerprint}: only nodes that have it can connect")]
    except InvalidSwarmKey as error:
        return [problem("network key", error.message, error.hint)]


def _ports(settings: Settings) -> Iterable[Finding]:
    """Whether a node could listen where it is told to."""
    wanted = [("rest.port", settings.rest.addr, settings.rest.port)]
    for address in settings.p2p.listen_address:
        parts = address.split("/")
        if len(parts) >= 5 and parts[1] in ("ip4", "ip6") and parts[3] == "tcp" and parts[4].isdigit():
            wanted.append(("p2p.listen_address", parts[2], int(parts[4])))
    found = []
    for key, host, port in wanted:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as exc:
                found.append(problem("ports", f"cannot listen on {host}:{port}: {exc.strerror}", f"change {key}"))
    return found or [ok("ports", f"free: {', '.join(f'{host}:{port}' for _, host, port in wanted)}")]


def _disk(work_dir: Path) -> Iterable[Finding]:
    there = next(path for path in (work_dir, *work_dir.parents) if path.exists())
    free = shutil.disk_usage(there).free
    told = f"{format_bytes(free)} free at {there}"
    return [note("disk", told, "free space, or move general.work_dir") if free < LOW_BYTES else ok("disk", told)]


def not_running(error: DMSError) -> Finding:
    """That no node answers."""
    return problem("node", error.message, error.hint or "start it with nunet run")
