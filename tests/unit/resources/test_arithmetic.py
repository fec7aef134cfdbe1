import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.resources import add, subtract, total
from dms.resources.arithmetic import MAX_SIZE_BYTES, check, hundredths, normalized
from dms.resources.errors import InvalidResources, Underflow
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

cores = st.integers(0, 6400).map(lambda n: n / 100)
sizes = st.integers(0, 1 << 50)
gpus = st.lists(st.builds(GPU, index=st.integers(0, 3), vram=sizes), max_size=4, unique_by=lambda gpu: gpu.index).map(
    tuple
)
resources = st.builds(
    Resources,
    cpu=st.builds(CPU, cores=cores, clock_speed=st.sampled_from((0.0, 2e9)), model=st.sampled_from(("", "m"))),
    ram=st.builds(RAM, size=sizes),
    disk=st.builds(Disk, size=sizes),
    gpus=gpus,
)


def amounts(r: Resources) -> tuple[int, int, int, dict[int, int]]:
    return hundredths(r.cpu.cores), r.ram.size, r.disk.size, {g.index: g.vram for g in r.gpus if g.vram}


@settings(max_examples=60)
@given(resources, resources)
def test_what_is_added_can_be_taken_away_exactly(a: Resources, b: Resources) -> None:
    assert amounts(subtract(add(a, b), b)) == amounts(a)


@settings(max_examples=40)
@given(resources, resources, resources)
def test_addition_does_not_care_for_order_or_grouping(a: Resources, b: Resources, c: Resources) -> None:
    assert amounts(add(a, b)) == amounts(add(b, a))
    assert add(add(a, b), c) == add(a, add(b, c)) == total((a, b, c))


@settings(max_examples=40)
@given(resources)
def test_nothing_is_neutral(a: Resources) -> None:
    assert add(Resources(), a) == add(a, Resources()) == subtract(a, Resources()) == total((a,)) == a
    assert total(()) == Resources()


@settings(max_examples=60)
@given(resources, resources)
def test_subtraction_never_goes_below_zero(a: Resources, b: Resources) -> None:
    have, want = amounts(a), amounts(b)
    fits = all(w <= h for w, h in zip(want[:3], have[:3], strict=True)) and all(
        vram <= have[3].get(index, 0) for index, vram in want[3].items()
    )
    if fits:
        rest = subtract(a, b)
        check(rest)
        assert amounts(add(rest, b)) == have
    else:
        with pytest.raises(Underflow):
            subtract(a, b)


def test_many_hundredths_add_up_without_drift() -> None:
    assert total([Resources(cpu=CPU(cores=0.1))] * 10).cpu.cores == 1.0
    assert subtract(Resources(cpu=CPU(cores=0.3)), Resources(cpu=CPU(cores=0.1))).cpu.cores == 0.2
    assert normalized(Resources(cpu=CPU(cores=1.23456))).cpu.cores == 1.23


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (
            Resources(cpu=CPU(cores=1)),
            Resources(cpu=CPU(cores=1.5)),
            "error subtracting CPU: core: underflow, cannot subtract 1.5 from 1",
        ),
        (
            Resources(ram=RAM(size=1)),
            Resources(ram=RAM(size=2)),
            "error subtracting RAM: size: underflow, cannot subtract 2 from 1",
        ),
        (
            Resources(disk=Disk(size=1)),
            Resources(disk=Disk(size=2)),
            "error subtracting Disk: size: underflow, cannot subtract 2 from 1",
        ),
        (
            Resources(gpus=(GPU(vram=1),)),
            Resources(gpus=(GPU(vram=2),)),
            "error subtracting GPUs: total VRAM: underflow, cannot subtract 2 from 1",
        ),
        (
            Resources(gpus=(GPU(index=1, vram=9),)),
            Resources(gpus=(GPU(index=2, vram=1),)),
            "error subtracting GPUs: total VRAM: underflow, cannot subtract 1 from 0",
        ),
    ],
)
def test_underflow_names_the_part(left: Resources, right: Resources, message: str) -> None:
    with pytest.raises(Underflow) as caught:
        subtract(left, right)
    assert caught.value.message == message


def test_gpus_are_told_apart_by_uuid_and_else_by_index() -> None:
    one, two = GPU(index=0, uuid="u0", vram=10), GPU(index=1, uuid="u1", vram=20)
    machine = Resources(gpus=(one, two))
    moved = Resources(gpus=(GPU(index=0, uuid="u1", vram=5),))
    assert [g.vram for g in subtract(machine, moved).gpus] == [10, 15]
    by_index = Resources(gpus=(GPU(index=1, vram=5),))
    assert [g.vram for g in subtract(machine, by_index).gpus] == [10, 15]
    assert [g.vram for g in add(machine, Resources(gpus=(GPU(index=0, uuid="u2", vram=7),))).gpus] == [10, 20, 7]
    twice = Resources(gpus=(GPU(index=0, vram=6), GPU(index=0, vram=6)))
    with pytest.raises(Underflow, match="cannot subtract 6 from 4"):
        subtract(machine, twice)


@pytest.mark.parametrize(
    "bad",
    [
        Resources(cpu=CPU(cores=-0.01)),
        Resources(cpu=CPU(cores=float("nan"))),
        Resources(cpu=CPU(cores=float("inf"))),
        Resources(cpu=CPU(cores=1e300)),
        Resources(cpu=CPU(clock_speed=float("nan"))),
        Resources(cpu=CPU(clock_speed=-1.0)),
        Resources(ram=RAM(size=-1)),
        Resources(disk=Disk(size=MAX_SIZE_BYTES + 1)),
        Resources(gpus=(GPU(vram=-1),)),
        Resources(gpus=(GPU(),) * 1025),
    ],
)
def test_amounts_that_make_no_sense_are_refused(bad: Resources) -> None:
    with pytest.raises(InvalidResources, match="invalid resources"):
        check(bad)
