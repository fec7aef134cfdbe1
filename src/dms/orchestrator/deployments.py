"""All deployments that this node orchestrates (``spec/orchestration.md`` 2.4, 7.2)."""

from __future__ import annotations

import contextlib
import math
import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from dms.actor.actor import Actor
from dms.actor.handle import Address, Handle
from dms.ensemble.arrival import validate_config
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.groups import expanded
from dms.ensemble.ids import new_ensemble_id
from dms.identity.ids import ActorID
from dms.identity.keys import PrivateKey
from dms.network.addresses import parse_peer_id
from dms.network.peer_filter import PeerFilter
from dms.observe import get_logger
from dms.observe.tracing import context_of_deployment, joined, record_deployment
from dms.orchestrator.bidding.asking import Here, nowhere
from dms.orchestrator.deployment import Deployment
from dms.orchestrator.errors import (
    DeploymentNotFound,
    DeploymentNotRunning,
    DeploymentTooShort,
    InvalidDeployment,
    NothingToRead,
)
from dms.orchestrator.journal import DeploymentRecord, Journal, JournalEntry
from dms.orchestrator.lifecycle.machine import begin
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.orchestrator.logs.finding import LogShelf
from dms.orchestrator.messages import AllocationLogsReply
from dms.orchestrator.private_network.plan import choose
from dms.orchestrator.scheduling.queueing import Turnstile, check_room, hopeless
from dms.orchestrator.scheduling.terms import MAX_QUEUE_S, MAX_RUN_S, Terms
from dms.orchestrator.supervision.peer_watch import PeerWatch
from dms.orchestrator.supervision.supervisor import LIVENESS_TIMEOUT_S
from dms.tasks import At, Retry, Scheduler, TaskID
from dms.types.errors import DMSError
from dms.types.ids import EnsembleID, PeerID
from dms.types.units import format_duration

MIN_DEPLOYMENT_S = 59.0
MAX_ASKED = 1_000
"""Peers that a deployment may name to be asked for bids."""
RESERVE_S = 15.0
"""Kept back from the time that the user gave: the deployment's own deadline is that much earlier."""
END_RETRY = Retry(max_retries=1000, base_s=1.0, max_s=60.0)
NS_PER_S = 10**9

log = get_logger(__name__)


class OwnMachine(Protocol):
    """This node itself as a member of private networks."""

    def admit(self, ensemble: EnsembleID, orchestrator: Actor) -> Handle:
        """Let an orchestrator of this node tell it of the network of an ensemble; where."""
        ...

    def is_admitted(self, ensemble: EnsembleID) -> bool:
        """Whether it may."""
        ...

    async def dismiss(self, ensemble: EnsembleID) -> None:
        """No longer: the network is left, unless something else of the ensemble is here."""
        ...


