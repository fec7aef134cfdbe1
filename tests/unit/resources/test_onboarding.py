from collections.abc import AsyncIterator

import msgspec
import pytest

from dms.resources.benchmark import Benchmark
from dms.resources.benchmarks import Benchmarks
from dms.resources.errors import CapacityNotMet, DemandTooHigh, HighUsage, InvalidResources, NotOnboarded
from dms.resources.manager import ResourceManager
from dms.resources.onboarding import Onboarding, OnboardingConfig
from dms.store import Store
from dms.testing.hardware import EIGHT_CORES, FixedMachine
from dms.types import gojson
from dms.types.ids import AllocationID
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

GB = 1_000_000_000
GIB = 1 << 30
A = AllocationID("a")


def wanted(cores: float = 4, ram: int = 8 * GIB, disk: int = 10 * GIB, gpus: tuple[GPU, ...] = ()) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram), disk=Disk(size=disk), gpus=gpus)


class Rig:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.machine = FixedMachine()
        self.manager = ResourceManager(store, self.machine, lambda: 100.0)
        self.onboarding = Onboarding(self.manager, self.machine, store)

    async def restarted(self) -> "Rig":
        rig = Rig(self.store)
        rig.machine = self.machine
        rig.manager = ResourceManager(self.store, self.machine, lambda: 100.0)
        rig.onboarding = Onboarding(rig.manager, self.machine, self.store)
        await rig.manager.load()
        return rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with await Store.open(None) as store:
        yield Rig(store)


async def test_what_is_onboarded_has_the_wanted_amounts_and_the_kinds_of_the_machine(rig: Rig) -> None:
    assert rig.onboarding.info() == OnboardingConfig(is_onboarded=False)
    assert gojson.encode(rig.onboarding.info()) == b'{"is_onboarded":false}'
    config = await rig.onboarding.onboard(wanted(cores=3.999))
    assert config.is_onboarded
    offered = config.onboarded_resources
    assert offered is not None
    assert offered.cpu == msgspec.structs.replace(EIGHT_CORES.cpu, cores=4.0)
    assert (offered.ram.size, offered.disk.size) == (8 * GIB, 10 * GIB)
    assert rig.manager.free() == offered
    again = await rig.restarted()
    assert again.onboarding.is_onboarded
    assert again.onboarding.info() == config
    assert await again.onboarding.restore() is None
    assert await again.onboarding.report_usage() is None


async def test_who_offers_nothing_has_no_high_usage(rig: Rig) -> None:
    rig.machine.used = Resources(ram=RAM(size=15 * GIB))
    assert await rig.onboarding.report_usage() is None


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (wanted(cores=0.5), "cores must be between 1 and 8"),
        (wanted(cores=8.01), "cores must be between 1 and 8"),
        (wanted(ram=GIB), "expected RAM to be between 1.72 GB and 15.46 GB, got 1.07 GB"),
        (wanted(ram=15 * GIB), "expected RAM to be between 1.72 GB and 15.46 GB, got 16.11 GB"),
        (wanted(disk=0), "expected disk to be above 0 GB and at most 107.37 GB, got 0.00 GB"),
        (wanted(disk=101 * GIB), "expected disk to be above 0 GB and at most 107.37 GB, got 108.45 GB"),
        (wanted(gpus=(GPU(index=3, vram=5),)), "GPU 3 does not exist on this machine"),
    ],
)
async def test_more_or_less_than_the_rules_allow_is_refused(rig: Rig, resources: Resources, message: str) -> None:
    with pytest.raises(CapacityNotMet) as caught:
        await rig.onboarding.onboard(resources)
    assert caught.value.message == message
    assert not rig.onboarding.is_onboarded


