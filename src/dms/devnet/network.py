"""A local network: up, status, down."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import trio

from dms.devnet import directory as place
from dms.devnet import prepare, processes
from dms.devnet.errors import DevnetRunning
from dms.devnet.interruption import Interruption
from dms.devnet.plan import MAX_NODES, NodePlan, free_ports, plan_nodes
from dms.devnet.profile import PROFILE_FILE, BadProfile, NetworkProfile, NodeProfile, read_profile, write_profile
from dms.executor.registry import available_executors
from dms.types.errors import BadInput

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node now: its process (``None``: it does not run), whether it answers, to how many others it is connected."""

    profile: NodeProfile
    pid: int | None
    is_answering: bool
    peers: int


def up(
    directory: Path,
    count: int,
    providers: int,
    *,
    name: str = "devnet",
    say: Say = lambda _: None,
    choose_ports: Callable[[int], Sequence[int]] = free_ports,
    modules: Sequence[str] = (processes.MODULE,),
) -> NetworkProfile:
    """Start a network of ``count`` nodes in ``directory``; what fails or is interrupted leaves nothing behind. ``modules`` is
    what they run, see :func:`dms.devnet.processes.start`.

    :raises BadInput: there cannot be such a network, or not there.
    :raises DevnetRunning: one runs there.
    :raises NodeFailed: a node did not come up.
    """
    if not 1 <= count <= MAX_NODES:
        raise BadInput(f"a local network has 1 to {MAX_NODES} nodes, not {count}")
    if not 0 <= providers <= count:
        raise BadInput(f"{providers} providers in a network of {count} nodes", hint="choose at most as many as nodes")
    with place.taken(directory):
        if processes.nodes_in(directory):
            raise DevnetRunning(f"a local network runs in {directory} already")
        _end_workloads(directory)
        place.empty(directory)
        started: list[subprocess.Popen[bytes]] = []
        with Interruption() as interruption:
            try:
                nodes = plan_nodes(directory, count, providers, choose_ports(2 * count))
                profile = _start(directory, nodes, name, started, say, interruption.check, modules)
                interruption.check()
            except BaseException:
                processes.stop_all([psutil.Process(process.pid) for process in started if process.poll() is None])
                for process in started:
                    process.wait()
                place.remove(directory)
                raise
    say(f"{count} nodes are up and connected, {providers} of them offer resources")
    return profile


def status(directory: Path) -> tuple[NodeStatus, ...]:
    """Every node now.

    :raises DevnetNotFound: there is no network in ``directory``.
    :raises BadProfile: its profile is damaged.
    """
    if not (directory / PROFILE_FILE).exists():
        raise place.not_found(directory)
    profile, running = read_profile(directory / PROFILE_FILE), processes.nodes_in(directory)
    found = []
    for node in profile.nodes:
        process = running.get(Path(node.config))
        health = processes.read_health(node.rest_port) if process else None
        pid = process.pid if process else None
        found.append(NodeStatus(node, pid, health is not None, (health or {}).get("peers", 0)))
    return tuple(found)


def down(directory: Path, *, keep: bool = False, say: Say = lambda _: None) -> None:
    """End the network and everything that it ran, and remove its directory unless ``keep``.

    :raises DevnetNotFound: there is no network in ``directory``.
    :raises DevnetRunning: another command is starting or ending it.
    :raises DevnetError: a file cannot be removed.
    """
    with place.held(directory):
        running = list(processes.nodes_in(directory).values())
        processes.stop_all(running)
        say(f"stopped {len(running)} nodes")
        _end_workloads(directory)
        if keep:
            (directory / PROFILE_FILE).unlink(missing_ok=True)
            place.leave(directory)
            say(f"kept {directory}")
            return
        place.remove(directory)


@contextlib.contextmanager
def running(directory: Path, count: int, providers: int, *, say: Say = lambda _: None) -> Iterator[NetworkProfile]:
    """A network for as long as the context lasts."""
    profile = up(directory, count, providers, say=say)
    try:
        yield profile
    finally:
        down(directory, say=say)


def _start(
    directory: Path,
    nodes: Sequence[NodePlan],
    name: str,
    started: list[subprocess.Popen[bytes]],
    say: Say,
    check: Callable[[], None],
    modules: Sequence[str],
) -> NetworkProfile:
    """Everything up to the last node that answers; what runs stands in ``started`` also when it fails."""
    providers = sum(node.is_provider for node in nodes)
    passphrase_file, passphrase = prepare.write_passphrase(directory)
    user_dir = directory / "user"
    user = prepare.make_user(user_dir, passphrase)
    identities = [prepare.make_node(node, user, passphrase) for node in nodes]
    say(f"keys and mutual trust for {len(nodes)} nodes in {directory}")
    for node in nodes:
        prepare.write_config(node, prepare.bootstrap_for(node, nodes, identities))
        if node.is_provider:
            trio.run(prepare.onboard, node, providers)
        check()
        started.append(processes.start(node, passphrase, modules))
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
                is_provider=node.is_provider,
            )
            for node, process, identity in zip(nodes, started, identities, strict=True)
        ),
        user_dir=str(user_dir),
        passphrase_file=str(passphrase_file),
    )
    write_profile(directory / PROFILE_FILE, profile)
    processes.await_ready(list(zip(nodes, started, strict=True)), len(nodes) - 1, check=check)
    return profile


def _end_workloads(directory: Path) -> None:
    """Workloads outlive their node, so that a restart can adopt them; here nobody will."""
    try:
        profile = read_profile(directory / PROFILE_FILE)
    except BadProfile:
        return  # it was never written whole: no node ever got to work
    states = {node.peer_id: Path(node.config).parent / "work" / "executors" for node in profile.nodes}
    states = {peer: state for peer, state in states.items() if state.is_dir()}
    if states:
        trio.run(_clean_up, states)


async def _clean_up(states: Mapping[str, Path]) -> None:
    async def clean_up(peer: str, state: Path) -> None:
        async with trio.open_nursery() as background:
            found = await available_executors(background, state, executor_id=peer)
            for executor in found.executors.values():
                await executor.cleanup()
            background.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for peer, state in states.items():
            nursery.start_soon(clean_up, peer, state)
