from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from dms.subnet.budgets import RelayBudget
from dms.subnet.queues import PacketQueue
from dms.subnet.segments import Parcel


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(1, 200), st.integers(1, 10), st.integers(1, 100))
def test_the_oldest_are_dropped_and_the_rest_comes_out_in_order(
    sizes: list[int], max_bytes: int, max_packets: int, batch_bytes: int
) -> None:
    queue = PacketQueue(max_bytes=max_bytes, max_packets=max_packets)
    sent = [Parcel(bytes([number]) * size) for number, size in enumerate(sizes)]
    dropped = sum(queue.put(parcel) for parcel in sent)
    assert len(queue) <= max_packets
    assert queue.size_bytes <= max_bytes
    out: list[Parcel] = []
    while batch := queue.take(batch_bytes):
        assert len(batch) == 1 or sum(len(parcel.data) for parcel in batch) <= batch_bytes
        out += batch
    assert out == sent[dropped:]
    assert queue.size_bytes == 0


async def test_waiting_ends_when_a_packet_is_announced() -> None:
    queue = PacketQueue()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.wait)
        await wait_all_tasks_blocked()
        queue.put(Parcel(b"x"))
        queue.announce()
    await queue.wait()
    assert queue.clear() == 1
    assert len(queue) == queue.size_bytes == 0


def test_a_relay_carries_so_many_bytes_in_a_window() -> None:
    budget = RelayBudget(limit_bytes=100, window_s=10)
    assert budget.free_in_s(0) == 0
    assert budget.spend(60, 5)
    assert not budget.spend(41, 6)
    assert budget.spend(40, 7)
    assert budget.free_in_s(8) == 7
    assert not budget.spend(1, 14.9)
    assert budget.spend(100, 15)
    assert not budget.spend(101, 100)
