import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.resources.capabilities import capabilities

from dms.resources.arithmetic import hundredths
from dms.resources.capability import Connectivity, HardwareCapability, StorageUnit, Time
from dms.resources.capability_arithmetic import add, reserve, subtract
from dms.resources.capability_comparison import unmet
from dms.resources.errors import Underflow
from dms.types.resources import CPU, GPU, Resources

SETS = ("executor", "type", "libraries", "locality", "price", "kycs")


def amounts(a: HardwareCapability) -> object:
    r = a.resources
    gpus = {gpu.index: gpu.vram for gpu in r.gpus if gpu.vram}
    return hundredths(r.cpu.cores), r.ram.size, r.disk.size, gpus, a.storage, a.time.seconds


def whole(a: HardwareCapability) -> object:
    """All that is counted or compared; what a first operand tells of clocks and models depends on which is first."""
    return amounts(a), [getattr(a, name) for name in SETS], a.connectivity


@settings(max_examples=30)
@given(capabilities, capabilities)
def test_what_is_added_can_be_taken_away_exactly(a: HardwareCapability, b: HardwareCapability) -> None:
    rest = subtract(add(a, b), b)
    assert amounts(rest) == amounts(a)
    for name in SETS:
        assert set(getattr(rest, name)) == set(getattr(a, name)) - set(getattr(b, name))


@settings(max_examples=25)
@given(capabilities, capabilities, capabilities)
def test_addition_does_not_care_for_order_or_grouping(
    a: HardwareCapability, b: HardwareCapability, c: HardwareCapability
) -> None:
    assert whole(add(a, b)) == whole(add(b, a))
    assert whole(add(add(a, b), c)) == whole(add(a, add(b, c)))


@settings(max_examples=40)
@given(capabilities)
def test_nothing_is_neutral(a: HardwareCapability) -> None:
    nothing = HardwareCapability()
    assert whole(add(nothing, a)) == whole(add(a, nothing)) == whole(subtract(a, nothing)) == whole(a)
    assert amounts(subtract(a, a)) == amounts(nothing)


@settings(max_examples=30)
@given(capabilities, capabilities)
def test_an_amount_is_taken_as_a_whole_or_not_at_all(a: HardwareCapability, b: HardwareCapability) -> None:
    try:
        rest = subtract(a, b)
    except Underflow:
        return
    assert amounts(add(rest, b)) == amounts(a)


@settings(max_examples=40)
@given(capabilities, capabilities)
def test_what_meets_a_requirement_can_be_reserved_and_nothing_else(
    a: HardwareCapability, b: HardwareCapability
) -> None:
    used = HardwareCapability(resources=b.resources, storage=b.storage)
    # a GPU with no memory left serves nobody, though it is better than none asked for
    is_met = not unmet(a, used) and all(gpu.vram for gpu in (*a.resources.gpus, *b.resources.gpus))
    try:
        rest = reserve(a, b)
    except Underflow:
        assert not is_met
        return
    assert rest.executor == a.executor
    assert sum(unit.amount for unit in rest.storage) == sum(u.amount for u in a.storage) - sum(
        u.amount for u in b.storage
    )


def test_devices_of_any_type_leave_the_certain_ones_to_those_who_need_them() -> None:
    have = HardwareCapability(storage=(StorageUnit(type="ssd", size=1), StorageUnit(type="hdd", size=4)))
    both = HardwareCapability(storage=(StorageUnit(type="", size=1), StorageUnit(type="ssd", size=1)))
    assert reserve(have, both).storage == ()
    with pytest.raises(Underflow, match="1 devices of any type too few"):
        reserve(have, HardwareCapability(storage=(StorageUnit(type="", size=5),)))
    with pytest.raises(Underflow, match="1 devices of ssd too few"):
        reserve(have, HardwareCapability(storage=(StorageUnit(type="ssd", amount=2),)))


def test_a_gpu_of_any_index_serves_a_requirement() -> None:
    have = HardwareCapability(resources=Resources(gpus=(GPU(index=3, uuid="u", vendor="NVIDIA", vram=8),)))
    rest = reserve(have, HardwareCapability(resources=Resources(gpus=(GPU(vendor="NVIDIA", vram=5),))))
    assert rest.resources.gpus == (GPU(index=3, uuid="u", vendor="NVIDIA", vram=3),)


@settings(max_examples=25)
@given(st.sampled_from(("seconds", "minutes", "hours", "days")), st.integers(0, 90), st.integers(0, 90))
def test_times_of_different_units_are_summed_exactly(units: str, minutes: int, count: int) -> None:
    left = HardwareCapability(time=Time(units="minutes", max_time=minutes, preference=3))
    right = HardwareCapability(time=Time(units=units, max_time=count))
    assert add(left, right).time.seconds == minutes * 60 + right.time.seconds
    assert add(left, right).time.preference == 3


def test_too_much_is_an_underflow_that_names_the_part() -> None:
    nothing = HardwareCapability()
    for wanted, named in (
        (HardwareCapability(time=Time(units="hours", max_time=1)), "time: underflow, cannot subtract 3600 s from 0 s"),
        (HardwareCapability(storage=(StorageUnit(type="ssd", amount=2),)), "storage: amount: underflow"),
        (HardwareCapability(resources=Resources(cpu=CPU(cores=1))), "CPU: core: underflow"),
    ):
        with pytest.raises(Underflow, match=f"error subtracting {named}"):
            subtract(nothing, wanted)


def test_a_private_network_is_there_until_it_is_subtracted() -> None:
    with_vpn = HardwareCapability(connectivity=Connectivity(ports=(80,), vpn=True))
    with_port = HardwareCapability(connectivity=Connectivity(ports=(80, 443)))
    assert add(with_vpn, with_port).connectivity == Connectivity(ports=(80, 443), vpn=True)
    assert subtract(with_vpn, with_port).connectivity == Connectivity(vpn=True)
    assert subtract(with_vpn, with_vpn).connectivity == Connectivity()
