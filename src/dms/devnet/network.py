"""A local network: up, status, down."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from dms.devnet import prepare, processes
from dms.devnet.errors import DevnetNotFound, DevnetRunning
from dms.devnet.plan import MAX_NODES, NodePlan, plan_nodes
from dms.devnet.profile import PROFILE_FILE, NetworkProfile, NodeProfile, read_profile, write_profile
from dms.executor.registry import available_executors
from dms.identity.files import make_private_directory
from dms.types.errors import BadInput

Say = Callable[[str], None]
MARKER = ".nunet-devnet"
"""Lies in a directory that belongs to a local network: only such a one is ever removed."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node now: whether its process runs, whether it answers, and to how many others it is connected."""

    profile: NodeProfile
    is_running: bool
    is_answering: bool
    peers: int


def up(
    directory: Path, count: int, providers: int, *, name: str = "devnet", say: Say = lambda _: None
) -> NetworkProfile:
    """Start a network of ``count`` nodes in ``directory``; what fails leaves nothing behind.

    :raises DevnetRunning: one runs there.
    :raises NodeFailed: a node did not come up.
    """
    if not 1 <= count <= MAX_NODES:
        raise BadInput(f"a local network has 1 to {MAX_NODES} nodes, not {count}")
    if not 0 <= providers <= count:
        raise BadInput(f"{providers} providers in a network of {count} nodes", hint="choose at most as many as nodes")
    _take(directory)
    started: list[tuple[NodePlan, subprocess.Popen[bytes]]] = []
    try:
        passphrase_file, passphrase = prepare.write_passphrase(directory)
        user_dir = directory / "user"
        user = prepare.make_user(user_dir, passphrase)
        nodes = plan_nodes(directory, count, providers)
        identities = [prepare.make_node(node, user, passphrase) for node in nodes]
        say(f"keys and mutual trust for {count} nodes in {directory}")
        for node in nodes:
            prepare.write_config(node, prepare.bootstrap_for(node, nodes, identities))
        for node in nodes:
            if node.is_provider:
                trio.run(prepare.onboard, node, providers)
        for node in nodes:
            started.append((node, processes.start(node, passphrase)))  # noqa: PERF401  what has started must be known when one fails
        profile = NetworkProfile(
            name=name,
            dir=str(directory),
            default_node=nodes[-1].name,
            user_context=prepare.USER_CONTEXT,
            nodes=tuple(
                NodeProfile(
                    name=node.name,
                    rest_addr="127.0.0.1",
                    rest_port=node.rest_port,
                    peer_id=identity.peer_id,
                    did=identity.did.uri,
                    user_dir=str(node.user_dir),
                    config=str(node.config_file),
                    pid=process.pid,
                    started_at=processes.started_at(process.pid),
                    is_provider=node.is_provider,
                )
                for (node, process), identity in zip(started, identities, strict=True)
            ),
            user_dir=str(user_dir),
            passphrase_file=str(passphrase_file),
        )
        write_profile(directory / PROFILE_FILE, profile)
        processes.await_ready(started, count - 1)
    except BaseException:
        processes.stop_all([(process.pid, processes.started_at(process.pid)) for _, process in started])
        _remove(directory)
        raise
    say(f"{count} nodes are up and connected, {providers} of them offer resources")
    return profile


def status(directory: Path) -> tuple[NodeStatus, ...]:
    """Every node now.

    :raises DevnetNotFound: there is no network in ``directory``.
    """
    found = []
    for node in _profile(directory).nodes:
        running = processes.is_running(node.pid, node.started_at)
        health = processes.read_health(node.rest_port) if running else None
        found.append(NodeStatus(node, running, health is not None, (health or {}).get("peers", 0)))
    return tuple(found)


def down(directory: Path, *, keep: bool = False, say: Say = lambda _: None) -> None:
    """End the network and everything that it ran, and remove its directory unless ``keep``.

    :raises DevnetNotFound: there is no network in ``directory``.
    """
    profile = _profile(directory)
    processes.stop_all([(node.pid, node.started_at) for node in profile.nodes])
    say(f"stopped {len(profile.nodes)} nodes")
    for node in profile.nodes:
        trio.run(_end_workloads, Path(node.config).parent / "work", node.peer_id)
    if keep:
        (directory / PROFILE_FILE).unlink(missing_ok=True)
        say(f"kept {directory}")
        return
    _remove(directory)


async def _end_workloads(work_dir: Path, peer_id: str) -> None:
    """Workloads outlive their node, so that a restart can adopt them; here nobody will."""
    state = work_dir / "executors"
    if not state.exists():
        return
    async with trio.open_nursery() as nursery:
        found = await available_executors(nursery, state, executor_id=peer_id)
        for executor in found.executors.values():
            await executor.cleanup()
        nursery.cancel_scope.cancel()


def _profile(directory: Path) -> NetworkProfile:
    path = directory / PROFILE_FILE
    if not path.exists():
        raise DevnetNotFound(f"there is no local network in {directory}")
    return read_profile(path)


def _take(directory: Path) -> None:
    """Make the directory ours, or refuse."""
    path = directory / PROFILE_FILE
    if path.exists():
        profile = read_profile(path)
        if any(processes.is_running(node.pid, node.started_at) for node in profile.nodes):
            raise DevnetRunning(f"a local network runs in {directory} already")
        down(directory)
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARKER).exists():
            raise BadInput(f"{directory} is not empty", hint="choose an empty or new directory with --dir")
        _remove(directory)
    make_private_directory(directory)
    (directory / MARKER).touch(mode=0o600)


def _remove(directory: Path) -> None:
    if (directory / MARKER).exists():
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running(directory: Path, count: int, providers: int, *, say: Say = lambda _: None) -> Iterator[NetworkProfile]:
    """A network for as long as the context lasts."""
    profile = up(directory, count, providers, say=say)
    try:
        yield profile
    finally:
        down(directory, say=say)
