import math
import re
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from dms.resources.arithmetic import check
from dms.resources.errors import (
    AlreadyAllocated,
    AlreadyCommitted,
    DemandTooHigh,
    InvalidResources,
    NoFreeResources,
    NoHardwareCapacity,
    NotAllocated,
    NotCommitted,
    NotOnboarded,
    ResourceError,
)
from dms.resources.manager import ResourceManager
from dms.store import Store, StoreError
from dms.testing.hardware import FixedMachine
from dms.types.ids import AllocationID
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

A, B = AllocationID("a"), AllocationID("b")
GIB = 1 << 30


def some(cores: float, ram: int = 1, gpus: tuple[GPU, ...] = ()) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram * GIB), disk=Disk(size=GIB), gpus=gpus)


OFFERED = Resources(
    cpu=CPU(cores=4, clock_speed=2e9, architecture="x86_64"),
    ram=RAM(size=8 * GIB),
    disk=Disk(size=50 * GIB),
    gpus=(GPU(index=0, uuid="u", vram=10),),
)


class Wall:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with await Store.open(None) as store:
        yield store


@pytest.fixture
async def manager(store: Store, wall: Wall) -> ResourceManager:
    manager = ResourceManager(store, FixedMachine(OFFERED), wall)
    await manager.load()
    await manager.update_onboarded(OFFERED)
    return manager


async def reloaded(store: Store, wall: Wall) -> ResourceManager:
    manager = ResourceManager(store, FixedMachine(OFFERED), wall)
    await manager.load()
    return manager


async def test_from_free_to_committed_to_allocated_and_back(manager: ResourceManager) -> None:
    assert manager.free() == OFFERED
    await manager.commit(A, some(1.5, 2, (GPU(uuid="u", vram=4),)), 200)
    assert manager.is_committed(A)
    assert not manager.is_allocated(A)
    assert manager.committed().cpu.cores == 1.5
    free = manager.free()
    assert (free.cpu.cores, free.ram.size, free.disk.size, free.gpus[0].vram) == (2.5, 6 * GIB, 49 * GIB, 6)
    assert free.cpu.architecture == "x86_64"
    assert (await manager.allocate(A)).cpu.cores == 1.5
    assert manager.is_allocated(A)
    assert not manager.is_committed(A)
    assert manager.free() == free
    assert manager.allocated().ram.size == 2 * GIB
    await manager.deallocate(A)
    assert manager.free() == OFFERED


async def test_the_errors_of_the_specification(manager: ResourceManager) -> None:
    await manager.commit(A, some(4), 200)
    with pytest.raises(AlreadyCommitted, match=r"^resources already committed for allocation a$"):
        await manager.commit(A, some(3), 200)
    with pytest.raises(NoFreeResources, match=r"^no free resources: .*core: underflow, cannot subtract 0\.5 from 0$"):
        await manager.commit(B, some(0.5), 200)
    with pytest.raises(NotCommitted, match=r"^resources not committed for allocation b$"):
        await manager.uncommit(B)
    with pytest.raises(NotCommitted, match=r"^resources not committed for allocation b$"):
        await manager.allocate(B)
    await manager.allocate(A)
    with pytest.raises(AlreadyAllocated, match=r"^resources already allocated for allocation a$"):
        await manager.allocate(A)
    with pytest.raises(AlreadyAllocated, match=r"^resources already allocated for allocation a$"):
        await manager.commit(A, some(3), 200)
    with pytest.raises(NotAllocated, match=r"^resources not allocated for allocation b$"):
        await manager.deallocate(B)
    with pytest.raises(DemandTooHigh, match=r"^couldn't subtract allocation: .*underflow.* Demand too high$"):
        await manager.update_onboarded(some(3, 8))
    with pytest.raises(DemandTooHigh, match=r"^couldn't subtract allocation: .*Demand too high$"):
        await manager.update_onboarded(None)
    assert manager.onboarded == OFFERED


async def test_nothing_is_promised_by_a_machine_that_is_not_onboarded(store: Store, wall: Wall) -> None:
    manager = await reloaded(store, wall)
    assert manager.free() == Resources()
    with pytest.raises(NotOnboarded, match=r"^machine is not onboarded$"):
        await manager.commit(A, Resources(), 200)


async def test_the_same_commitment_twice_or_late_is_no_error(manager: ResourceManager) -> None:
    await manager.commit(A, some(1), 200)
    await manager.commit(A, some(1.001), 150)
    assert manager.commitments[A].expires_at == 200
    await manager.commit(A, some(1), 250)
    assert manager.commitments[A].expires_at == 250
    assert manager.committed().cpu.cores == 1
    await manager.allocate(A)
    await manager.commit(A, some(1), 300)
    assert manager.commitments == {}


async def test_release_gives_back_whatever_there_is(manager: ResourceManager) -> None:
    await manager.commit(A, some(1), 200)
    await manager.commit(B, some(1), 200)
    await manager.allocate(B)
    for _ in range(2):
        await manager.release(A)
        await manager.release(B)
    assert manager.free() == OFFERED


