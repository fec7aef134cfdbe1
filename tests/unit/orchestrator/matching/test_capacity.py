"""What peers have left: exact whatever the order, devices included."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.orchestrator.matching.capacity import Demand, Room, demand_of, pack, shortage
from dms.types.resources import CPU, GPU, RAM, Disk, Resources


def amount(cores: float, ram: int = 0, disk: int = 0, gpus: tuple[GPU, ...] = ()) -> Resources:
    return Resources(cpu=CPU(cores=cores), ram=RAM(size=ram), disk=Disk(size=disk), gpus=gpus)


def brute_force(free: tuple[GPU, ...], nodes: tuple[tuple[GPU, ...], ...]) -> bool:
    """Whether some choice of devices serves everybody."""
    wants = [(gpu, node) for node, gpus in enumerate(nodes) for gpu in gpus]
    for choice in itertools.product(range(len(free)), repeat=len(wants)):
        at = [[wants[i] for i, device in enumerate(choice) if device == d] for d in range(len(free))]
        if all(_holds(device, mine) for device, mine in zip(free, at, strict=True)):
            return True
    return not wants


def _holds(device: GPU, mine: list[tuple[GPU, int]]) -> bool:
    if not mine:
        return True
    if any(gpu.vendor and gpu.vendor != device.vendor for gpu, _ in mine) or device.vram <= 0:
        return False
    if len({node for _, node in mine}) < len(mine):
        return False
    if any(not gpu.vram for gpu, _ in mine):
        return len(mine) == 1
    return sum(gpu.vram for gpu, _ in mine) <= device.vram


devices = st.builds(GPU, vendor=st.sampled_from(["NVIDIA", "Intel"]), vram=st.integers(0, 6))
wants = st.builds(GPU, vendor=st.sampled_from(["", "NVIDIA", "Intel"]), vram=st.integers(0, 4))
nodes = st.lists(st.lists(wants, max_size=2).map(tuple), max_size=3).map(tuple)


@settings(max_examples=100, deadline=None)
@given(st.lists(devices, max_size=3).map(tuple), nodes)
def test_devices_are_packed_whenever_that_is_possible(
    free: tuple[GPU, ...], nodes: tuple[tuple[GPU, ...], ...]
) -> None:
    assert pack(free, nodes) == brute_force(free, nodes)


def test_a_named_device_is_kept_for_whoever_names_it() -> None:
    free = (GPU(uuid="a", index=0, vram=4), GPU(uuid="b", index=1, vram=4))
    assert pack(free, ((GPU(vram=4),), (GPU(uuid="a", vram=4),)))
    assert pack(free, ((GPU(vram=4),), (GPU(uuid="b", vram=4),)))
    assert not pack(free, ((GPU(uuid="a", vram=3),), (GPU(uuid="a", vram=3),)))


def test_what_was_taken_can_be_given_back() -> None:
    room = Room([amount(2, 4, gpus=(GPU(vram=8),)), None])
    node = demand_of(amount(1, 1, gpus=(GPU(vram=5),)))
    before = room.state(0)
    assert room.fits(0, node)
    room.take(0, node)
    assert not room.fits(0, node), "its memory on the device is gone"
    assert room.fits(0, Demand((100, 1, 0)))
    room.give(0, node)
    assert room.state(0) == before


def test_a_peer_that_does_not_say_what_it_has_hosts_one_node() -> None:
    room, node = Room([None]), demand_of(amount(99, 99))
    assert room.most(0, node, 10) == 1
    room.take(0, node)
    assert not room.fits(0, node)


def test_a_copy_is_kept_separately() -> None:
    room, node = Room([amount(1)]), demand_of(amount(1))
    copy = room.copy()
    copy.take(0, node)
    assert room.fits(0, node)
    assert not copy.fits(0, node)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 12))
def test_how_many_fit_is_how_often_one_more_fits(cores: int, vram: int, wanted: int) -> None:
    room = Room([amount(cores, 10, gpus=(GPU(vram=vram), GPU(index=1, vram=4)))])
    node = demand_of(amount(1, 1, gpus=(GPU(vram=2),)))
    most, count = room.most(0, node, wanted), 0
    while count < wanted and room.fits(0, node):
        room.take(0, node)
        count += 1
    assert most == count


@pytest.mark.parametrize(
    ("free", "said"),
    [
        (amount(1, 9, 9), "cores: 2 wanted, 1 free"),
        (amount(2, 1, 9), "RAM: 3 bytes wanted, 1 free"),
        (amount(2, 3, 1), "disk: 4 bytes wanted, 1 free"),
        (amount(2, 3, 4), "GPUs: 1 wanted, none fit of the 0 free"),
        (amount(2, 3, 4, (GPU(vram=5),)), ""),
        (None, ""),
    ],
)
def test_what_does_not_suffice_is_named_with_figures(free: Resources | None, said: str) -> None:
    assert shortage(free, demand_of(amount(2, 3, 4, (GPU(vram=5),)))) == said
