"""The node: one root actor, and everything that answers on it (``spec/orchestration.md`` 1)."""

from __future__ import annotations

import hashlib
import hmac
import random
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from trio import TaskStatus

from dms import __version__
from dms.actor.actor import Actor
from dms.actor.handle import handle_of_peer, protocol_of
from dms.executor.protocol import Executor
from dms.hardware import HardwareProbe
from dms.identity.keys import KeyType, PrivateKey
from dms.network.protocol import PeerChange, PeerEvent
from dms.node.capabilities import REVOCATION_TOPIC, CapabilityBehaviours
from dms.node.capability_file import AnchorKeeper, Unkept
from dms.node.clocks import TimeBehaviour
from dms.node.connections import Connections
from dms.node.deployments import DeploymentBehaviours
from dms.node.doctor import DoctorBehaviours
from dms.node.endpoints import Connect, connect
from dms.node.exec import ExecBehaviours
from dms.node.explaining import ExplainingBehaviours
from dms.node.files import FileBehaviours
from dms.node.forwarding import Forwarding
from dms.node.hosting import Hosting, HostingOptions
from dms.node.log_jobs import LogJobBehaviours
from dms.node.machine import MachineBehaviours
from dms.node.metering import Metering
from dms.node.nearness import NearnessBehaviours
from dms.node.network_engines import Engine, UserSpace
from dms.node.payloads import Hello
from dms.node.peers import PeerBehaviours
from dms.node.private_networks import PrivateNetworks
from dms.node.provider import SWEEP_INTERVAL_S, Provider, ProviderOptions
from dms.node.proxies import Proxies
from dms.node.public import HELLO_TOPIC, PublicBehaviours
from dms.node.reservations import Reservations
from dms.node.revocation_spread import RevocationSpread, SpreadOptions
from dms.node.schedules import ScheduleBehaviours
from dms.node.statistics import Statistics
from dms.node.updating import UpdatingBehaviours
from dms.node.vm import VmBehaviours
from dms.node.volumes import VolumeBehaviours
from dms.node.watching import WatchBehaviours, keep_events, tell_deployment, tell_peers
from dms.observe import get_logger
from dms.observe.ring import Ring
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.journal import Journal
from dms.orchestrator.logs.finding import LogShelf
from dms.orchestrator.logs.jobs import LogJobs
from dms.orchestrator.messages import BID_REQUEST_TOPIC
from dms.orchestrator.scheduling.schedules import Schedules
from dms.orchestrator.supervision.supervisor import LIVENESS_TIMEOUT_S
from dms.orchestrator.updating.requests import Updates
from dms.resources.benchmarks import Benchmarks
from dms.resources.capability import HardwareCapability
from dms.resources.manager import ResourceManager
from dms.resources.measuring import measure
from dms.resources.onboarding import Onboarding
from dms.resources.places import place_of
from dms.resources.ports import PortAllocator
from dms.store import Store
from dms.tasks import Interval, Scheduler
from dms.types.errors import DMSError
from dms.types.ids import PeerID
from dms.types.places import Place
from dms.types.resources import Location, Resources