@pytest.mark.parametrize("resources", [wanted(8, 16 * GIB * 9 // 10, 100 * GIB), wanted(1, 16 * GIB // 10 + 1, 1)])
async def test_the_bounds_themselves_are_fine(rig: Rig, resources: Resources) -> None:
    await rig.onboarding.onboard(resources)


async def test_a_machine_with_less_than_a_core_may_offer_what_it_has(rig: Rig) -> None:
    rig.machine.total = msgspec.structs.replace(EIGHT_CORES, cpu=CPU(cores=0.5, clock_speed=1e9))
    await rig.onboarding.onboard(wanted(cores=0.5))
    with pytest.raises(CapacityNotMet):
        await rig.onboarding.onboard(wanted(cores=0.4))


async def test_amounts_that_make_no_sense_are_refused(rig: Rig) -> None:
    with pytest.raises(InvalidResources):
        await rig.onboarding.onboard(wanted(cores=float("nan")))


@pytest.mark.parametrize(
    ("used", "message"),
    [
        (Resources(cpu=CPU(cores=4.5)), "not enough free compute available on the system: 7.00 GHz, wanted 8.00 GHz"),
        (
            Resources(ram=RAM(size=10 * GIB)),
            "not enough free RAM available on the system: 6.44 GB, wanted 8.59 GB",
        ),
        (
            Resources(disk=Disk(size=95 * GIB)),
            "not enough free disk available on the system: 5.37 GB, wanted 10.74 GB",
        ),
    ],
)
async def test_what_others_use_cannot_be_offered(rig: Rig, used: Resources, message: str) -> None:
    rig.machine.used = used
    with pytest.raises(HighUsage) as caught:
        await rig.onboarding.onboard(wanted())
    assert caught.value.message == message
    assert not rig.onboarding.is_onboarded


async def test_busy_processors_can_be_left_out_of_account(rig: Rig) -> None:
    rig.machine.used = Resources(cpu=CPU(cores=8))
    tolerant = Onboarding(rig.manager, rig.machine, rig.store, check_cpu_usage=False)
    await tolerant.onboard(wanted())
    assert tolerant.is_onboarded


async def test_gpus_are_bound_by_their_own_memory(rig: Rig) -> None:
    gpu = GPU(index=0, uuid="u", model="m", vendor="NVIDIA", vram=10 * GB)
    rig.machine.total = msgspec.structs.replace(EIGHT_CORES, gpus=(gpu,))
    for vram in (GB - 1, 9 * GB + 1):
        with pytest.raises(CapacityNotMet, match=r"^expected GPU 0 VRAM to be between 1\.00 GB and 9\.00 GB"):
            await rig.onboarding.onboard(wanted(gpus=(GPU(index=0, vram=vram),)))
    rig.machine.used = Resources(gpus=(msgspec.structs.replace(gpu, vram=6 * GB),))
    with pytest.raises(HighUsage, match=r"^not enough free VRAM available on the system: 4\.00 GB, wanted 5\.00 GB$"):
        await rig.onboarding.onboard(wanted(gpus=(GPU(index=0, vram=5 * GB),)))
    config = await rig.onboarding.onboard(wanted(gpus=(GPU(index=0, vram=4 * GB),)))
    assert config.onboarded_resources is not None
    assert config.onboarded_resources.gpus == (msgspec.structs.replace(gpu, vram=4 * GB),)


async def test_onboarding_again_offers_the_new_amounts_and_never_less_than_runs(rig: Rig) -> None:
    await rig.onboarding.onboard(wanted(4))
    await rig.manager.commit(A, wanted(3, GIB, GIB), 200)
    await rig.manager.allocate(A)
    await rig.onboarding.onboard(wanted(5))
    assert rig.manager.free().cpu.cores == 2
    with pytest.raises(DemandTooHigh):
        await rig.onboarding.onboard(wanted(2))
    assert rig.manager.free().cpu.cores == 2


async def test_offboarding_is_refused_while_allocations_run(rig: Rig) -> None:
    with pytest.raises(NotOnboarded):
        await rig.onboarding.offboard()
    await rig.onboarding.onboard(wanted())
    await rig.manager.commit(A, wanted(1, GIB, GIB), 200)
    await rig.manager.allocate(A)
    with pytest.raises(DemandTooHigh):
        await rig.onboarding.offboard()
    assert (await rig.restarted()).onboarding.is_onboarded
    await rig.manager.deallocate(A)
    await rig.onboarding.offboard()
    assert rig.onboarding.info() == OnboardingConfig(is_onboarded=False)
    assert not (await rig.restarted()).onboarding.is_onboarded


async def test_at_start_a_machine_that_shrank_is_offboarded(rig: Rig) -> None:
    await rig.onboarding.onboard(wanted())
    rig.machine.total = msgspec.structs.replace(EIGHT_CORES, ram=RAM(size=8 * GIB))
    again = await rig.restarted()
    assert isinstance(await again.onboarding.restore(), CapacityNotMet)
    assert not again.onboarding.is_onboarded
    assert await again.onboarding.restore() is None


async def test_at_start_a_machine_that_shrank_keeps_what_runs_on_it(rig: Rig) -> None:
    await rig.onboarding.onboard(wanted())
    await rig.manager.commit(A, wanted(1, GIB, GIB), 200)
    await rig.manager.allocate(A)
    rig.machine.total = msgspec.structs.replace(EIGHT_CORES, ram=RAM(size=8 * GIB))
    again = await rig.restarted()
    assert isinstance(await again.onboarding.restore(), CapacityNotMet)
    assert again.onboarding.is_onboarded
    assert again.manager.is_allocated(A)


async def test_at_start_high_usage_changes_nothing(rig: Rig) -> None:
    await rig.onboarding.onboard(wanted())
    rig.machine.used = Resources(ram=RAM(size=15 * GIB))
    again = await rig.restarted()
    assert await again.onboarding.restore() is None
    assert isinstance(await again.onboarding.report_usage(), HighUsage)
    assert again.onboarding.is_onboarded


CARDS = (
    GPU(index=0, uuid="a", vendor="NVIDIA", model="RTX 3080", vram=10 * GIB),
    GPU(index=1, uuid="b", vendor="AMD/ATI", model="Radeon", vram=16 * GIB),
)


def with_cards(rig: Rig, *cards: GPU) -> None:
    rig.machine.total = msgspec.structs.replace(EIGHT_CORES, gpus=cards)


async def test_gpus_are_onboarded_by_text(rig: Rig) -> None:
    with_cards(rig, *CARDS)
    config = await rig.onboarding.onboard(wanted(), gpus="1:8,0:25%")
    assert config.onboarded_resources is not None
    assert [(g.index, g.uuid, g.vram) for g in config.onboarded_resources.gpus] == [
        (1, "b", 8 * GIB),
        (0, "a", 5 * GIB // 2),
    ]
    config = await rig.onboarding.onboard(wanted(gpus=CARDS), no_gpu=True)
    assert config.onboarded_resources is not None
    assert config.onboarded_resources.gpus == ()


@pytest.mark.parametrize(
    ("text", "no_gpu", "message"),
    [
        ("0:10", False, "expected GPU 0 VRAM to be between 1.07 GB and 9.66 GB, got 10.74 GB"),
        ("1:1", False, "expected GPU 1 VRAM to be between 1.72 GB and 15.46 GB, got 1.07 GB"),
        ("2:1", False, "GPU 2 does not exist on this machine"),
        ("0:4", True, "GPUs are offered and withheld at once"),
    ],
)
async def test_gpus_that_cannot_be_offered_are_refused(rig: Rig, text: str, no_gpu: bool, message: str) -> None:
    with_cards(rig, *CARDS)
    with pytest.raises((CapacityNotMet, InvalidResources)) as caught:
        await rig.onboarding.onboard(wanted(), gpus=text, no_gpu=no_gpu)
    assert caught.value.message == message
    assert not rig.onboarding.is_onboarded


async def test_a_gpu_is_not_offered_twice_whatever_it_is_called(rig: Rig) -> None:
    with_cards(rig, *CARDS)
    both = (GPU(index=7, uuid="a", vram=4 * GIB), GPU(index=0, vram=4 * GIB))
    with pytest.raises(InvalidResources, match="a GPU is offered twice"):
        await rig.onboarding.onboard(wanted(gpus=both))


async def test_a_gpu_whose_memory_others_use_is_not_offered(rig: Rig) -> None:
    with_cards(rig, *CARDS)
    rig.machine.used = Resources(gpus=(GPU(uuid="a", vram=8 * GIB),))
    with pytest.raises(HighUsage, match=r"not enough free VRAM available on the system: 2\.15 GB, wanted 4\.29 GB"):
        await rig.onboarding.onboard(wanted(), gpus="0:4")


async def test_a_gpu_that_is_missing_at_the_start_does_not_offboard_the_machine(rig: Rig) -> None:
    with_cards(rig, *CARDS)
    await rig.onboarding.onboard(wanted(), gpus="0:4,1:8")
    with_cards(rig, CARDS[1])
    again = await rig.restarted()
    problem = await again.onboarding.restore()
    assert problem is not None
    assert problem.message == "GPU 0 does not exist on this machine"
    assert again.onboarding.is_onboarded
    assert [gpu.uuid for gpu in (await again.manager.available()).gpus] == ["b"]


async def test_what_is_offered_tells_how_fast_the_disk_was_measured(rig: Rig) -> None:
    async def figures() -> Benchmark:
        return Benchmark(measured_at=1.0, seconds=1.0, disk_read_bps=500, disk_write_bps=200)

    benchmarks = Benchmarks(rig.store, figures)
    onboarding = Onboarding(rig.manager, rig.machine, rig.store, benchmarks=benchmarks)
    before = (await onboarding.onboard(wanted())).onboarded_resources
    await benchmarks.run()
    after = (await onboarding.onboard(wanted())).onboarded_resources
    assert before is not None
    assert after is not None
    assert (before.disk.read_speed, after.disk.read_speed, after.disk.write_speed) == (0, 500, 200)
