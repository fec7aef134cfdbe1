"""Tests of :mod:`dms.network.handlers`."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from dms.network import AlreadyHandled, PeerUnreachable
from dms.network.handlers import Handlers
from dms.types.ids import PeerID

A, B = PeerID("a"), PeerID("b")


async def test_slots_are_shared_between_peers_and_given_back() -> None:
    counters: Counter[str] = Counter()
    handlers = Handlers(counters, total=3, per_peer=2)
    gates: dict[bytes, trio.Event] = {name: trio.Event() for name in (b"1", b"2", b"3")}
    started, ended = list[bytes](), list[bytes]()

    async def handler(_sender: PeerID, data: bytes) -> None:
        started.append(data)
        await gates[data].wait()
        ended.append(data)

    handlers.add("p", handler)
    async with trio.open_nursery() as nursery:
        handlers.open(nursery)
        handlers.deliver(A, "p", b"1")
        handlers.deliver(A, "p", b"2")
        handlers.deliver(A, "p", b"dropped: the share of a")
        handlers.deliver(B, "p", b"3")
        handlers.deliver(B, "p", b"dropped: all slots taken")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(started) == [b"1", b"2", b"3"]
        assert counters["messages dropped: too many at once"] == 2

        for gate in gates.values():
            gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert all(handlers.take_slot(peer) for peer in (A, A, B))


async def test_messages_without_a_handler_are_dropped_and_counted() -> None:
    counters: Counter[str] = Counter()
    handlers = Handlers(counters)
    async with trio.open_nursery() as nursery:
        handlers.open(nursery)
        handlers.deliver(A, "unknown", b"x")
    assert counters == {"messages dropped: no handler": 1}


def test_a_protocol_is_taken_until_it_is_removed() -> None:
    handlers = Handlers(Counter())

    async def handler(_sender: PeerID, _data: bytes) -> None:
        return

    handlers.add("p", handler)
    with pytest.raises(AlreadyHandled):
        handlers.add("p", handler)
    assert handlers.protocols() == ("p",)
    assert (handlers.remove("p"), handlers.remove("p")) == (True, False)
    handlers.add("p", handler)


async def test_messages_of_our_own_host_wait_for_a_slot_and_take_none_of_others() -> None:
    counters: Counter[str] = Counter()
    handlers = Handlers(counters, total=1, per_peer=1, own=2)
    go, handled = trio.Event(), list[bytes]()

    async def handler(_sender: PeerID, data: bytes) -> None:
        await go.wait()
        handled.append(data)

    handlers.add("p", handler)
    async with trio.open_nursery() as nursery:
        handlers.open(nursery)
        for number in range(5):
            nursery.start_soon(handlers.deliver_own, A, "p", b"%d" % number, 60.0)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(PeerUnreachable):
            await handlers.deliver_own(A, "p", b"late", 0.0)
        handlers.deliver(B, "p", b"other")
        go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(handled) == [b"0", b"1", b"2", b"3", b"4", b"other"]
        for _ in range(3):
            await handlers.deliver_own(A, "unknown", b"x", 1.0)
        handlers.close()
        await handlers.deliver_own(A, "p", b"x", 1.0)
    assert counters == {"messages dropped: no handler": 4}
