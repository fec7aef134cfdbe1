from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.resources import Comparison, compare, subtract, unmet
from dms.resources.comparison import compare_cpu, compare_gpus
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

BETTER, WORSE, EQUAL, NONE = Comparison.BETTER, Comparison.WORSE, Comparison.EQUAL, Comparison.NONE

GIB = 1 << 30
MACHINE = Resources(
    cpu=CPU(cores=4, clock_speed=2e9, architecture="x86_64"), ram=RAM(size=8 * GIB), disk=Disk(size=100 * GIB)
)

vrams = st.lists(st.integers(0, 6), max_size=4)


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (BETTER, (BETTER, WORSE, BETTER, NONE)),
        (WORSE, (WORSE, WORSE, WORSE, NONE)),
        (EQUAL, (BETTER, WORSE, EQUAL, NONE)),
        (NONE, (NONE, NONE, NONE, NONE)),
    ],
)
def test_the_table_of_and(row: Comparison, cells: tuple[Comparison, ...]) -> None:
    assert tuple(row & column for column in (BETTER, WORSE, EQUAL, NONE)) == cells
    assert [c.satisfies for c in (BETTER, WORSE, EQUAL, NONE)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("wanted", "result", "reasons"),
    [
        (MACHINE, EQUAL, {}),
        (Resources(), BETTER, {}),
        (Resources(cpu=CPU(cores=1), ram=RAM(size=GIB), disk=Disk(size=GIB)), BETTER, {}),
        (Resources(cpu=CPU(cores=5)), WORSE, {"cpu.cores": "5 cores wanted, 4 there"}),
        (Resources(cpu=CPU(cores=1, clock_speed=3e9)), BETTER, {}),
        (
            Resources(cpu=CPU(cores=4, clock_speed=2.5e9)),
            WORSE,
            {"cpu.clock_speed": "4 cores at 2.5 GHz wanted, 4 at 2.0 GHz there"},
        ),
        (
            Resources(cpu=CPU(cores=1, architecture="aarch64")),
            NONE,
            {"cpu.architecture": "aarch64 wanted, the machine is x86_64"},
        ),
        (Resources(cpu=CPU(cores=4, architecture="AMD64")), BETTER, {}),
        (Resources(ram=RAM(size=9 * GIB)), WORSE, {"ram.size": "9.0 GiB of RAM wanted, 8.0 GiB there"}),
        (
            Resources(ram=RAM(size=8 * GIB + 1)),
            WORSE,
            {"ram.size": "8589934593 bytes of RAM wanted, 8589934592 bytes there"},
        ),
        (Resources(disk=Disk(size=200 * GIB)), WORSE, {"disk.size": "200.0 GiB of disk wanted, 100.0 GiB there"}),
        (Resources(gpus=(GPU(vram=1),)), NONE, {"gpus[0]": "any GPU wanted, there is no GPU"}),
    ],
)
def test_each_part_is_compared_and_named(wanted: Resources, result: Comparison, reasons: dict[str, str]) -> None:
    assert compare(MACHINE, wanted) is result
    assert {u.part: u.reason for u in unmet(MACHINE, wanted)} == reasons


def test_all_that_is_missing_is_told_at_once() -> None:
    wanted = Resources(
        cpu=CPU(cores=9, architecture="arm64"), ram=RAM(size=1 << 60), disk=Disk(size=1 << 60), gpus=(GPU(vram=1),)
    )
    parts = [u.part for u in unmet(MACHINE, wanted)]
    assert parts == ["cpu.architecture", "cpu.cores", "ram.size", "disk.size", "gpus[0]"]


def test_fewer_cores_are_not_made_up_for_by_a_faster_clock() -> None:
    assert compare_cpu(CPU(cores=2, clock_speed=4e9), CPU(cores=4, clock_speed=1e9)) is WORSE


def test_an_unknown_architecture_does_not_meet_a_requirement() -> None:
    assert compare_cpu(CPU(cores=2), CPU(cores=1, architecture="x86_64")) is NONE


def gpu(vram: int, vendor: str = "NVIDIA", model: str = "RTX 3080", index: int = 0) -> GPU:
    return GPU(vram=vram, vendor=vendor, model=model, index=index)


def test_gpus_must_be_of_the_vendor_and_model_asked_for() -> None:
    machine = (gpu(10), gpu(16, "AMD/ATI", "RX 6800", 1))
    assert compare_gpus(machine, ()) is EQUAL
    assert compare_gpus(machine, (GPU(vram=10),)) is EQUAL
    assert compare_gpus(machine, (GPU(vendor="nvidia", vram=9),)) is BETTER
    assert compare_gpus(machine, (GPU(vendor="NVIDIA", vram=11),)) is WORSE
    assert compare_gpus(machine, (GPU(vendor="Intel"),)) is NONE
    assert compare_gpus(machine, (GPU(model="rx 6800", vram=16),)) is EQUAL
    resources = Resources(gpus=machine)
    reasons = [
        unmet(resources, Resources(gpus=(wanted,)))[0].reason
        for wanted in (GPU(vendor="NVIDIA", vram=1 << 31), GPU(vendor="Intel"), GPU(uuid="GPU-1"))
    ]
    assert reasons == [
        "2.0 GiB of VRAM on NVIDIA wanted, 10 B there",
        "Intel wanted, there is NVIDIA RTX 3080, AMD/ATI RX 6800",
        "GPU-1 wanted, there is NVIDIA RTX 3080, AMD/ATI RX 6800",
    ]


def test_one_gpu_does_not_serve_two_requirements() -> None:
    machine = Resources(gpus=(gpu(10),))
    wanted = Resources(gpus=(GPU(vram=5), GPU(vram=5)))
    assert not compare(machine, wanted).satisfies
    (missing,) = unmet(machine, wanted)
    assert missing.part == "gpus[1]"
    assert missing.reason == "any GPU wanted as number 2, those that fit serve other requirements"


def test_a_requirement_that_could_use_another_gpu_makes_room() -> None:
    machine = Resources(gpus=(gpu(10), gpu(12, "AMD/ATI", index=1)))
    wanted = Resources(gpus=(GPU(vram=8), GPU(vendor="NVIDIA", vram=6)))
    assert unmet(machine, wanted) == ()


@given(vrams, vrams)
def test_gpus_are_matched_whenever_any_assignment_exists(have: list[int], want: list[int]) -> None:
    machine = Resources(gpus=tuple(GPU(index=i, vram=v) for i, v in enumerate(have)))
    wanted = Resources(gpus=tuple(GPU(vram=v) for v in want))
    possible = len(want) <= len(have) and any(
        all(h >= w for h, w in zip(chosen, want, strict=True)) for chosen in permutations(have, len(want))
    )
    assert (unmet(machine, wanted) == ()) == possible
    assert compare(machine, wanted).satisfies == possible


amount = st.builds(
    lambda cores, ram, disk: Resources(cpu=CPU(cores=cores / 100), ram=RAM(size=ram), disk=Disk(size=disk)),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 5),
)


@given(amount, amount)
def test_what_satisfies_can_be_subtracted_and_nothing_else(machine: Resources, wanted: Resources) -> None:
    satisfied = compare(machine, wanted).satisfies
    assert satisfied == (unmet(machine, wanted) == ())
    if satisfied:
        subtract(machine, wanted)
    else:
        with pytest.raises(Exception, match="underflow"):
            subtract(machine, wanted)