async def test_a_promise_ends_at_its_expiry(manager: ResourceManager, wall: Wall) -> None:
    await manager.commit(A, some(4), 200)
    await manager.commit(B, some(0, 1), 300)
    wall.now = 199.9
    assert await manager.sweep_expired() == ()
    wall.now = 200
    assert not manager.is_committed(A)
    with pytest.raises(NotCommitted):
        await manager.allocate(A)
    assert await manager.sweep_expired() == (A,)
    assert set(manager.commitments) == {B}


async def test_an_expired_promise_makes_room_without_waiting_for_the_sweep(
    manager: ResourceManager, wall: Wall, store: Store
) -> None:
    await manager.commit(A, some(4), 200)
    wall.now = 201
    await manager.commit(B, some(4), 300)
    assert set((await reloaded(store, wall)).commitments) == {B}


async def test_what_makes_no_sense_is_refused_before_it_is_counted(manager: ResourceManager) -> None:
    for bad in (some(-1), some(math.nan), some(1, -1), some(1, gpus=(GPU(vram=-1),))):
        with pytest.raises(InvalidResources):
            await manager.commit(A, bad, 200)
    with pytest.raises(InvalidResources):
        await manager.commit(AllocationID(""), some(1), 200)
    with pytest.raises(InvalidResources):
        await manager.update_onboarded(some(-1))
    assert manager.free() == OFFERED


async def test_everything_survives_a_restart(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "dms.db"
    async with await Store.open(path) as store:
        manager = await reloaded(store, wall)
        await manager.update_onboarded(OFFERED)
        await manager.commit(A, some(1), 200)
        await manager.allocate(A)
        await manager.commit(B, some(2), 222.5)
        before = manager.onboarded, dict(manager.allocations), dict(manager.commitments), manager.free()
    async with await Store.open(path) as store:
        manager = await reloaded(store, wall)
        assert before == (manager.onboarded, dict(manager.allocations), dict(manager.commitments), manager.free())
        await manager.deallocate(A)
        await manager.allocate(B)
        manager = await reloaded(store, wall)
        assert (set(manager.allocations), set(manager.commitments)) == ({B}, set())


async def test_what_could_not_be_stored_does_not_count(manager: ResourceManager, store: Store) -> None:
    await store.aclose()
    with pytest.raises(StoreError):
        await manager.commit(A, some(1), 200)
    assert manager.free() == OFFERED


async def test_many_who_ask_at_once_do_not_get_more_than_there_is(manager: ResourceManager) -> None:
    refused: list[str] = []

    async def ask(name: str) -> None:
        try:
            await manager.commit(AllocationID(name), some(1), 200)
        except NoFreeResources:
            refused.append(name)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, str(number))
    assert len(refused) == 6
    assert manager.free().cpu.cores == 0


async def test_the_hardware_itself_may_be_full(store: Store) -> None:
    machine = FixedMachine()
    manager = ResourceManager(store, machine)
    await manager.check_hardware(Resources(ram=machine.total.ram, disk=machine.total.disk))
    machine.used = Resources(ram=RAM(size=15 * GIB), cpu=CPU(cores=8))
    await manager.check_hardware(some(8, 1))
    with pytest.raises(
        NoHardwareCapacity, match=r"^no capacity left on the hardware: 2\.0 GiB of RAM wanted, 1\.0 GiB"
    ):
        await manager.check_hardware(some(1, 2))
    with pytest.raises(NoHardwareCapacity, match="of disk wanted"):
        await manager.check_hardware(Resources(disk=Disk(size=1 << 50)))


async def test_the_gpu_itself_may_be_full_or_gone(store: Store) -> None:
    machine = FixedMachine(OFFERED, Resources(gpus=(GPU(index=0, uuid="u", vram=4),)))
    manager = ResourceManager(store, machine)
    await manager.check_hardware(Resources(gpus=(GPU(uuid="u", vram=6),)))
    for gpu in (GPU(uuid="u", vram=7), GPU(uuid="other", index=1, vram=1)):
        with pytest.raises(NoHardwareCapacity, match=f"of VRAM of GPU {gpu.index} wanted"):
            await manager.check_hardware(Resources(gpus=(gpu,)))


async def test_a_gpu_that_was_removed_is_not_promised_until_it_is_back(manager: ResourceManager, store: Store) -> None:
    machine = FixedMachine(OFFERED)
    manager = ResourceManager(store, machine, Wall())
    await manager.load()
    wanted = some(1, gpus=(GPU(vram=4),))
    machine.total = some(4, 8)
    assert (await manager.available()).gpus == ()
    assert manager.free().gpus == OFFERED.gpus
    with pytest.raises(NoFreeResources):
        await manager.commit(A, wanted, 200)
    await manager.commit(B, some(1), 200)
    machine.total = OFFERED
    assert (await manager.available()).gpus == OFFERED.gpus
    promised = await manager.commit(A, wanted, 200)
    assert promised.gpus == (GPU(index=0, uuid="u", vram=4),)
    assert await manager.allocate(A) == await manager.commit(A, wanted, 200) == promised


