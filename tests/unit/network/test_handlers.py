"""Tests of :mod:`dms.network.handlers`."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from dms.network import AlreadyHandled
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
