"""What is reserved here and for whom, until it becomes an allocation or expires (``spec/orchestration.md`` 4.2).

A reservation holds resources and ports. It is on disk before it is acknowledged, and a restart finds it again. What
was reserved without ever being acknowledged is given back by the restart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
import trio

from dms.actor.handle import Handle
from dms.identity.ids import ActorID
from dms.node.errors import InvalidRequest, NotCommitted
from dms.orchestrator.messages import CommitRequest
from dms.resources.errors import AlreadyCommitted
from dms.resources.manager import ResourceManager
from dms.resources.ports import PortAllocator, Ports
from dms.store import Documents, Session, Store
from dms.store.schema import reservations as table
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.ids import AllocationID, EnsembleID
from dms.types.resources import GPU, Resources

NS_PER_S = 10**9
_ENSEMBLE = re.compile(r"[0-9A-Za-z]{1,128}")
_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,62}\.[0-9A-Za-z][0-9A-Za-z_-]{0,62}")
LEAST_NS = 60 * 10**9
"""What is held for at least so long is as good as new."""
MAX_ID_CHARS = 200


class Reservation(Wire):
    """One reservation; ``ports`` are public → private, ``expiry_ns`` in UNIX nanoseconds."""

    allocation_id: AllocationID
    ensemble_id: EnsembleID
    node_id: str
    orchestrator: Handle
    resources: Resources
    expiry_ns: int
    ports: dict[str, int] = msgspec.field(default_factory=dict)


class Reservations:
    """The reservations of this node."""

    def __init__(
        self, store: Store, resources: ResourceManager, ports: PortAllocator, *, clock_ns: Callable[[], int]
    ) -> None:
        self._store = store
        self._resources = resources
        self._ports = ports
        self._clock_ns = clock_ns
        self._held: dict[AllocationID, Reservation] = {}

    async def load(self) -> None:
        """After a restart: those on disk whose resources are still committed, and no others."""
        for record in await self._store.run(lambda session: self._documents(session).find_all()):
            held = record.value
            if not self._resources.is_committed(held.allocation_id):
                await self.forget(held.allocation_id)
                continue
            self._held[held.allocation_id] = held
            self._ports.restore(held.allocation_id, ports_of(held.ports))
        for allocation_id in self._resources.commitments.keys() - self._held.keys():
            await self._resources.uncommit(allocation_id)

    def get(self, allocation_id: AllocationID, orchestrator: ActorID) -> Reservation:
        """What is held for this allocation of this orchestrator.

        :raises NotCommitted: nothing.
        """
        held = self._held.get(allocation_id)
        if held is None or held.orchestrator.id != orchestrator or held.expiry_ns < self._clock_ns():
            raise NotCommitted(f"allocation not committed: {allocation_id}")
        return held

    def of(self, ensemble: EnsembleID, orchestrator: ActorID) -> tuple[Reservation, ...]:
        """All that is held for one ensemble of one orchestrator."""
        return tuple(r for r in self._held.values() if r.ensemble_id == ensemble and r.orchestrator.id == orchestrator)

    async def commit(
        self,
        request: CommitRequest,
        orchestrator: Handle,
        expiry_ns: int,
        *,
        beside: Sequence[tuple[GPU, ...]] = (),
    ) -> Reservation:
        """Reserve; the same request again gets the same answer. ``beside`` are the GPUs that others will reserve soon.

        :raises InvalidRequest: ids or ports that cannot be.
        :raises DMSError: no resources, or no ports.
        """
        check_allocation_id(request.allocation_id, request.ensemble_id, request.node_id)
        allocation_id = AllocationID(request.allocation_id)
        held = self._held.get(allocation_id)
        if held is not None and held.orchestrator.id != orchestrator.id:
            raise AlreadyCommitted(f"resources already committed for allocation {allocation_id}")
        if (
            held is not None
            and held.expiry_ns >= min(expiry_ns, self._clock_ns() + LEAST_NS)
            and _is_for(held, request)
        ):
            return held
        if held is not None:  # of an attempt that was given up: it ends too soon, or is something else
            await self.release(held)
        resources = _bare(request)
        dynamic = self._ports.reserve(allocation_id, _static(request), len(request.dynamic_ports)).dynamic
        ports = dict(request.port_mapping) | {
            str(public): private for public, private in zip(dynamic, request.dynamic_ports, strict=True)
        }
        held = Reservation(
            allocation_id=allocation_id,
            ensemble_id=request.ensemble_id,
            node_id=request.node_id,
            orchestrator=orchestrator,
            resources=resources,
            expiry_ns=expiry_ns,
            ports=ports,
        )
        try:
            promised = await self._resources.commit(allocation_id, resources, expiry_ns / NS_PER_S, beside=beside)
            held = msgspec.structs.replace(held, resources=promised)  # with the very GPUs
            await self._store.run(lambda session: self._documents(session).put(allocation_id, held))
        except BaseException:
            self._ports.release(allocation_id)
            with trio.CancelScope(shield=True):
                await self._resources.release(allocation_id)
            raise
        self._held[allocation_id] = held
        return held

    async def consume(self, reservation: Reservation) -> None:
        """It has become an allocation: resources and ports stay taken, under the same id."""
        self._held.pop(reservation.allocation_id, None)  # first: a sweep meanwhile would take what it has become
        await self._resources.allocate(reservation.allocation_id)
        await self.forget(reservation.allocation_id)

    async def release(self, reservation: Reservation) -> None:
        """Give everything back."""
        self._ports.release(reservation.allocation_id)
        await self._resources.release(reservation.allocation_id)
        await self.forget(reservation.allocation_id)

    async def sweep(self) -> int:
        """Give back what has expired; how many that were. What the ledger holds alone goes as well."""
        now_ns = self._clock_ns()
        expired = [r for r in self._held.values() if r.expiry_ns < now_ns]
        for reservation in expired:
            await self.release(reservation)
        await self._resources.sweep_expired()
        return len(expired)

    async def forget(self, allocation_id: AllocationID) -> None:
        """Drop the record only: what it held is somebody else's now."""
        self._held.pop(allocation_id, None)

        def transact(session: Session) -> None:
            try:
                self._documents(session).delete(allocation_id)
            except DMSError:
                return  # it never got there

        await self._store.run(transact)

    def _documents(self, session: Session) -> Documents[Reservation]:
        return Documents(session, table, Reservation)