class Deployments:
    """Submits, finds, restores and forgets deployments."""

    def __init__(
        self,
        root: Actor,
        journal: Journal,
        *,
        logs: LogShelf,
        child_key: Callable[[str], PrivateKey],
        tasks: Scheduler,
        liveness_timeout_s: float = LIVENESS_TIMEOUT_S,
        random_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
        networks_here: Callable[[], Iterable[str]] = lambda: (),
        own_machine: OwnMachine | None = None,
        here: Here = nowhere,
    ) -> None:
        self._own_machine = own_machine
        self.here = here
        """Where this machine is, as far as it knows."""
        self._root = root
        self._networks_here = networks_here
        self.journal = self._journal = journal
        self._logs = logs
        self._child_key = child_key
        self._liveness_timeout_s = liveness_timeout_s
        self._random_uuid = random_uuid
        self._tasks = tasks
        self._queue = Turnstile()
        self._ends: dict[EnsembleID, TaskID] = {}
        self.on_delete: Callable[[EnsembleID], object] = lambda _ensemble: None
        """Told of a deployment that is being forgotten."""
        self._watch = PeerWatch(root)
        self._live: dict[EnsembleID, Deployment] = {}
        self._records: dict[EnsembleID, DeploymentRecord] = {}

    async def restore(self) -> None:
        """After a restart: go on with what had not ended, remember the rest as history."""
        self._root.start_soon(self._watch.run)
        for record in await self._journal.load():
            self._records[record.id] = record
            if not record.state.is_settled:
                log.info("deployment_restored", ensemble=record.id, status=record.state.phase.value)
                await self._launch(record, is_restored=True)

    async def submit(
        self,
        config: EnsembleConfig,
        expiry_ns: int,
        *,
        owner: str = "",
        queue_for_s: float = 0.0,
        run_for_s: float = 0.0,
        schedule: str = "",
        only_peers: Sequence[str] = (),
        choice: PeerFilter | None = None,
    ) -> EnsembleID:
        """Accept an ensemble; returns once that is on disk. ``expiry_ns`` is when the user's patience ends, ``owner`` the
        DID of the user, ``only_peers`` those that are asked for bids, everybody if there are none; with a ``choice`` those of
        the connected peers, or of these, that meet it now; for the rest see
        :class:`~dms.orchestrator.scheduling.terms.Terms`.

        :raises InvalidDeployment: it cannot be deployed, with the first reason.
        :raises DeploymentTooShort: less than 59 s were given.
        :raises QueueFull: too many wait for capacity already.
        """
        now_ns = self._root.security.now_ns()
        check_deployable(config)
        check_durations(queue_for_s, run_for_s)
        peers = self._chosen(check_peers(only_peers), choice)
        written, config = config, expanded(config)
        if expiry_ns - now_ns < MIN_DEPLOYMENT_S * NS_PER_S:
            raise DeploymentTooShort
        queue_for_ns = int(queue_for_s * NS_PER_S)
        if queue_for_ns:
            check_room((deployment.state for deployment in self._live.values()), owner)
        terms = Terms(
            queue_until_ns=now_ns + queue_for_ns if queue_for_ns else 0,
            run_for_ns=int(run_for_s * NS_PER_S),
            schedule=schedule,
        )
        ensemble = new_ensemble_id(self._root.network.peer_id, self._random_uuid())
        deadline_ns = expiry_ns + queue_for_ns - math.ceil(RESERVE_S * NS_PER_S)
        state = begin(ensemble, config, now_ns=now_ns, deadline_ns=deadline_ns)
        record = DeploymentRecord(
            ensemble, config, msgspec.structs.replace(state, owner=owner, terms=terms, only_peers=peers)
        )
        await self._journal.submit(record, written)
        self._records[ensemble] = record
        await self._launch(record, is_restored=False)
        return ensemble

    def _chosen(self, named: tuple[PeerID, ...], choice: PeerFilter | None) -> tuple[PeerID, ...]:
        """The peers to ask.

        :raises InvalidDeployment: the choice leaves nobody.
        """
        if choice is None or choice.is_open:
            return named
        network = self._root.network
        found = choice.choose((i for i in network.peers() if not named or i.peer in named), network.latency)[:MAX_ASKED]
        if not found:
            raise InvalidDeployment(
                f"no peer is {choice}" if choice.max_rtt_ms or choice.connected_for_s else "no peer is connected",
                hint="nunet peers latency shows how near they are; ask for less",
            )
        return found

    def get(self, ensemble: EnsembleID) -> DeploymentRecord:
        """The present record of a deployment.

        :raises DeploymentNotFound: there is none with this id.
        """
        live = self._live.get(ensemble)
        if live is not None:
            return live.record
        record = self._records.get(ensemble)
        if record is None:
            raise DeploymentNotFound(f"deployment not found: {ensemble}")
        return record

    def live(self, ensemble: EnsembleID) -> Deployment:
        """A deployment that has not ended.

        :raises DeploymentNotFound: there is none with this id.
        :raises DeploymentNotRunning: it has ended.
        """
        record = self.get(ensemble)
        found = self._live.get(ensemble)
        if found is None:
            raise DeploymentNotRunning(f"deployment is not running: it is {record.state.phase.value}")
        return found

    async def read_log(
        self, ensemble: EnsembleID, key: str, stream: str, offset: int, max_bytes: int, *, since_ms: int = 0
    ) -> AllocationLogsReply:
        """A piece of an allocation's log, wherever it is now; a negative ``offset`` counts from the end.

        ``since_ms`` (UNIX) skips what is older, as long as the provider has it.

        :raises DMSError: it is nowhere to be had.
        """
        live = self._live.get(ensemble)
        if live is not None:
            return await live.logs.read(key, stream, offset, max_bytes, since_ms=since_ms)
        self._check_kept(ensemble, key)
        return await self._logs.read(ensemble, key, stream, offset, max_bytes)

    async def kept_logs(self, ensemble: EnsembleID, version: int) -> tuple[str, ...]:
        """The allocations of an earlier version of a deployment of which logs are kept; ``<node>.<allocation>``."""
        return await self._logs.kept(ensemble, version)

    async def read_kept_log(
        self, ensemble: EnsembleID, version: int, key: str, stream: str, offset: int, max_bytes: int
    ) -> AllocationLogsReply:
        """A piece of such a log."""
        shelf, number = self._logs.of_version(ensemble, version)
        return await shelf.read(number, key, stream, offset, max_bytes)

    def kept_folder(self, ensemble: EnsembleID, version: int, key: str) -> Path:
        """Where such a log is on this node."""
        shelf, number = self._logs.of_version(ensemble, version)
        return shelf.folder(number, key)

    async def fetch_logs(self, ensemble: EnsembleID, key: str) -> Path:
        """Have the logs of an allocation on this node; the folder.

        :raises DMSError: they are nowhere to be had.
        """
        live = self._live.get(ensemble)
        if live is not None:
            return await live.logs.fetch(key)
        self._check_kept(ensemble, key)
        return self._logs.folder(ensemble, key)

    def _check_kept(self, ensemble: EnsembleID, key: str) -> None:
        record = self.get(ensemble).state.allocations.get(key)
        if record is None or not self._logs.is_complete(ensemble, record):
            raise NothingToRead(
                f"there are no logs of {key}", hint="it never ran, or its provider could not be reached"
            )

    def orchestrator_handle(self, ensemble: EnsembleID) -> Handle:
        """The actor of a deployment, also after its end."""
        key = self._child_key(ensemble).public
        return Handle(
            id=ActorID.of(key), did=self._root.handle.did, addr=Address(host=self._root.network.peer_id, inbox=ensemble)
        )

    def all(self) -> tuple[DeploymentRecord, ...]:
        """Every deployment, oldest first."""
        return tuple(self.get(ensemble) for ensemble in self._records)

    async def events(self, ensemble: EnsembleID, after: int) -> tuple[JournalEntry, ...]:
        """What happened to a deployment, from sequence number ``after`` on."""
        self.get(ensemble)
        return await self._journal.events(ensemble, after)

    def next_change(self, ensemble: EnsembleID) -> trio.Event | None:
        """Set when something happens to a deployment from now on; ``None`` when nothing will."""
        live = self._live.get(ensemble)
        return None if live is None else live.changed

    async def delete(self, ensemble: EnsembleID) -> None:
        """Forget one that has ended, with its events and logs.

        :raises DeploymentNotRunning: it has not ended; shut it down first.
        """
        record = self.get(ensemble)
        phase, is_busy = record.state.phase, ensemble in self._live and not record.state.is_settled
        if is_busy and phase.is_final:
            raise DeploymentNotRunning(
                f"the deployment is {phase.value}, its logs are still being fetched", hint="try again in a moment"
            )
        if is_busy:
            raise DeploymentNotRunning(
                f"the deployment is {phase.value}", hint=f"end it first: nunet shutdown {ensemble}"
            )
        self.on_delete(ensemble)
        await self._journal.delete(ensemble, record.state.versions)
        self._records.pop(ensemble, None)
        await self._logs.remove(ensemble)

    def private_address(self, ensemble: EnsembleID, key: str) -> str:
        """Of an allocation that runs, in the private network of its ensemble; empty where it has none."""
        deployment = self._live.get(ensemble)
        return deployment.private_address(key) if deployment is not None else ""

    async def prune(self, before_ns: int, *, dry_run: bool = False) -> tuple[EnsembleID, ...]:
        """Forget those that ended before a moment; with ``dry_run`` only tell which."""
        ended = [r.id for r in self.all() if r.state.is_settled and r.state.completed_ns <= before_ns]
        if not dry_run:
            for ensemble in ended:
                await self.delete(ensemble)
        return tuple(ended)

    async def _launch(self, record: DeploymentRecord, *, is_restored: bool) -> None:
        actor = self._root.prepare_child(record.id, self._child_key(record.id))
        deployment = Deployment(
            record,
            actor,
            self._journal,
            logs=self._logs,
            liveness_timeout_s=self._liveness_timeout_s,
            watch=self._watch,
            queue=self._queue,
            choose_network=self._choose_network,
            on_change=partial(self._on_change, record.id),
            own_machine=partial(self._admit, record.id, actor),
            here=self.here,
        )
        self._live[record.id] = deployment
        drive = partial(self._drive, deployment, is_restored)
        await self._root.start_child(actor, supervisor=self._root.handle, body=drive)
        self._root.start_soon(self._await_end, deployment)

    def _admit(self, ensemble: EnsembleID, actor: Actor) -> Handle | None:
        return self._own_machine.admit(ensemble, actor) if self._own_machine is not None else None

    async def _choose_network(self, state: DeploymentState) -> str:
        """One that neither this machine nor another deployment of its own uses."""
        here = await trio.to_thread.run_sync(lambda: tuple(self._networks_here()))
        own = [each.state.network.cidr for each in self._live.values() if each.state.network is not None]
        return choose(random.Random(self._random_uuid().int), state, (*here, *own))  # noqa: S311  no secret

    async def _drive(self, deployment: Deployment, is_restored: bool, _actor: Actor) -> None:  # noqa: FBT001  partial
        """The body of its actor; after an unforeseen failure it goes on from what is on disk, as after a restart."""
        is_again, deployment.was_driven = deployment.was_driven, True
        with joined(context_of_deployment(deployment.id)):
            await deployment.run(is_restored=is_restored or is_again)
        state = deployment.state
        told = {"peer": self._root.handle.addr.host, "allocations": len(state.allocations)}
        record_deployment(deployment.id, state.created_ns, state.phase.value, state.error, told)
        log.info("deployment_ended", ensemble=deployment.id, status=deployment.state.phase.value)
        self._forget(deployment)

    async def _await_end(self, deployment: Deployment) -> None:
        """One whose driver failed too often has failed; what it still holds elsewhere is given back as after a restart.
        If that fails as often, it waits for a restart.
        """
        failure = await self._root.children.wait_gone(deployment.id)
        was_over = deployment.state.phase.is_final
        if failure is not None:
            await deployment.give_up(failure)
        self._forget(deployment)
        if failure is not None and not was_over:
            await self._launch(self._records[deployment.id], is_restored=True)

    def _on_change(self, ensemble: EnsembleID, state: DeploymentState) -> None:
        """One that has found its place gives its turn to the next; one that runs may have an end."""
        is_asking = state.update is not None and state.update.is_asking
        if state.phase not in (Phase.PREPARING, Phase.GENERATING, Phase.COMMITTING) and not is_asking:
            self._queue.leave(ensemble)
        deployment = self._live.get(ensemble)
        if deployment is not None and not deployment.joins:  # no longer, perhaps
            self._dismiss(ensemble)
        if state.phase is Phase.RUNNING and state.ends_ns and ensemble not in self._ends:
            end = partial(self._end, ensemble, state.terms.run_for_ns)
            self._ends[ensemble] = self._tasks.add("run_for", end, At(state.ends_ns / NS_PER_S), retry=END_RETRY)

    def _dismiss(self, ensemble: EnsembleID) -> None:
        if self._own_machine is not None and self._own_machine.is_admitted(ensemble):
            self._root.start_soon(self._own_machine.dismiss, ensemble)

    async def _end(self, ensemble: EnsembleID, run_for_ns: int) -> None:
        deployment = self._live.get(ensemble)
        if deployment is not None and deployment.state.phase is not Phase.SHUTTING_DOWN:
            with contextlib.suppress(DeploymentNotRunning):
                await deployment.orders.shutdown(f"it was to run for {format_duration(run_for_ns / NS_PER_S)}")

    def _forget(self, deployment: Deployment) -> None:
        self._queue.leave(deployment.id)
        end = self._ends.pop(deployment.id, None)
        if end is not None:
            self._tasks.remove(end)
        if self._live.pop(deployment.id, None) is None:
            return
        self._dismiss(deployment.id)
        deployment.changed.set()  # whoever came to wait after the last step waits for nothing
        if deployment.id in self._records:  # not deleted meanwhile
            self._records[deployment.id] = deployment.record


