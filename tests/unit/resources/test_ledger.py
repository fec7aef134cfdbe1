from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.resources.errors import AlreadyAllocated, AlreadyCommitted, NoFreeResources, ResourceError
from dms.resources.ledger import Ledger
from dms.types.ids import AllocationID
from dms.types.resources import CPU, GPU, Resources

A, B, C = AllocationID("a"), AllocationID("b"), AllocationID("c")
FIRST = GPU(index=0, uuid="first", vendor="NVIDIA", model="RTX 3080", vram=10)
SECOND = GPU(index=1, uuid="second", vendor="AMD/ATI", model="Radeon", vram=16)
MACHINE = Resources(cpu=CPU(cores=8), gpus=(FIRST, SECOND))
NOW = 100.0

steps = st.lists(
    st.tuples(
        st.sampled_from(("commit", "commit", "allocate", "release", "sweep")),
        st.sampled_from("abcdef"),
        st.lists(
            st.builds(
                GPU,
                index=st.integers(0, 1),
                vendor=st.sampled_from(("", "NVIDIA", "AMD/ATI")),
                uuid=st.sampled_from(("", "", "first")),
                vram=st.integers(0, 9),
            ),
            max_size=2,
        ).map(tuple),
        st.integers(-1, 50),
    ),
    max_size=25,
)


def with_gpus(*gpus: GPU) -> Resources:
    return Resources(gpus=gpus)


@settings(max_examples=60)
@given(steps)
def test_no_gpu_ever_gives_more_memory_than_it_has(todo: list[tuple[str, str, tuple[GPU, ...], int]]) -> None:
    ledger = Ledger(MACHINE)
    for what, name, gpus, ttl in todo:
        allocation = AllocationID(name)
        try:
            if what == "commit":
                ledger = ledger.commit(allocation, with_gpus(*gpus), NOW + ttl, NOW)
            elif what == "allocate":
                ledger = ledger.allocate(allocation, NOW)
            elif what == "release":
                ledger = ledger.release(allocation)
            else:
                ledger = ledger.sweep(NOW)
        except ResourceError:
            pass
        given_away: Counter[str] = Counter()
        held = [c.resources for c in ledger.commitments.values()] + list(ledger.allocations.values())
        for resources in held:
            assert all(gpu.uuid for gpu in resources.gpus), "every GPU that is held is a certain one"
            assert len({gpu.uuid for gpu in resources.gpus}) == len(resources.gpus)
            for gpu in resources.gpus:
                given_away[gpu.uuid] += gpu.vram
        assert given_away["first"] <= FIRST.vram
        assert given_away["second"] <= SECOND.vram
        free = {gpu.uuid: gpu.vram for gpu in ledger.free().gpus}
        assert free == {"first": 10 - given_away["first"], "second": 16 - given_away["second"]}


def test_two_allocations_share_a_gpu_as_long_as_its_memory_lasts() -> None:
    ledger = Ledger(MACHINE)
    for name, vram in (("a", 6), ("b", 4)):
        ledger = ledger.commit(AllocationID(name), with_gpus(GPU(vendor="NVIDIA", vram=vram)), 200, NOW)
    assert [c.resources.gpus[0].uuid for c in ledger.commitments.values()] == ["first", "first"]
    with pytest.raises(NoFreeResources, match="cannot subtract 1 from 0"):
        ledger.commit(C, with_gpus(GPU(vendor="NVIDIA", vram=1)), 200, NOW)
    assert ledger.commit(C, with_gpus(GPU(vram=1)), 200, NOW).commitments[C].resources.gpus[0].uuid == "second"


def test_what_is_promised_is_a_certain_gpu_and_stays_it_when_asked_again() -> None:
    wanted = with_gpus(GPU(vram=8))
    ledger = Ledger(MACHINE).commit(A, wanted, 200, NOW)
    promised = ledger.commitments[A].resources.gpus
    assert promised == (GPU(index=0, uuid="first", vendor="NVIDIA", model="RTX 3080", vram=8),)
    assert ledger.commit(A, wanted, 300, NOW).commitments[A].resources.gpus == promised
    allocated = ledger.allocate(A, NOW)
    assert allocated.allocations[A].gpus == promised
    assert allocated.commit(A, wanted, 300, NOW) == allocated
    with pytest.raises(AlreadyAllocated):
        allocated.commit(A, with_gpus(GPU(vram=7)), 300, NOW)
    with pytest.raises(AlreadyCommitted):
        ledger.commit(A, with_gpus(GPU(vendor="AMD/ATI", vram=8)), 300, NOW)


def test_a_gpu_that_is_absent_is_not_given() -> None:
    ledger = Ledger(MACHINE)
    assert (
        ledger.commit(A, with_gpus(GPU(vram=1)), 200, NOW, absent={"first"}).commitments[A].resources.gpus[0].index == 1
    )
    with pytest.raises(NoFreeResources):
        ledger.commit(A, with_gpus(GPU(vendor="NVIDIA", vram=1)), 200, NOW, absent={"first"})


def test_an_expired_promise_gives_its_gpu_back() -> None:
    ledger = Ledger(MACHINE).commit(A, with_gpus(GPU(), GPU()), 200, NOW)
    assert {gpu.vram for gpu in ledger.free().gpus} == {0}
    assert ledger.commit(B, with_gpus(GPU(vram=16)), 300, now=200).commitments.keys() == {B}
