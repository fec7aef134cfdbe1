"""What is reserved, for whom and for how long: on the disk before it is promised, and never for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from dms.actor.handle import handle_of_peer
from dms.identity.ids import peer_id_of
from dms.node.errors import InvalidRequest, NotCommitted
from dms.node.reservations import Reservations, check_allocation_id, ports_of
from dms.orchestrator.messages import CommitRequest, CommitResources
from dms.resources.errors import AlreadyCommitted, NoFreeResources, PortsTaken
from dms.resources.manager import ResourceManager
from dms.resources.ports import PortAllocator
from dms.store import Session, Store, StoreError
from dms.testing.actors import key_of
from dms.testing.hardware import FixedMachine
from dms.testing.parties import NOW_NS, StoppedClock
from dms.types.ids import AllocationID, EnsembleID
from dms.types.resources import CPU, RAM, Disk, Resources

S = 10**9
ENSEMBLE = EnsembleID("e" * 64)
ID = AllocationID(f"{ENSEMBLE}_n1.a")
OFFERED = Resources(cpu=CPU(cores=2.0), ram=RAM(size=100), disk=Disk(size=100))
OWNER, OTHER = (handle_of_peer(peer_id_of(key_of(name).public)) for name in ("owner", "other"))


class Desk:
    """Reservations with what is beneath them."""

    def __init__(self, store: Store) -> None:
        self.store, self.clock = store, StoppedClock()
        self.reset()

    def reset(self) -> None:
        """As a new process begins."""
        self.resources = ResourceManager(self.store, FixedMachine(), clock=lambda: self.clock() / S)
        self.ports = PortAllocator(1000, 1100)
        self.held = Reservations(self.store, self.resources, self.ports, clock_ns=self.clock)

    async def load(self) -> None:
        await self.resources.load()
        await self.held.load()

    async def commit(self, owner: Any = OWNER, **members: Any) -> Any:
        return await self.held.commit(msgspec.structs.replace(REQUEST, **members), owner, self.clock() + 300 * S)

    def is_empty(self) -> bool:
        return self.resources.committed() == Resources() and not self.ports.held


REQUEST = CommitRequest(
    ensemble_id=ENSEMBLE,
    allocation_id=ID,
    node_id="n1",
    resources=CommitResources(cpu=CPU(cores=1.5), ram=RAM(size=10), disk=Disk(size=10), allocation_id=ID),
    port_mapping={"1005": 80},
    dynamic_ports=(81, 82),
)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with await Store.open(None, now=lambda: NOW_NS / S) as store:
        desk = Desk(store)
        await desk.load()
        await desk.resources.update_onboarded(OFFERED)
        yield desk


async def test_a_reservation_takes_resources_and_ports(desk: Desk) -> None:
    held = await desk.commit()
    assert held.orchestrator == OWNER
    assert held.expiry_ns == NOW_NS + 300 * S
    assert held.ports["1005"] == 80
    assert sorted(held.ports.values()) == [80, 81, 82]
    assert desk.resources.free().cpu.cores == 0.5
    assert {int(p) for p in held.ports} == {*desk.ports.held[ID].static, *desk.ports.held[ID].dynamic}
    assert desk.held.get(ID, OWNER.id) == held


async def test_the_same_again_gets_the_same_answer(desk: Desk) -> None:
    assert await desk.commit() == await desk.commit()
    assert desk.resources.committed().cpu.cores == 1.5


async def test_nobody_else_gets_what_is_reserved(desk: Desk) -> None:
    await desk.commit()
    with pytest.raises(AlreadyCommitted):
        await desk.commit(OTHER)
    with pytest.raises(NotCommitted, match=f"allocation not committed: {ID}"):
        desk.held.get(ID, OTHER.id)
    assert desk.held.of(ENSEMBLE, OTHER.id) == ()
    assert len(desk.held.of(ENSEMBLE, OWNER.id)) == 1


async def test_all_or_nothing(desk: Desk) -> None:
    await desk.commit()
    second = f"{ENSEMBLE}_n1.b"
    with pytest.raises(NoFreeResources):
        await desk.commit(allocation_id=second, port_mapping={})
    with pytest.raises(PortsTaken):
        await desk.commit(allocation_id=second, resources=CommitResources())
    assert set(desk.ports.held) == {ID}
    assert set(desk.resources.commitments) == {ID}


async def test_a_disk_that_fails_leaves_nothing_reserved(desk: Desk) -> None:
    def refuse(session: Session) -> None:
        session.exec_driver_sql("CREATE TRIGGER f BEFORE INSERT ON reservations BEGIN SELECT RAISE(FAIL, 'no'); END")

    await desk.store.run(refuse)
    with pytest.raises(StoreError):
        await desk.commit()
    assert desk.is_empty()


async def test_it_survives_a_restart_with_its_ports(desk: Desk) -> None:
    held = await desk.commit()
    desk.reset()
    await desk.load()
    assert desk.held.get(ID, OWNER.id) == held
    assert {*desk.ports.held[ID].static} == {int(p) for p in held.ports}
    assert desk.resources.free().cpu.cores == 0.5


async def test_what_the_ledger_holds_alone_is_given_back_by_a_restart(desk: Desk) -> None:
    await desk.resources.commit(ID, OFFERED, NOW_NS / S + 10**6)
    desk.reset()
    await desk.load()
    assert desk.is_empty()


async def test_a_reservation_without_resources_is_forgotten_by_a_restart(desk: Desk) -> None:
    await desk.commit()
    await desk.resources.release(ID)
    desk.reset()
    await desk.load()
    with pytest.raises(NotCommitted):
        desk.held.get(ID, OWNER.id)
    assert desk.is_empty()


async def test_it_expires(desk: Desk) -> None:
    await desk.commit()
    assert await desk.held.sweep() == 0
    desk.clock.advance(301 * S)
    with pytest.raises(NotCommitted):
        desk.held.get(ID, OWNER.id)
    assert await desk.held.sweep() == 1
    assert desk.is_empty()
    desk.reset()
    await desk.load()
    assert desk.is_empty()


async def test_a_sweep_takes_what_only_the_ledger_knows(desk: Desk) -> None:
    await desk.resources.commit(ID, OFFERED, NOW_NS / S + 1)
    desk.clock.advance(2 * S)
    await desk.held.sweep()
    assert desk.resources.free() == OFFERED


async def test_what_became_an_allocation_is_not_swept(desk: Desk) -> None:
    held = await desk.commit()
    await desk.held.consume(held)
    desk.clock.advance(301 * S)
    assert await desk.held.sweep() == 0
    assert desk.resources.allocated().cpu.cores == 1.5
    assert ID in desk.ports.held


async def test_given_back_it_is_free_for_others(desk: Desk) -> None:
    held = await desk.commit()
    await desk.held.release(held)
    await desk.held.release(held)
    assert desk.is_empty()
    assert (await desk.commit(OTHER)).orchestrator == OTHER


@pytest.mark.parametrize("ports", [{"http": 80}, {"": 80}, {"1.5": 80}])
async def test_ports_are_numbers(desk: Desk, ports: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        await desk.commit(port_mapping=ports)
    assert desk.is_empty()


@pytest.mark.parametrize(
    "id_",
    [
        "",
        "x",
        f"{ENSEMBLE}_n2.a",
        f"{ENSEMBLE}_n1.",
        f"{ENSEMBLE}_n1.a/b",
        f"{ENSEMBLE}_n1..",
        f"{ENSEMBLE}_n1.a\n",
        f"x{ID}",
    ],
)
def test_ids_are_those_of_the_node(id_: str) -> None:
    check_allocation_id(ID, ENSEMBLE, "n1")
    with pytest.raises(InvalidRequest):
        check_allocation_id(id_, ENSEMBLE, "n1")


def test_ports_of_a_mapping_are_its_keys() -> None:
    assert ports_of({"80": 8080, "81": 1}).static == (80, 81)


async def test_what_an_earlier_attempt_left_is_taken_over_only_if_it_is_the_same_and_lasts(desk: Desk) -> None:
    first = await desk.commit(dynamic_ports=(80,))
    assert await desk.commit(dynamic_ports=(80,)) == first
    desk.clock.now_ns += 200 * S
    assert await desk.commit(dynamic_ports=(80,)) == first, "it lasts for a while"
    desk.clock.now_ns += 80 * S
    later = await desk.commit(dynamic_ports=(80,))
    assert later.expiry_ns == desk.clock() + 300 * S
    other = await desk.commit(dynamic_ports=(81,))
    assert sorted(other.ports.values()) == [80, 81]
    larger = msgspec.structs.replace(REQUEST.resources, cpu=CPU(cores=2.0))
    assert (await desk.commit(resources=larger)).resources.cpu.cores == 2.0
    assert desk.resources.committed().cpu.cores == 2.0
    assert len(desk.ports.held[ID].static) + len(desk.ports.held[ID].dynamic) == 3
    desk.clock.now_ns += 301 * S
    again = await desk.commit()
    assert desk.held.get(ID, OWNER.id) == again, "not the one that has expired"
