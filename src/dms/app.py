"""The composition root: builds a running service from its settings, and stops it in order.

Nobody but this module knows the whole. Start: directories, logs, key, capabilities, REST address, database, network,
executors, node, REST. Stop: the other way round; workloads go on running and are adopted by the next start.
"""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import trio
from trio import TaskStatus

from dms import __version__
from dms.actor.actor import Actor
from dms.actor.security import SecurityContext
from dms.api.bridge import Bridge
from dms.api.server import bind, run_server
from dms.capability.context import CapabilityContext
from dms.capability.store import context_path, load_context, save_context
from dms.capability.token import TokenList
from dms.config import Settings
from dms.executor.registry import available_executors
from dms.hardware.machine import MachineProbe
from dms.identity.files import make_private_directory
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey, generate_key
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext
from dms.network.libp2p import Libp2pNetwork
from dms.node.node import Node, NodeOptions
from dms.observe import configure_logging, get_logger
from dms.store import Store
from dms.types.errors import BadInput, DMSError
from dms.types.ids import PeerID
from dms.types.resources import Location

DATABASE = "dms.sqlite"
DEV_ENVIRONMENTS = ("dev", "test")
"""Environments in which several nodes share a machine: busy processors do not stand against onboarding."""
GARBAGE_INTERVAL_S = 300.0
CAPABILITY_POLL_S = 2.0
EXECUTORS = ("wasm", "docker", "null")

Anchors = tuple[tuple[DID, ...], TokenList, TokenList, TokenList]
"""Roots, require and provide anchors, revocations."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """A service that answers: who it is, and where."""

    peer_id: PeerID
    did: str
    listen_addresses: tuple[str, ...]
    rest_port: int


def run(settings: Settings, context: str, passphrase: str) -> None:
    """Run the service until SIGINT or SIGTERM; then stop it in order and return.

    :raises DMSError: it cannot start, with the reason.
    """
    try:
        trio.run(_run_until_signal, settings, context, passphrase)
    except BaseExceptionGroup as group:
        raise _only_error(group) from None


async def serve(
    settings: Settings,
    context: str,
    passphrase: str,
    stop: trio.Event,
    *,
    task_status: TaskStatus[Ready] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the service until ``stop`` is set, then stop it in order; started with :class:`Ready` once it answers.

    :raises DMSError: it cannot start, with the reason.
    """
    general = settings.general
    for directory in (general.user_dir, general.work_dir, general.data_dir):
        _make_directory(directory)
    key = await trio.to_thread.run_sync(_open_key, Keystore(general.user_dir / "key"), context, passphrase)
    capability_file = CapabilityFile(context_path(general.user_dir / "cap", context), context, key)
    capabilities = capability_file.context
    did = capabilities.did
    _configure_logging(settings, str(did))
    _warn_of_problems(capabilities, capability_file.path)
    async with AsyncExitStack() as stack:
        listener = bind(settings.rest.addr, settings.rest.port)
        stack.callback(listener.close)
        store = await Store.open(general.work_dir / DATABASE)
        stack.push_async_callback(store.aclose)
        # filled in below: the network must exist before the node that scores its peers
        nodes: list[Node] = []
        network = Libp2pNetwork(
            seed=key.ed25519_seed(),
            listen=settings.p2p.listen_address,
            bootstrap=settings.p2p.bootstrap_peers,
            app_score=lambda peer: nodes[0].score(peer) if nodes else 0.0,
        )
        await stack.enter_async_context(network.run())
        background = await stack.enter_async_context(trio.open_nursery())
        stack.callback(background.cancel_scope.cancel)
        found = await available_executors(
            background,
            general.work_dir / "executors",
            executor_id=str(network.peer_id),
            enabled=EXECUTORS,
            allow_privileged_docker=settings.job.allow_privileged_docker,
        )
        for executor, reason in found.missing.items():
            log.info("executor_missing", executor=executor, reason=reason)
        root = Actor(SecurityContext(key, capabilities), network)
        node = Node(root, store, MachineProbe(general.work_dir), found.executors, _node_options(settings))
        nodes.append(node)
        await background.start(node.run)
        await background.start(run_server, Bridge(network, root.security, root.handle), listener)
        background.start_soon(_keep_clean, capabilities)
        background.start_soon(capability_file.reload_on_signal)
        background.start_soon(capability_file.keep_up)
        ready = Ready(network.peer_id, str(did), network.listen_addresses, listener.getsockname()[1])
        log.info(
            "started",
            version=__version__,
            peer=ready.peer_id,
            listen=list(ready.listen_addresses),
            rest=f"{settings.rest.addr}:{ready.rest_port}",
            executors=sorted(found.executors),
            onboarded=node.onboarding.is_onboarded,
        )
        task_status.started(ready)
        await stop.wait()


