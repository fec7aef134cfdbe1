"""The composition root: builds a running service from its settings, and stops it in order.

Nobody but this module knows the whole. Start: directories, logs, key, capabilities, REST address, database, network,
executors, node, REST. Stop: the other way round; workloads go on running and are adopted by the next start.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio
from trio import TaskStatus

from dms import __version__
from dms.actor.actor import Actor
from dms.actor.gate import Gate, GateOptions
from dms.actor.limiter import Limits
from dms.actor.rates import Rate, Rates
from dms.actor.replay_file import ReplayFile, open_window
from dms.actor.security import SecurityContext
from dms.api.bridge import Bridge
from dms.api.server import bind, run_server
from dms.capability.context import CapabilityContext
from dms.capability.store import context_path
from dms.config import Settings
from dms.config.schema import Messages, Storage
from dms.executor.registry import available_executors
from dms.hardware.gpus import GPUProbe
from dms.hardware.machine import MachineProbe
from dms.identity.files import make_private_directory
from dms.identity.keys import KeyType, PrivateKey, generate_key
from dms.identity.keystore import Keystore
from dms.identity.prism.associations import PrismAssociations
from dms.identity.prism.resolver import PrismResolver
from dms.identity.trust import Provider, TrustContext
from dms.identity.wallets.names import check_daemon_context
from dms.network.libp2p import Libp2pNetwork
from dms.node.capability_file import CapabilityFile, warn_of_problems
from dms.node.checkup import Checkup
from dms.node.configuring import ConfigBehaviours
from dms.node.health import LOOK_INTERVAL_S, HealthWatch, measures_of
from dms.node.hosting import HostingOptions
from dms.node.live import LiveSettings
from dms.node.logger import LoggerBehaviours
from dms.node.node import Node, NodeOptions
from dms.node.warnings import LOG_LOST, OUTPUT_FAILS, PLUGIN_FAILS, RESTART_NEEDED
from dms.node.watching import LogRing, tell_log
from dms.observe import catalogue, configure_logging, get_logger
from dms.observe.log import log_file
from dms.observe.metrics import prometheus_text
from dms.observe.outputs import Identity, Outputs
from dms.observe.redact import conceal
from dms.plugins.finding import find_plugins
from dms.plugins.running import RunningPlugins
from dms.resources.declared import declared
from dms.resources.monitor import UsageMonitor
from dms.storage.prepare import Volumes
from dms.storage.service import StorageOptions, open_volumes, volume_dirs
from dms.store import Store, locate
from dms.store.retention import retention_of
from dms.store.upkeep import FIRST_S, INTERVAL_S, Upkeep
from dms.tasks import Interval
from dms.types.errors import BadInput
from dms.types.ids import PeerID
from dms.types.resources import Location
from dms.types.units import parse_duration_ns

REPLAY_FILE = "messages-seen"
NS_PER_S = 10**9
DEV_ENVIRONMENTS = ("dev", "test")
"""Environments in which several nodes share a machine: busy processors do not stand against onboarding."""
GARBAGE_INTERVAL_S = 300.0
MB = 10**6
EXECUTORS = ("wasm", "docker", "qemu", "firecracker", "null")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """A service that answers: who it is, and where."""

    peer_id: PeerID
    did: str
    listen_addresses: tuple[str, ...]
    rest_port: int


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
    warnings: list[str] = []
    keystore = Keystore(general.user_dir / "key", warn=warnings.append)
    key = await trio.to_thread.run_sync(_open_key, keystore, check_daemon_context(context), passphrase)
    provider = Provider.of_key(key, PrismAssociations(general.user_dir).get(context))
    resolver_url = settings.identity.prism_resolver_url
    trust = TrustContext(provider, resolver=PrismResolver(resolver_url) if resolver_url else None)
    path = context_path(general.user_dir / "cap", context)
    with contextlib.suppress(OSError):
        await trust.resolve_mentioned(path.read_bytes())
    capability_file = CapabilityFile(path, context, provider.did, trust)
    capabilities = capability_file.context
    did = capabilities.did
    conceal(passphrase)
    _configure_logging(settings, str(did))
    for problem in warnings:
        log.warning("key_file_mode", problem=problem)
    warn_of_problems(capabilities.load_problems, capability_file.path)
    async with AsyncExitStack() as stack:
        log_ring = LogRing()
        stack.callback(log_ring.close)
        listener = bind(settings.rest.addr, settings.rest.port)
        stack.callback(listener.close)
        store = await Store.open(locate(settings.database.url.get_secret_value(), general.work_dir))
        stack.push_async_callback(store.aclose)
        live = await LiveSettings.open(store, settings, time.time_ns)
        live.attend(lambda now: _configure_logging(now, str(did)), "general.debug", "observability.logging")
        if live.values:
            _configure_logging(live.settings, str(did))
        settings = live.settings
        security = SecurityContext(key, capabilities)
        elapsed_ns = int(trio.current_time() * NS_PER_S)
        replay = await trio.to_thread.run_sync(
            _open_replay_window, general.work_dir / REPLAY_FILE, security, elapsed_ns
        )
        stack.callback(replay.close)
        # filled in below: the network must exist before the node that scores its peers
        nodes: list[Node] = []
        network = Libp2pNetwork(
            seed=key.ed25519_seed(),
            listen=settings.p2p.listen_address,
            bootstrap=settings.p2p.bootstrap_peers,
            app_score=lambda peer: nodes[0].score(peer) if nodes else 0.0,
        )
        await stack.enter_async_context(network.run())
        plugins = RunningPlugins(await trio.to_thread.run_sync(find_plugins, settings.plugins.disabled))
        storage = _storage_options(settings.storage)
        volumes = await stack.enter_async_context(
            open_volumes(store, general.work_dir, storage, closed=(general.user_dir,), more=plugins.providers())
        )
        background = await stack.enter_async_context(trio.open_nursery())
        stack.callback(background.cancel_scope.cancel)
        found = await available_executors(
            background,
            general.work_dir / "executors",
            executor_id=str(network.peer_id),
            enabled=EXECUTORS,
            allow_privileged_docker=settings.job.allow_privileged_docker,
            image_dirs=settings.machines.image_dirs or None,
            with_jailer=settings.machines.firecracker_jailer,
            fetch_file=volumes.read_file,
            volume_dirs=volume_dirs(general.work_dir, storage),
        )
        found.executors.update(
            await plugins.open_executors(background, general.work_dir / "executors", str(network.peer_id))
        )
        for executor, reason in found.missing.items():
            log.info("executor_missing", executor=executor, reason=reason)
        background.start_soon(replay.keep_compact)
        gate = Gate(network.peer_id, _gate_options(settings.messages), replay=replay.window, sync_replay=replay.sync)
        root = Actor(security, network, gate=gate)
        plugins.start_listeners(background, root.events)
        machine = MachineProbe(general.work_dir, gpus=GPUProbe(more=plugins.gpu_sources()))
        stack.callback(machine.close)
        usage = UsageMonitor(machine)
        stack.callback(tell_log(root.events))
        options = replace(node_options(settings, volumes), missing_executors=found.missing, log=log_ring.ring)
        node = Node(root, store, usage, found.executors, options, capability_file)
        nodes.append(node)
        live.attend(lambda now: gate.follow(_gate_options(now.messages)), "messages")
        live.attend(
            lambda now: node.follow(replace(node_options(now, volumes), missing_executors=found.missing)),
            *("general.host_city", "general.host_country", "general.host_continent", "job", "deployments", "offer"),
        )
        upkeep = Upkeep(store, retention_of(settings.database))
        live.attend(lambda now: upkeep.follow(retention_of(now.database)), "database")
        outputs = Outputs(
            root.events, Identity(str(did), network.peer_id, __version__), node.metering.collect, settings
        )
        node.metering.registry.add(outputs.samples)
        live.attend(outputs.follow, "observability.elastic", "observability.otel", "apm")
        background.start_soon(outputs.run)
        LoggerBehaviours(partial(_change_settings, live)).register(root)
        live.told = lambda keys, by: root.events.emit(catalogue.SETTINGS_CHANGED, keys=keys, by=by)
        assert not live.unattended, live.unattended
        ConfigBehaviours(live).register(root)
        around = {
            RESTART_NEEDED: lambda: ", ".join(live.needs_restart) or None,
            LOG_LOST: _lost_entries,
            OUTPUT_FAILS: lambda: (
                "; ".join(f"{name}: {what}" for name, what in outputs.state().items() if what) or None
            ),
            PLUGIN_FAILS: lambda: "; ".join(f"{name}: {what}" for name, what in plugins.problems.items()) or None,
        }
        health = HealthWatch(node, measures_of(node, store, general.work_dir, around))
        Checkup(node, store, general.work_dir, missing=found.missing, inventory=machine.inventory, live=live).register(
            root
        )
        background.start_soon(usage.run, node.tasks)
        await background.start(node.run)
        measured = lambda: prometheus_text(node.metering.collect())  # noqa: E731  (a route's answer)
        await background.start(
            run_server, Bridge(network, root.security, root.handle, health.warnings), listener, measured
        )
        node.tasks.add("capability_garbage", partial(_clean, capabilities), Interval(GARBAGE_INTERVAL_S))
        node.tasks.add("look after the database", upkeep.run, Interval(INTERVAL_S, jitter_s=FIRST_S, first_s=FIRST_S))
        node.tasks.add("look after the health", health.look, Interval(LOOK_INTERVAL_S, first_s=0.0))
        background.start_soon(capability_file.reload_on_signal)
        background.start_soon(live.reload_on_signal)
        background.start_soon(capability_file.keep_up, node.tasks)
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
        root.events.emit(
            catalogue.NODE_STARTED, version=__version__, peer=ready.peer_id, onboarded=node.onboarding.is_onboarded
        )
        task_status.started(ready)
        await stop.wait()
        root.events.emit(catalogue.NODE_STOPPING)


async def _change_settings(live: LiveSettings, values: Mapping[str, Any], by: str) -> tuple[str, ...]:
    return tuple(change.key for change in await live.set(values, by))


def _lost_entries() -> str | None:
    file = log_file()
    return f"{file.losing} entries are lost so far: {file.path}" if file is not None and file.losing else None


async def _clean(capabilities: CapabilityContext) -> None:
    capabilities.collect_garbage()


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


def _open_replay_window(path: Path, security: SecurityContext, elapsed_ns: int) -> ReplayFile:
    try:
        return open_window(path, clock_ns=security.now_ns, elapsed_ns=elapsed_ns)
    except OSError as exc:
        raise BadInput(
            f"cannot write {path}: {exc.strerror}", hint="change general.work_dir in the configuration"
        ) from None


def _gate_options(messages: Messages) -> GateOptions:
    return GateOptions(
        limits=Limits(per_host=messages.handlers_per_peer),
        rates=Rates(
            public=Rate(messages.public_per_s, messages.public_burst),
            private=Rate(messages.private_per_s, messages.private_burst),
            broadcast=Rate(messages.broadcast_per_s, messages.broadcast_burst),
            relayed=Rate(20 * messages.broadcast_per_s, 20 * messages.broadcast_burst),
        ),
        are_refusals_told=messages.tell_refused,
    )


def _storage_options(storage: Storage) -> StorageOptions:
    return StorageOptions(
        local_roots=storage.local_roots,
        allowed_networks=storage.allowed_networks,
        allow_glusterfs=storage.allow_glusterfs,
        ipfs_gateway=storage.ipfs_gateway,
        ipfs_api=storage.ipfs_api,
        max_download_bytes=storage.max_download_mb * MB,
        max_volumes_bytes=storage.max_volumes_mb * MB,
    )


def node_options(settings: Settings, volumes: Volumes | None = None) -> NodeOptions:
    """What the settings tell the node.

    :raises DMSError: what is offered is not written as it should be.
    """
    general, offer = settings.general, settings.offer
    return NodeOptions(
        work_dir=general.work_dir,
        location=Location(continent=general.host_continent, country=general.host_country, city=general.host_city),
        port_range=(general.port_available_range_from, general.port_available_range_to),
        allow_privileged=settings.job.allow_privileged_docker,
        check_cpu_usage=general.env not in DEV_ENVIRONMENTS,
        port_in_use=port_in_use,
        declared=declared(
            libraries=offer.libraries, prices=offer.prices, proofs=offer.proofs, max_hours=offer.max_hours
        ),
        tells_reasons=offer.tell_reasons,
        work_log=general.work_dir / "provider" / "work-log.json",
        keep_deployments_s=parse_duration_ns(settings.deployments.keep, what="deployments.keep") / 10**9,
        hosting=HostingOptions(
            allow_exec=settings.job.allow_exec,
            volumes=volumes,
            orphan_grace_s=parse_duration_ns(settings.job.orphan_grace, what="job.orphan_grace") / 10**9,
        ),
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
