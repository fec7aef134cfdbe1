"""The private networks of the ensembles that have a part here: what their orchestrators told, kept, and put into effect.

An orchestrator tells the whole of what this machine must know, with a revision (:mod:`dms.subnet.messages`); what is older
than what is known changes nothing. It is on disk before it is acknowledged and in effect before the allocation that it is for
is started; a restart puts it into effect again. With the last allocation of its ensemble a network is gone from here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec
import trio

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.grants import Grant
from dms.actor.handle import Handle
from dms.executor.protocol import PROTOCOLS, Member
from dms.identity.ids import ActorID, did_of
from dms.node.memberships import Membership, check, checked, member_at
from dms.node.network_engines import Engine, Proxying
from dms.observe import get_logger
from dms.orchestrator.messages import Reply
from dms.store import Documents, Session, Store
from dms.store.errors import RecordNotFound
from dms.store.schema import private_networks as table
from dms.subnet.errors import NetworkTaken, SubnetExists, SubnetNotFound
from dms.subnet.messages import (
    CreateReply,
    CreateRequest,
    NetworkReport,
    SubnetRequest,
    of_ensemble,
)
from dms.types.errors import DMSError
from dms.types.ids import AllocationID, Capability, EnsembleID, PeerID

MAX_SUBNETS = 256
"""Of one machine."""

log = get_logger(__name__)


class PrivateNetworks:
    """All of them.

    :param is_hosted: whether that orchestrator has an allocation of the ensemble here.
    :param has_namespace: whether an allocation runs in a network namespace, where it can have a device.
    """

    def __init__(
        self,
        root: Actor,
        store: Store,
        engine: Engine,
        is_hosted: Callable[[EnsembleID, ActorID], bool],
        has_namespace: Callable[[AllocationID], bool] = lambda _allocation: True,
    ) -> None:
        self._has_namespace = has_namespace
        self.proxies: Proxying | None = None
        """For the allocations of a machine that makes no devices."""
        self._root, self._store, self._engine, self._is_hosted = root, store, engine, is_hosted
        self._known: dict[EnsembleID, Membership] = {}
        self._lacking: dict[str, str] = {}
        self._own: dict[EnsembleID, tuple[ActorID, Grant]] = {}
        self._lock = trio.Lock()

    @property
    def mode(self) -> str:
        """See :class:`Engine`."""
        return self._engine.mode

    @property
    def lacks(self) -> str:
        """See :class:`Engine`."""
        return self._engine.lacks

    @property
    def own(self) -> PeerID:
        """This machine."""
        return self._root.network.peer_id

    def __iter__(self) -> Iterator[Membership]:
        return iter(tuple(self._known.values()))

    def find(self, ensemble: EnsembleID) -> Membership | None:
        """What is known of the network of an ensemble."""
        return self._known.get(ensemble)

    def gateway_for(self, ensemble: EnsembleID, allocation: AllocationID) -> str:
        """Who resolves names for an allocation; empty where it has no address of its own."""
        membership = self._known.get(ensemble)
        if membership is None or allocation not in membership.members or self.mode != "kernel":
            return ""
        return str(IPv4Network(membership.cidr).network_address + 1)

    def has_proxy(self, ensemble: EnsembleID, allocation: AllocationID) -> bool:
        """Whether an allocation reaches the others through a proxy."""
        membership = self._known.get(ensemble)
        has_part = membership is not None and allocation in membership.members
        return has_part and self.proxies is not None and self.mode == "user"

    async def open_proxy(
        self, ensemble: EnsembleID, allocation: AllocationID, address: str, port: int = 0
    ) -> tuple[str, ...]:
        """The environment that tells it of that; ``address``: where it reaches this machine, ``port``: where that was before.

        :raises DMSError: there is none.
        """
        return await self.proxies.open(ensemble, allocation, address, port) if self.proxies is not None else ()

    def member_for(self, ensemble: EnsembleID, allocation: AllocationID) -> Member | None:
        """What an allocation is in its private network, for guests; ``None`` where it has no address of its own."""
        gateway, membership = self.gateway_for(ensemble, allocation), self._known.get(ensemble)
        if membership is None or not gateway:
            return None
        return member_at(ensemble, IPv4Network(membership.cidr), IPv4Address(membership.members[allocation]))

    async def join(
        self,
        ensemble: EnsembleID,
        allocation: AllocationID,
        namespace: Path,
        ports: Iterable[tuple[str, int, int]],
        *,
        behind: str = "",
        published: Collection[str] = PROTOCOLS,
    ) -> None:
        """See :meth:`Engine.join`."""
        await self._engine.join(ensemble, allocation, namespace, ports, behind=behind, published=published)
        self._lacking.pop(allocation, None)

    def not_joined(self, allocation: AllocationID, reason: str) -> None:
        """An allocation that should have an address of its own runs without."""
        self._lacking[allocation] = reason
        log.error("private_network_not_joined", allocation=allocation, reason=reason)

    def problem_of(self, ensemble: EnsembleID, allocation: AllocationID) -> str:
        """Why it has no address of its own; empty where it has one, or should have none."""
        membership = self._known.get(ensemble)
        if membership is None or allocation not in membership.members:
            return ""
        return self.lacks or self._lacking.get(allocation, "")

    def forget(self, allocation: AllocationID) -> None:
        """It runs no more."""
        self._lacking.pop(allocation, None)
        if self.proxies is not None:
            self.proxies.close(allocation)

    # this machine itself ---------------------------------------------------------------------------------------------

    def admit(self, ensemble: EnsembleID, orchestrator: Actor) -> Handle:
        """Let an orchestrator of this node tell it of the network of an ensemble that has perhaps nothing here; where."""
        if ensemble not in self._own:
            who, own = orchestrator.security.id, did_of(self._root.security.id.public_key())
            grant = self._root.grant(orchestrator.handle.did, own, [Capability(f"/dms/ensemble/{ensemble}")])
            self._own[ensemble] = who, grant
            self.serve(ensemble)
        return self._root.handle

    def is_admitted(self, ensemble: EnsembleID) -> bool:
        """Whether it may."""
        return ensemble in self._own

    async def dismiss(self, ensemble: EnsembleID) -> None:
        """No longer; an unknown one is ignored."""
        admitted = self._own.pop(ensemble, None)
        if admitted is None:
            return
        orchestrator, grant = admitted
        self._root.withdraw(grant)
        if not self._is_hosted(ensemble, orchestrator):
            self.stop_serving(ensemble)
            async with self._lock:
                if ensemble in self._known:
                    await self._leave(ensemble)

    # life ------------------------------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """After a restart, before allocations are taken up again: put into effect what was known. A :meth:`sweep` then leaves
        the networks of which nothing is here any more."""
        for record in await self._store.run(lambda session: _documents(session).find_all()):
            membership = record.value
            self._known[membership.ensemble] = membership
            try:
                self._note_own(membership, await self._engine.apply(membership))
            except DMSError as exc:  # its orchestrator tells it again, and is told then
                log.error("private_network_not_restored", ensemble=membership.ensemble, error=exc.message)

    async def sweep(self) -> None:
        """Leave the networks of which no allocation is here any more."""
        async with self._lock:
            for membership in self:
                if not self._has_part(membership.ensemble, membership.orchestrator):
                    await self._leave(membership.ensemble)

    def serve(self, ensemble: EnsembleID) -> None:
        """Answer the orchestrator of an ensemble."""

        async def on_create(message: Message[CreateRequest]) -> CreateReply:
            return await self.create(ensemble, message.payload, message.sender.id)

        async def on_status(message: Message[SubnetRequest]) -> NetworkReport:
            known = self._known.get(ensemble)
            if known is None or known.orchestrator != message.sender.id:
                raise SubnetNotFound(f"subnet with ID {ensemble} does not exist")
            return self._report(known)

        async def on_destroy(message: Message[SubnetRequest]) -> Reply:
            await self.destroy(ensemble, message.sender.id)
            return Reply(ok=True)

        self._root.on(
            of_ensemble(ensemble, "create"),
            on_create,
            payload=CreateRequest,
            error_reply=lambda error: CreateReply(ok=False, error=error),
        )
        self._root.on(of_ensemble(ensemble, "destroy"), on_destroy, payload=SubnetRequest)
        self._root.on(
            of_ensemble(ensemble, "status"),
            on_status,
            payload=SubnetRequest,
            error_reply=lambda error: NetworkReport(error=error),
        )

    def stop_serving(self, ensemble: EnsembleID) -> None:
        """No longer, unless this machine itself takes part."""
        if ensemble in self._own:
            return
        for what in ("create", "destroy", "status"):
            self._root.off(of_ensemble(ensemble, what))

    # what orchestrators ask for ----------------------------------------------------------------------------------------

    async def create(self, ensemble: EnsembleID, request: CreateRequest, sender: ActorID) -> CreateReply:
        """Know a network, or know it otherwise from now on.

        :raises InvalidRequest: it contradicts itself, or is too much.
        :raises SubnetNotFound: the sender has no allocation of this ensemble here.
        :raises NetworkTaken: another network here has these addresses.
        """
        wanted = checked(ensemble, request, sender)
        async with self._lock:
            if not self._has_part(ensemble, sender):
                raise SubnetNotFound(f"subnet with ID {ensemble} does not exist")
            known = self._known.get(ensemble)
            if known is not None and not wanted.revision:
                raise SubnetExists(f"subnet with ID {ensemble} already exists")
            if known is not None and known.orchestrator == sender and known.revision >= wanted.revision:
                return self._replied(known)
            await self._take_up(wanted)
        return self._replied(wanted)

    def _replied(self, known: Membership) -> CreateReply:
        return CreateReply(
            ok=True,
            revision=known.revision,
            mode=self.mode,
            reason=self.lacks or self._lacking.get(_own_key(known.ensemble), ""),
            by_stream=tuple(ip for id_, ip in sorted(known.members.items()) if self._is_by_stream(id_)),
        )

    def _is_by_stream(self, allocation: AllocationID) -> bool:
        """Whether streams lead to it and no packets: it has no namespace, or could not be given its device."""
        return self.mode != "off" and (
            self.mode == "user" or allocation in self._lacking or not self._has_namespace(allocation)
        )

    def _has_part(self, ensemble: EnsembleID, orchestrator: ActorID) -> bool:
        own = self._own.get(ensemble)
        return self._is_hosted(ensemble, orchestrator) or (own is not None and own[0] == orchestrator)

    async def change(self, ensemble: EnsembleID, sender: ActorID, step: Callable[[Membership], Membership]) -> None:
        """Know a network otherwise by one step.

        :raises SubnetNotFound: the sender has none here.
        :raises DMSError: the step leads to nonsense, or cannot be put into effect.
        """
        async with self._lock:
            known = self._known.get(ensemble)
            if known is None or known.orchestrator != sender:
                raise SubnetNotFound(f"subnet with ID {ensemble} does not exist")
            wanted = step(known)
            check(wanted)
            if wanted != known:
                await self._take_up(wanted)

    async def destroy(self, ensemble: EnsembleID, sender: ActorID) -> None:
        """Forget a network.

        :raises SubnetNotFound: the sender has none here.
        """
        async with self._lock:
            known = self._known.get(ensemble)
            if known is None or known.orchestrator != sender:
                raise SubnetNotFound(f"subnet with ID {ensemble} does not exist")
            await self._leave(ensemble)

    async def _take_up(self, wanted: Membership) -> None:
        self._check_room(wanted)
        problem = await self._engine.apply(wanted)
        await self._store.run(lambda session: _documents(session).put(wanted.ensemble, wanted))
        self._known[wanted.ensemble] = wanted
        self._note_own(wanted, problem)

    def _note_own(self, membership: Membership, problem: str) -> None:
        """Say once why this machine itself has no address in a network."""
        key = _own_key(membership.ensemble)
        if problem and self._lacking.get(key) != problem:
            log.warning(
                "private_network_not_joined",
                ensemble=membership.ensemble,
                reason=problem,
                hint=f"reach its services by: nunet port-forward {membership.ensemble} ALLOCATION PORT",
            )
        self._lacking.pop(key, None)
        if problem:
            self._lacking[key] = problem

    def _report(self, known: Membership) -> NetworkReport:
        report = self._engine.report(known, self.own)
        lacking = {
            address: reason
            for id_, address in known.members.items()
            if (reason := self.problem_of(known.ensemble, id_))
        }
        own_problem = self._lacking.get(_own_key(known.ensemble), "")
        if known.own and own_problem:
            lacking[known.own] = own_problem
        return msgspec.structs.replace(report, lacking=lacking)

    def _check_room(self, wanted: Membership) -> None:
        if wanted.ensemble not in self._known and len(self._known) >= MAX_SUBNETS:
            raise NetworkTaken(f"this machine takes part in {MAX_SUBNETS} private networks already")
        network = IPv4Network(wanted.cidr)
        for other in self:
            if other.ensemble != wanted.ensemble and network.overlaps(IPv4Network(other.cidr)):
                raise NetworkTaken(f"{wanted.cidr} belongs to another private network of this machine")

    async def _leave(self, ensemble: EnsembleID) -> None:
        await self._engine.remove(ensemble)
        await self._forget(ensemble)
        self._known.pop(ensemble, None)
        self._lacking.pop(_own_key(ensemble), None)

    async def _forget(self, ensemble: EnsembleID) -> None:
        await self._store.run(lambda session: _drop(session, ensemble))


def _own_key(ensemble: EnsembleID) -> str:
    """Under which it is kept why this machine itself has no address; no allocation has this id."""
    return f"{ensemble}_"


def _documents(session: Session) -> Documents[Membership]:
    return Documents(session, table, Membership)


def _drop(session: Session, ensemble: EnsembleID) -> None:
    try:
        _documents(session).delete(ensemble)
    except RecordNotFound:
        return