async def _run_until_signal(settings: Settings, context: str, passphrase: str) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, stop)
        await serve(settings, context, passphrase, stop)
        nursery.cancel_scope.cancel()


async def _stop_on_signal(stop: trio.Event) -> None:
    """The first signal stops in order, a second at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            if stop.is_set():
                raise KeyboardInterrupt
            stop.set()


async def _keep_clean(capabilities: CapabilityContext) -> None:
    while True:
        await trio.sleep(GARBAGE_INTERVAL_S)
        capabilities.collect_garbage()


class CapabilityFile:
    """The anchors on disk, and how to take up changes that the command line made to them (``spec/security.md`` 4.6).

    Grants that the node made while running are not in the file and survive a reload.
    """

    def __init__(self, path: Path, name: str, key: PrivateKey) -> None:
        self.path = path
        self._trust = TrustContext(Provider.of_key(key))
        if not path.exists():
            save_context(CapabilityContext(name, did_of(key.public), self._trust), path)
        self._state = self._look()
        self.context = load_context(path, self._trust, name=name)
        self._loaded = self.context.list_roots()

    def reload(self) -> None:
        """Add what is new in the file and drop what is gone from it; what cannot be read changes nothing."""
        self._state = self._look()
        try:
            fresh = load_context(self.path, self._trust)
            self._replace(fresh.list_roots())
        except DMSError as exc:
            log.error("capabilities_not_reloaded", file=str(self.path), reason=exc.message)
            return
        _warn_of_problems(fresh, self.path)
        log.info("capabilities_reloaded", file=str(self.path))

    async def keep_up(self) -> None:
        """Reload when the file has changed, until cancelled."""
        while True:
            await trio.sleep(CAPABILITY_POLL_S)
            if self._look() != self._state:
                self.reload()

    async def reload_on_signal(self) -> None:
        """Reload at each SIGUSR1, until cancelled."""
        if threading.current_thread() is not threading.main_thread():
            return  # signals belong to whoever embeds us
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            async for _ in signals:
                self.reload()

    def _replace(self, fresh: Anchors) -> None:
        before = self.context.list_roots()
        self.context.remove_roots(*self._loaded)
        try:
            self.context.add_roots(*fresh)
        except DMSError:
            self.context.add_roots(*before)
            raise
        self._loaded = fresh

    def _look(self) -> tuple[int, ...]:
        """What changes whenever the file is written; empty when it is not there."""
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size


def _warn_of_problems(context: CapabilityContext, path: Path) -> None:
    for problem in context.load_problems:
        log.warning("capability_skipped", file=str(path), problem=problem)


def _open_key(keystore: Keystore, name: str, passphrase: str) -> PrivateKey:
    if not keystore.exists(name):
        key = generate_key()
        keystore.save(name, key, passphrase)
        return key
    key = keystore.get(name, passphrase)
    if key.type is not KeyType.ED25519:
        raise BadInput(
            f"the key {name} is of type {key.type.name}; a node needs an Ed25519 key",
            hint="make one with nunet key new",
        )
    return key


def _make_directory(path: Path) -> None:
    try:
        make_private_directory(path)
    except OSError as exc:
        raise BadInput(
            f"cannot use the directory {path}: {exc.strerror}", hint="change general.*_dir in the configuration"
        ) from None


def _configure_logging(settings: Settings, did: str) -> None:
    logging = settings.observability.logging
    configure_logging(
        "DEBUG" if settings.general.debug else logging.level,
        logging.file,
        max_size_mb=logging.rotation.max_size_mb,
        max_backups=logging.rotation.max_backups,
        max_age_days=logging.rotation.max_age_days,
        did=did,
    )


def _node_options(settings: Settings) -> NodeOptions:
    general = settings.general
    return NodeOptions(
        work_dir=general.work_dir,
        location=Location(continent=general.host_continent, country=general.host_country, city=general.host_city),
        port_range=(general.port_available_range_from, general.port_available_range_to),
        allow_privileged=settings.job.allow_privileged_docker,
        check_cpu_usage=general.env not in DEV_ENVIRONMENTS,
        port_in_use=port_in_use,
    )


def port_in_use(port: int) -> bool:
    """Whether another program listens on a TCP port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def _only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error behind nested groups, if there is but one."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner
