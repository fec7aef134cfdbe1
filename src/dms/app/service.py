"""The whole: what is opened after what.

Start: directories, key, capabilities, log, REST address, database, network, executors, node, REST. Stop: the other way round;
workloads go on running and are adopted by the next start.
"""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio
from trio import TaskStatus

from dms import __version__
from dms.actor.actor import Actor
from dms.actor.gate import Gate
from dms.actor.replay_file import ReplayFile, open_window
from dms.actor.security import SecurityContext
from dms.api.bridge import Bridge
from dms.api.server import bind, run_server
from dms.app.care import Care
from dms.app.identity import identify
from dms.app.options import configure_log, gate_options, node_options, reach_options
from dms.app.peers import dht_mode, peer_gate, peer_limits, regate
from dms.app.work import find_parts, open_work, volumes_of
from dms.config import Settings
from dms.hardware.gpus import GPUProbe
from dms.hardware.machine import MachineProbe
from dms.identity.files import make_private_directory
from dms.network.libp2p import Libp2pNetwork
from dms.network.swarm_key_file import read_swarm_key
from dms.node import network_metrics
from dms.node.capability_file import warn_of_problems
from dms.node.live import LiveSettings
from dms.node.network_engines import UserSpace
from dms.node.node import Node
from dms.node.packets import PacketEngine, datagram_port, networks_here
from dms.node.watching import LogRing, tell_log
from dms.observe import catalogue, get_logger
from dms.observe.metrics import prometheus_text
from dms.resources.monitor import UsageMonitor
from dms.store import Store, locate
from dms.subnet.kernel import LinuxKernel
from dms.subnet.subnets import Subnets
from dms.subnet.upstream import name_servers
from dms.types.errors import BadInput
from dms.types.ids import PeerID