class ManagerMachine(RuleBasedStateMachine):
    """The manager against a model of dictionaries, restarts included."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.wall = Wall()
        self.store = trio.run(Store.open, None)
        self.promised: dict[str, tuple[int, int, float]] = {}
        self.running: dict[str, tuple[int, int]] = {}
        self.offered = (0, 0)
        self.restart()

    def teardown(self) -> None:
        trio.run(self.store.aclose)

    @rule()
    def restart(self) -> None:
        self.manager = ResourceManager(self.store, FixedMachine(), self.wall)
        trio.run(self.manager.load)

    @rule(cores=st.integers(0, 400), ram=st.integers(0, 8))
    def onboard(self, cores: int, ram: int) -> None:
        taken = self.taken(self.live())
        if taken[0] > cores or taken[1] > ram:
            with pytest.raises(DemandTooHigh):
                trio.run(self.manager.update_onboarded, self.amount(cores, ram))
        else:
            trio.run(self.manager.update_onboarded, self.amount(cores, ram))
            self.offered = (cores, ram)
            self.expire()  # what fails changes nothing, not even that

    @rule(
        target=ids,
        name=st.sampled_from("abcdef"),
        cores=st.integers(0, 200),
        ram=st.integers(0, 4),
        ttl=st.integers(-1, 9),
    )
    def commit(self, name: str, cores: int, ram: int, ttl: int) -> str:
        expires_at = self.wall.now + ttl
        held = self.running.get(name) or self.live().get(name, (None,))[:2]
        taken = self.taken(self.live())
        fits = taken[0] + cores <= self.offered[0] and taken[1] + ram <= self.offered[1]
        same = held == (cores, ram)
        try:
            trio.run(self.manager.commit, AllocationID(name), self.amount(cores, ram), expires_at)
        except ResourceError:
            assert self.manager.onboarded is None or not (same or (fits and held == (None,)))
            return name
        assert same or (fits and held == (None,))
        self.expire()
        if name not in self.running:
            old = self.promised.get(name, (0, 0, -math.inf))
            self.promised[name] = (cores, ram, max(expires_at, old[2]))
        return name

    @rule(name=ids)
    def allocate(self, name: str) -> None:
        if name in self.live() and name not in self.running:
            trio.run(self.manager.allocate, AllocationID(name))
            self.running[name] = self.promised.pop(name)[:2]
        else:
            with pytest.raises(AlreadyAllocated if name in self.running else NotCommitted):
                trio.run(self.manager.allocate, AllocationID(name))

    @rule(name=consumes(ids))
    def give_back(self, name: str) -> None:
        if name in self.running:
            before = self.manager.free()
            trio.run(self.manager.deallocate, AllocationID(name))
            cores, ram = self.running.pop(name)
            after = self.manager.free()
            assert round((after.cpu.cores - before.cpu.cores) * 100) == cores
            assert after.ram.size - before.ram.size == ram
        elif name in self.promised:
            trio.run(self.manager.uncommit, AllocationID(name))
            del self.promised[name]
        else:
            with pytest.raises(NotAllocated):
                trio.run(self.manager.deallocate, AllocationID(name))

    @rule(passed=st.integers(0, 5))
    def time_passes(self, passed: int) -> None:
        self.wall.now += passed

    @rule()
    def sweep(self) -> None:
        assert set(trio.run(self.manager.sweep_expired)) == self.promised.keys() - self.live().keys()
        self.expire()

    @invariant()
    def sums_are_exact_and_nothing_is_negative(self) -> None:
        free = self.manager.free()
        check(free)
        assert self.manager.allocations.keys() == self.running.keys()
        assert self.manager.commitments.keys() == self.promised.keys()
        if self.manager.onboarded is not None:
            taken = self.taken()
            assert round(free.cpu.cores * 100) == self.offered[0] - taken[0]
            assert free.ram.size == self.offered[1] - taken[1]

    @staticmethod
    def amount(cores: int, ram: int) -> Resources:
        return Resources(cpu=CPU(cores=cores / 100), ram=RAM(size=ram))

    def live(self) -> dict[str, tuple[int, int, float]]:
        return {k: v for k, v in self.promised.items() if v[2] > self.wall.now}

    def expire(self) -> None:
        self.promised = self.live()

    def taken(self, promised: dict[str, tuple[int, int, float]] | None = None) -> tuple[int, int]:
        both = [(p[0], p[1]) for p in (self.promised if promised is None else promised).values()]
        both += self.running.values()
        return sum(b[0] for b in both), sum(b[1] for b in both)


TestManagerMachine = ManagerMachine.TestCase
TestManagerMachine.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def test_texts_of_errors_have_no_place_holders() -> None:
    for error in (NotOnboarded(), NoFreeResources(), DemandTooHigh()):
        assert not re.search(r"[{}<>]", error.message)