CHILD_KEY_LABEL = b"dms-actor-key:"
PROXY_SECRET_LABEL = b"dms-proxy-passwords"
GREETING_DELAY_S = (10.0, 20.0)
GREETING_TIMEOUT_S = 3.0
GREETING_TRIES = 3
FORGET_INTERVAL_S = 3600.0
SCORE_GREETED, SCORE_SPEAKS = 5.0, 1.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Where things lie, where the machine says that it is, and intervals in seconds."""

    work_dir: Path
    location: Location = field(default_factory=Location)
    position: Place | None = None
    """Where exactly, if its owner says that."""
    port_range: tuple[int, int] = (16384, 65536)
    allow_privileged: bool = False
    """Privileged containers, for jobs that ask for them."""
    declared: HardwareCapability = field(default_factory=HardwareCapability)
    """What the owner says of the machine (:mod:`dms.resources.declared`)."""
    tells_reasons: bool = True
    """Those who may deploy here, and ask, are told why there is no bid."""
    work_log: Path | None = None
    """The diary of requests for bids; ``None``: in memory."""
    missing_executors: Mapping[str, str] = field(default_factory=dict)
    """Which ones are not there, and why."""
    check_cpu_usage: bool = True
    port_in_use: Callable[[int], bool] = lambda _port: False
    hosting: HostingOptions = field(default_factory=HostingOptions)
    liveness_timeout_s: float = LIVENESS_TIMEOUT_S
    keep_deployments_s: float = 0.0
    """How long deployments that have ended are remembered; 0: until they are pruned."""
    spread: SpreadOptions = field(default_factory=SpreadOptions)
    random_uuid: Callable[[], uuid.UUID] = uuid.uuid4
    engine: Engine = field(default_factory=UserSpace)
    """What carries the packets of private networks."""
    connect: Connect = connect
    """How a port of an allocation is reached from here."""
    networks_here: Callable[[], Iterable[str]] = lambda: ()
    """The IPv4 networks that this machine has, in CIDR notation."""
    log: Ring | None = None
    """The last entries of the log, for those who watch it."""
    port_rng: random.Random | None = None
    """Decides which of the free ports are given away first."""


class Node:
    """Everything above the network on one machine. :meth:`run` it once.

    :param anchors: keeps the context of ``root``; without one, changes to its anchors end with the node.
    """

    def __init__(
        self,
        root: Actor,
        store: Store,
        probe: HardwareProbe,
        executors: Mapping[str, Executor],
        options: NodeOptions,
        anchors: AnchorKeeper | None = None,
    ) -> None:
        self.root = root
        self._options = options
        self.anchors = anchors or Unkept(root.security.capabilities)
        self.revocations = RevocationSpread(root, self.anchors, options.spread)
        self.probe = probe
        self._rng = random.Random(root.network.peer_id)  # noqa: S311  only spreads things in time
        self.tasks = Scheduler(clock_ns=root.security.now_ns, rng=self._rng.random)
        """Whatever this node does again and again, or at a time."""
        self._events = Ring(now_ns=root.security.now_ns)
        keep_events(root.events, self._events)
        self._greeted: set[PeerID] = set()
        self.resources = ResourceManager(store, probe, clock=lambda: root.security.now_ns() / 10**9)
        self.benchmarks = Benchmarks(store, partial(measure, options.work_dir))
        self.onboarding = Onboarding(
            self.resources, probe, store, check_cpu_usage=options.check_cpu_usage, benchmarks=self.benchmarks
        )
        self._machines = VmBehaviours(root, executors, options.work_dir / "vms", self.resources)
        self._volumes = options.hosting.volumes
        self.ports = PortAllocator(*options.port_range, rng=options.port_rng, in_use=options.port_in_use)
        reservations = Reservations(store, self.resources, self.ports, clock_ns=root.security.now_ns)
        self.networks = PrivateNetworks(
            root,
            store,
            options.engine,
            lambda ensemble, orchestrator: self.hosting.has_work(ensemble, orchestrator),
            lambda allocation: self.hosting.may_have_namespace(allocation),
        )
        self.hosting = Hosting(
            root,
            store,
            self.resources,
            self.ports,
            reservations,
            executors,
            jobs_dir=options.work_dir / "jobs",
            child_key=self.child_key,
            networks=self.networks,
            options=options.hosting,
            allow_privileged=options.allow_privileged,
        )
        self.connections = Connections(root.network, self.hosting, self.networks, options.connect)
        options.engine.reach_with(self.connections.open)
        self.networks.proxies = Proxies(
            self._secret(PROXY_SECRET_LABEL), self.networks.find, self.connections.open, root.start_soon
        )
        self.hosting.on_release = self.networks.sweep
        self.provider = Provider(
            root,
            self.resources,
            self.ports,
            reservations,
            self.hosting,
            self.networks,
            executors,
            _provider_options(options),
        )
        shelf = LogShelf(options.work_dir / "deployments")
        self.deployments = Deployments(
            root,
            Journal(store, tell_deployment(root.events)),
            logs=shelf,
            child_key=self.child_key,
            tasks=self.tasks,
            liveness_timeout_s=options.liveness_timeout_s,
            random_uuid=options.random_uuid,
            networks_here=options.networks_here,
            own_machine=self.networks,
            here=lambda: self._options.position or place_of(self._options.location),
        )
        self.forwarding = Forwarding(self.deployments, self.connections)
        self.metering = Metering(
            root,
            self.resources,
            self.hosting,
            self.deployments,
            location=options.location,
            work_dir=options.work_dir,
            version=__version__,
        )
        Statistics(root.events, root.network.peer_id, self.hosting.usage)
        self.schedules = Schedules(
            store, self.deployments, self.tasks, root.security, new_id=lambda: options.random_uuid().hex
        )
        self.log_jobs = LogJobs(shelf, self.deployments.read_log, root.start_soon)
        self.deployments.on_delete = self.log_jobs.forget

    def child_key(self, inbox: str) -> PrivateKey:
        """The key of a child actor: derived from the node's own, so that it is the same after a restart and is never stored."""
        seed = hmac.digest(self.root.security.key.ed25519_seed(), CHILD_KEY_LABEL + inbox.encode(), hashlib.sha256)
        return PrivateKey(KeyType.ED25519, seed)

    def _secret(self, label: bytes) -> bytes:
        return hmac.digest(self.root.security.key.ed25519_seed(), label, hashlib.sha256)

    def follow(self, options: NodeOptions) -> None:
        """Take up what may change while the node runs: where it is, what it offers and tells, what jobs may do, and how long
        deployments are remembered.
        """
        self._options = options
        self.metering.location = options.location
        self.provider.follow(_provider_options(options))
        self.hosting.follow(options.hosting)

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled; started once everything of an earlier life is found again."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.root.run)
            await nursery.start(self.tasks.run)
            await self.resources.load()
            await self.onboarding.restore()
            self.root.start_soon(self.onboarding.report_usage)
            await self.provider.restore()
            await self._machines.restore()
            await self.deployments.restore()
            await self.schedules.restore()
            self._register()  # now: what is asked while half is not found yet would be answered wrongly
            for topic in (HELLO_TOPIC, BID_REQUEST_TOPIC, REVOCATION_TOPIC):
                await self.root.subscribe(topic)
            self.tasks.add("forget old deployments", self._forget_old, Interval(FORGET_INTERVAL_S))
            self.tasks.add("sweep", self.provider.tidy, Interval(SWEEP_INTERVAL_S))
            self.revocations.attend(self.tasks)
            stop_listening = self.root.network.listen(self._on_peer)
            stop_telling = self.root.network.listen(tell_peers(self.root.events))
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                stop_listening()
                stop_telling()
                with trio.CancelScope(shield=True):
                    await self.provider.bidder.work.save()

    async def _forget_old(self) -> None:
        if self._options.keep_deployments_s <= 0:
            return
        before_ns = self.root.security.now_ns() - int(self._options.keep_deployments_s * 10**9)
        forgotten = await self.deployments.prune(before_ns)
        if forgotten:
            log.info("deployments_forgotten", count=len(forgotten))

    def score(self, peer: PeerID) -> float:
        """What gossip may think of a peer (``spec/orchestration.md`` 1.1)."""
        if peer in self._greeted:
            return SCORE_GREETED
        speaks = any(c.peer == peer and protocol_of("root") in c.protocols for c in self.root.network.peers())
        return SCORE_SPEAKS if speaks else 0.0

    def _register(self) -> None:
        async def offered() -> Resources | None:
            return self.resources.onboarded

        PublicBehaviours(self.root.handle.did.uri, offered).register(self.root)
        TimeBehaviour(self.root).register()
        PeerBehaviours(self.root.network).register(self.root)
        NearnessBehaviours(self.root.network).register(self.root)
        machine = MachineBehaviours(self.resources, self.onboarding, self.probe, self.hosting, self.benchmarks)
        machine.register(self.root)
        self._machines.register()
        if self._volumes is not None:
            VolumeBehaviours(self._volumes.controller).register(self.root)
            FileBehaviours(self.root, self._volumes.controller).register()
        DeploymentBehaviours(self.deployments, clock_ns=self.root.security.now_ns).register(self.root)
        ExecBehaviours(self.deployments).register(self.root)
        self.forwarding.register(self.root)
        self.root.start_soon(self.connections.serve)
        LogJobBehaviours(self.deployments, self.log_jobs).register(self.root)
        plans = ExplainingBehaviours(self.deployments, self.root, random_uuid=self._options.random_uuid)
        plans.register(self.root)
        updates = Updates(self.deployments, self.deployments.journal, clock_ns=self.root.security.now_ns)
        UpdatingBehaviours(self.deployments, updates, plans).register(self.root)
        DoctorBehaviours(
            self.provider,
            self.resources,
            self.hosting,
            location=lambda: self._options.location,
            missing=self._options.missing_executors,
        ).register(self.root)
        ScheduleBehaviours(self.schedules).register(self.root)
        CapabilityBehaviours(self.anchors, self.revocations).register(self.root)
        WatchBehaviours(self._events, self._options.log).register(self.root)
        self.provider.register()

    def _on_peer(self, event: PeerEvent) -> None:
        if event.change is PeerChange.IDENTIFIED:
            self.root.start_soon(self._greet, event.peer)
            self.revocations.on_peer(event.peer)
        elif event.change is PeerChange.DISCONNECTED:
            self._greeted.discard(event.peer)

    async def _greet(self, peer: PeerID) -> None:
        """Say hello to a new peer after a while; who answers is worth more to gossip."""
        for _ in range(GREETING_TRIES):
            await trio.sleep(self._rng.uniform(*GREETING_DELAY_S))
            if peer in self._greeted or not self.root.network.is_connected(peer):
                return
            try:
                await self.root.invoke(handle_of_peer(peer), "/public/hello", None, Hello, timeout_s=GREETING_TIMEOUT_S)
            except DMSError as exc:
                log.debug("greeting_unanswered", peer=peer, error=exc.message)
                continue
            self._greeted.add(peer)
            return


def _provider_options(options: NodeOptions) -> ProviderOptions:
    return ProviderOptions(
        options.location,
        options.position,
        allow_privileged=options.allow_privileged,
        declared=options.declared,
        tells_reasons=options.tells_reasons,
        work_log=options.work_log,
    )
