import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dms.resources import PortAllocator, Ports
from dms.resources.errors import InvalidResources, NoDynamicPorts, PortOutOfRange, PortsTaken, ResourceError
from dms.types.ids import AllocationID

A, B, C = AllocationID("a"), AllocationID("b"), AllocationID("c")


def allocator(start: int = 100, end: int = 110, busy: frozenset[int] = frozenset()) -> PortAllocator:
    return PortAllocator(start, end, rng=random.Random(1), in_use=busy.__contains__)


def test_static_ports_are_as_asked_and_dynamic_ones_are_others() -> None:
    ports = allocator()
    held = ports.reserve(A, [105, 103], 3)
    assert held.static == (105, 103)
    assert len(set(held.dynamic)) == 3
    assert not {105, 103} & set(held.dynamic)
    assert set(held.dynamic) <= set(range(100, 110))
    assert ports.held == {A: held}


def test_the_end_of_the_range_is_not_offered() -> None:
    ports = allocator()
    ports.reserve(A, [100, 109])
    for outside in (99, 110, 0, -1, 65536):
        with pytest.raises(PortOutOfRange, match=f"port {outside} is not offered here, only 100 to 109"):
            ports.reserve(B, [outside])
    for bad in ((0, 10), (10, 10), (10, 65537)):
        with pytest.raises(ValueError, match="no ports"):
            PortAllocator(*bad)


def test_a_failed_request_takes_nothing_and_frees_nothing_of_others() -> None:
    ports = allocator()
    held = ports.reserve(A, [101], 1)
    before = ports.held
    free = next(port for port in range(102, 110) if port not in held.dynamic)
    for static, dynamic, error in (
        ([free, 101], 0, PortsTaken),
        ([free, free], 0, PortsTaken),
        ([free], 8, NoDynamicPorts),
        ([free, 99], 0, PortOutOfRange),
        ([], -1, InvalidResources),
        ([], 1001, InvalidResources),
    ):
        with pytest.raises(error):
            ports.check(static, dynamic)
        with pytest.raises(error):
            ports.reserve(B, static, dynamic)
        ports.release(B)
        assert ports.held == before
    with pytest.raises(PortsTaken, match=r"^ports are already allocated: 101$"):
        ports.reserve(B, [101])
    with pytest.raises(NoDynamicPorts, match=r"^dynamic ports not available: 9 wanted, 8 free$"):
        ports.reserve(B, dynamic=9)
    assert ports.reserve(A, [101], 1) is held


def test_asking_again_answers_the_same_and_asking_for_others_is_refused() -> None:
    ports = allocator()
    held = ports.reserve(A, [101, 102], 2)
    assert ports.reserve(A, [102, 101], 2) == held
    with pytest.raises(PortsTaken, match="a has others"):
        ports.reserve(A, [101], 2)


def test_ports_of_other_programs_are_passed_over() -> None:
    ports = allocator(busy=frozenset(range(100, 109)))
    with pytest.raises(PortsTaken):
        ports.reserve(A, [100])
    assert ports.reserve(A, dynamic=1).dynamic == (109,)


def test_after_a_restart_an_allocation_gets_the_very_ports_it_had() -> None:
    ports = allocator()
    ports.restore(A, Ports((101,), (104,)))
    ports.restore(A, Ports((101,), (104,)))
    with pytest.raises(PortsTaken, match="already allocated: 104"):
        ports.restore(B, Ports((104,)))
    ports.release(A)
    ports.restore(B, Ports((104,)))


requests = st.lists(
    st.tuples(st.sampled_from((A, B, C)), st.lists(st.integers(98, 112), max_size=3), st.integers(0, 4), st.booleans()),
    max_size=30,
)


@given(requests, st.integers())
def test_no_port_is_ever_held_twice(steps: list[tuple[AllocationID, list[int], int, bool]], seed: int) -> None:
    ports = PortAllocator(100, 110, rng=random.Random(seed))
    for allocation, static, dynamic, release in steps:
        if release:
            others = {k: v for k, v in ports.held.items() if k != allocation}
            ports.release(allocation)
            assert ports.held == others
            continue
        before = ports.held
        try:
            ports.reserve(allocation, static, dynamic)
        except ResourceError:
            assert ports.held == before
        held = [port for p in ports.held.values() for port in (*p.static, *p.dynamic)]
        assert len(held) == len(set(held))
        assert set(held) <= set(range(100, 110))
    for allocation in (A, B, C):
        ports.release(allocation)
    assert len(ports.reserve(A, dynamic=10).dynamic) == 10