def check_durations(queue_for_s: float, run_for_s: float) -> None:
    """Refuse what is no time to wait or to run.

    :raises InvalidDeployment: which of them.
    """
    for name, value_s, most_s in (("queue timeout", queue_for_s, MAX_QUEUE_S), ("time to run", run_for_s, MAX_RUN_S)):
        if not 0.0 <= value_s <= most_s:
            raise InvalidDeployment(f"the {name} must be between 0 and {most_s / 86_400:g} days")


def check_peers(peers: Sequence[str]) -> tuple[PeerID, ...]:
    """The peers that shall be asked, each once.

    :raises InvalidDeployment: they are too many, or one is none.
    """
    if len(peers) > MAX_ASKED:
        raise InvalidDeployment(f"{len(peers)} peers are to be asked, {MAX_ASKED} at most", hint="ask everybody")
    try:
        return tuple(dict.fromkeys(parse_peer_id(peer) for peer in peers))
    except DMSError as exc:
        raise InvalidDeployment(exc.message, hint="peer ids are listed by nunet peers") from None


def check_deployable(config: EnsembleConfig) -> None:
    """What the node checks on arrival, whatever the client did.

    :raises InvalidDeployment: the first problem, and how many more there are.
    """
    problems = validate_config(config)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InvalidDeployment(
            f"invalid ensemble config: {problems[0]}{more}", hint="check it with nunet validate FILE"
        )
    if reason := hopeless(config):
        raise InvalidDeployment(f"no network can ever host this ensemble: {reason}")