def ports_of(mapping: Mapping[str, int]) -> Ports:
    """The host ports of a public → private mapping; which were asked for by number no longer matters."""
    return Ports(static=tuple(int(public) for public in mapping))


def check_ensemble_id(ensemble: str) -> None:
    """Refuse what cannot be the id of an ensemble: it becomes part of behaviours, capabilities and directories.

    :raises InvalidRequest: it is none.
    """
    if not _ENSEMBLE.fullmatch(ensemble):
        raise InvalidRequest(f"invalid ensemble id: {ensemble[:80]!r}")


def check_allocation_id(allocation_id: str, ensemble: str, node: str) -> None:
    """Refuse an id that is not ``<ensemble id>_<node>.<allocation>`` of this very node.

    :raises InvalidRequest: it is not.
    """
    check_ensemble_id(ensemble)
    key = allocation_id.removeprefix(f"{ensemble}_")
    if (
        not allocation_id.startswith(f"{ensemble}_{node}.")
        or not _KEY.fullmatch(key)
        or len(allocation_id) > MAX_ID_CHARS
    ):
        raise InvalidRequest(f"invalid allocation id: {allocation_id[:MAX_ID_CHARS]!r}")


def _static(request: CommitRequest) -> list[int]:
    try:
        return [int(public) for public in request.port_mapping]
    except ValueError:
        raise InvalidRequest("public ports are numbers") from None


def _is_for(held: Reservation, request: CommitRequest) -> bool:
    """Whether what is held is what is asked for; which cards that are was chosen here."""
    had, wanted = held.resources, _bare(request)
    if (had.cpu, had.ram, had.disk, len(had.gpus)) != (wanted.cpu, wanted.ram, wanted.disk, len(wanted.gpus)):
        return False
    chosen = {public: private for public, private in held.ports.items() if public not in request.port_mapping}
    static = {public: private for public, private in held.ports.items() if public in request.port_mapping}
    return static == request.port_mapping and sorted(chosen.values()) == sorted(request.dynamic_ports)


def _bare(request: CommitRequest) -> Resources:
    wanted = request.resources
    return Resources(cpu=wanted.cpu, gpus=wanted.gpus, ram=wanted.ram, disk=wanted.disk)
