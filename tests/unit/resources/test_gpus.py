from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.resources.arithmetic import add, assigned, covers, fits, subtract, take
from dms.resources.errors import Underflow
from dms.resources.gpus import assign, is_alike, pack, serves
from dms.types.resources import GPU, Resources

NVIDIA = GPU(index=0, uuid="n", vendor="NVIDIA", model="RTX 3080", vram=10, pci_address="0000:01:00.0")
AMD = GPU(index=1, uuid="a", vendor="AMD/ATI", model="Radeon RX 6800", vram=16, pci_address="0000:0b:00.0")

machines = st.lists(st.tuples(st.sampled_from(("NVIDIA", "Intel")), st.integers(0, 5)), max_size=4).map(
    lambda cards: tuple(GPU(index=i, uuid=f"u{i}", vendor=v, vram=m) for i, (v, m) in enumerate(cards))
)
requirements = st.lists(
    st.builds(GPU, vendor=st.sampled_from(("", "NVIDIA", "Intel")), vram=st.integers(0, 5)), max_size=4
).map(tuple)


def is_possible(machine: tuple[GPU, ...], wanted: tuple[GPU, ...]) -> bool:
    return any(
        all(is_alike(gpu, needs) and gpu.vram >= max(needs.vram, 1) for gpu, needs in zip(chosen, wanted, strict=True))
        for chosen in permutations(machine, len(wanted))
    )


@settings(max_examples=100)
@given(machines, requirements)
def test_requirements_are_served_whenever_any_choice_would_do(
    machine: tuple[GPU, ...], wanted: tuple[GPU, ...]
) -> None:
    if not is_possible(machine, wanted):
        with pytest.raises(Underflow, match="error subtracting GPUs: total VRAM: underflow"):
            assign(machine, wanted)
        return
    served = assign(machine, wanted)
    assert serves(served, wanted)
    assert len({gpu.uuid for gpu in served}) == len(wanted)
    rest = subtract(Resources(gpus=machine), Resources(gpus=served))
    assert take(Resources(gpus=machine), Resources(gpus=wanted)) == rest
    assert {g.uuid: g.vram for g in add(rest, Resources(gpus=served)).gpus} == {g.uuid: g.vram for g in machine}


def test_a_requirement_takes_the_tightest_fit_and_the_index_does_not_matter() -> None:
    assert assign((AMD, NVIDIA), (GPU(index=0, vram=8),))[0].uuid == "n"
    assert assign((AMD, NVIDIA), (GPU(index=0, vram=12),))[0].uuid == "a"


def test_a_requirement_without_memory_takes_all_that_is_free_of_the_largest() -> None:
    (served,) = assign((NVIDIA, AMD), (GPU(),))
    assert (served.uuid, served.vram) == ("a", 16)
    (served,) = assign((NVIDIA, AMD), (GPU(vendor="nvidia"),))
    assert (served.uuid, served.vram) == ("n", 10)


def test_a_certain_device_is_named_by_its_identity_or_its_address() -> None:
    assert assign((NVIDIA, AMD), (GPU(uuid="n", vram=1),))[0].index == 0
    assert assign((NVIDIA, AMD), (GPU(pci_address="0000:0B:00.0", vram=1),))[0].uuid == "a"
    with pytest.raises(Underflow, match="cannot subtract 1 from 0"):
        assign((NVIDIA, AMD), (GPU(uuid="n", vendor="Intel", vram=1),))


def test_a_device_without_memory_left_serves_nobody() -> None:
    empty = GPU(index=0, uuid="n", vendor="NVIDIA", vram=0)
    assert not fits(Resources(gpus=(empty,)), Resources(gpus=(GPU(),)))
    assert covers(Resources(gpus=(empty,)), Resources(gpus=(empty,)))


def test_the_same_question_is_recognised_and_another_is_not() -> None:
    held = assign((NVIDIA, AMD), (GPU(vendor="NVIDIA", vram=4), GPU()))
    assert serves(held, (GPU(vendor="NVIDIA", vram=4), GPU()))
    assert not serves(held, (GPU(vendor="NVIDIA", vram=5), GPU()))
    assert not serves(held, (GPU(vendor="NVIDIA", vram=4),))
    assert not serves(held, (GPU(), GPU(vendor="NVIDIA", vram=4)))


def test_requirements_without_gpus_stay_as_they_are() -> None:
    wanted = Resources()
    assert assigned(Resources(gpus=(NVIDIA,)), wanted) is wanted


groups_of_gpus = st.lists(requirements.map(lambda wants: wants[:2]), max_size=3).map(tuple)


def can_share(machine: tuple[GPU, ...], groups: tuple[tuple[GPU, ...], ...]) -> bool:
    """By trying everything."""
    wants = [(gpu, number) for number, group in enumerate(groups) for gpu in group]

    def place(index: int, left: tuple[int, ...], taken: frozenset[tuple[int, int]]) -> bool:
        if index == len(wants):
            return True
        gpu, number = wants[index]
        return any(
            have > 0
            and have >= gpu.vram
            and (gpu.vram or not any(device == used for used, _ in taken))
            and (device, number) not in taken
            and is_alike(machine[device], gpu)
            and place(
                index + 1,
                (*left[:device], have - gpu.vram if gpu.vram else 0, *left[device + 1 :]),
                taken | {(device, number)},
            )
            for device, have in enumerate(left)
        )

    return place(0, tuple(gpu.vram for gpu in machine), frozenset())


@settings(max_examples=100)
@given(machines, groups_of_gpus)
def test_allocations_get_gpus_together_whenever_any_choice_would_do(
    machine: tuple[GPU, ...], groups: tuple[tuple[GPU, ...], ...]
) -> None:
    if not can_share(machine, groups):
        with pytest.raises(Underflow, match="do not fit together"):
            pack(machine, groups)
        return
    served = pack(machine, groups)
    assert all(serves(mine, wants) for mine, wants in zip(served, groups, strict=True))
    assert all(len({gpu.uuid for gpu in mine}) == len(mine) for mine in served)
    for gpu in machine:
        assert sum(g.vram for mine in served for g in mine if g.uuid == gpu.uuid) <= gpu.vram


def test_two_allocations_share_a_device_and_two_requirements_of_one_do_not() -> None:
    assert [mine[0].uuid for mine in pack((AMD,), ((GPU(vram=8),), (GPU(vram=8),)))] == ["a", "a"]
    with pytest.raises(Underflow):
        pack((AMD,), ((GPU(vram=8), GPU(vram=8)),))


def test_a_search_without_end_is_given_up() -> None:
    machine = tuple(GPU(index=i, uuid=f"u{i}", vram=100 + i) for i in range(16))
    with pytest.raises(Underflow):
        pack(machine, tuple((GPU(vram=35),) for _ in range(48)))