REPLAY_FILE = "messages-seen"
PEERS_FILE = "known-peers.json"
NS_PER_S = 10**9
OFF = "job.private_network is off"

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
    who = await identify(settings, context, passphrase)
    did = str(who.did)
    key_file = settings.p2p.swarm_key_file
    swarm_key = await trio.to_thread.run_sync(read_swarm_key, Path(key_file)) if key_file else None
    configure_log(settings, did)
    for problem in who.problems:
        log.warning("key_file_mode", problem=problem)
    warn_of_problems(who.capabilities.load_problems, who.capability_file.path)
    async with AsyncExitStack() as stack:
        log_ring = LogRing()
        stack.callback(log_ring.close)
        listener = bind(settings.rest.addr, settings.rest.port)
        stack.callback(listener.close)
        store = await Store.open(locate(settings.database.url.get_secret_value(), general.work_dir))
        stack.push_async_callback(store.aclose)
        live = await LiveSettings.open(store, settings, time.time_ns)
        live.attend(lambda now: configure_log(now, did), "general.debug", "observability.logging")
        if live.values:
            configure_log(live.settings, did)
        settings = live.settings
        security = SecurityContext(who.key, who.capabilities)
        replay = await trio.to_thread.run_sync(
            _open_replay_window, general.work_dir / REPLAY_FILE, security, int(trio.current_time() * NS_PER_S)
        )
        stack.callback(replay.close)
        # filled in below: the network must exist before the node that scores its peers
        nodes: list[Node] = []
        network = Libp2pNetwork(
            seed=who.key.ed25519_seed(),
            listen=settings.p2p.listen_address,
            bootstrap=settings.p2p.bootstrap_peers,
            app_score=lambda peer: nodes[0].score(peer) if nodes else 0.0,
            swarm_key=swarm_key,
            gate=peer_gate(settings.p2p),
            limits=peer_limits(settings.p2p),
            reach=reach_options(settings.p2p),
            network_id=settings.p2p.network_id,
            dht_mode=dht_mode(settings.p2p),
            peers_file=general.work_dir / PEERS_FILE,
            mdns=settings.p2p.mdns,
        )
        live.attend(partial(regate, network), "p2p.deny_peers", "p2p.allow_peers")
        await stack.enter_async_context(network.run())
        port = datagram_port(network.listen_addresses)
        subnets = Subnets(
            network,
            LinuxKernel(network.peer_id),
            rng=random.SystemRandom(),
            datagram_port=port,
            upstream=name_servers(settings.job.dns_upstream),
        )
        live.attend(lambda now: subnets.follow(name_servers(now.job.dns_upstream)), "job.dns_upstream")
        lacks = await trio.to_thread.run_sync(subnets.missing) if settings.job.private_network else OFF
        if not lacks:
            await stack.enter_async_context(subnets.run())
        plugins = await trio.to_thread.run_sync(find_parts, settings)
        volumes = await stack.enter_async_context(volumes_of(settings, store, plugins))
        background = await stack.enter_async_context(trio.open_nursery())
        stack.callback(background.cancel_scope.cancel)
        work = await open_work(background, settings, volumes, plugins, network.peer_id)
        gate = Gate(network.peer_id, gate_options(settings.messages), replay=replay.window, sync_replay=replay.sync)
        root = Actor(security, network, gate=gate)
        stack.callback(tell_log(root.events))
        plugins.start_listeners(background, root.events)
        machine = MachineProbe(general.work_dir, gpus=GPUProbe(more=plugins.gpu_sources()))
        stack.callback(machine.close)
        usage = UsageMonitor(machine)
        options = replace(
            node_options(settings, volumes),
            missing_executors=work.missing,
            log=log_ring.ring,
            engine=UserSpace(lacks, takes_part=settings.job.private_network) if lacks else PacketEngine(subnets),
            networks_here=networks_here,
        )
        node = Node(root, store, usage, work.executors, options, who.capability_file)
        nodes.append(node)
        node.metering.registry.add(lambda: network_metrics.samples(subnets.totals()))
        node.metering.registry.add(lambda: network_metrics.connection_samples(node.connections))
        care = Care(node, live, store, work, machine, gate)
        care.tell(background)
        background.start_soon(replay.keep_compact)
        background.start_soon(usage.run, node.tasks)
        await background.start(node.run)

        def measured() -> bytes:
            return prometheus_text(node.metering.collect())

        bridge = Bridge(network, root.security, root.handle, care.health.warnings, node.forwarding.open)
        await background.start(run_server, bridge, listener, measured)
        care.begin(background)
        background.start_soon(who.capability_file.reload_on_signal)
        background.start_soon(who.capability_file.keep_up, node.tasks)
        ready = Ready(network.peer_id, did, network.listen_addresses, listener.getsockname()[1])
        is_onboarded = node.onboarding.is_onboarded
        log.info(
            "started",
            version=__version__,
            peer=ready.peer_id,
            listen=list(ready.listen_addresses),
            rest=f"{settings.rest.addr}:{ready.rest_port}",
            executors=sorted(work.executors),
            onboarded=is_onboarded,
            network_key=swarm_key.fingerprint if swarm_key is not None else None,
        )
        root.events.emit(catalogue.NODE_STARTED, version=__version__, peer=ready.peer_id, onboarded=is_onboarded)
        task_status.started(ready)
        await stop.wait()
        root.events.emit(catalogue.NODE_STOPPING)


def _make_directory(path: Path) -> None:
    try:
        make_private_directory(path)
    except OSError as exc:
        raise BadInput(
            f"cannot use the directory {path}: {exc.strerror}", hint="change general.*_dir in the configuration"
        ) from None


def _open_replay_window(path: Path, security: SecurityContext, elapsed_ns: int) -> ReplayFile:
    try:
        return open_window(path, clock_ns=security.now_ns, elapsed_ns=elapsed_ns)
    except OSError as exc:
        raise BadInput(
            f"cannot write {path}: {exc.strerror}", hint="change general.work_dir in the configuration"
        ) from None
