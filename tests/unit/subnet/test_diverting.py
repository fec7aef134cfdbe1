"""Connections that the firewall leads to us: how many are carried at once."""

from __future__ import annotations

from ipaddress import IPv4Address

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair, wait_all_tasks_blocked

from dms.subnet.diverting import MAX_AT_ONCE, carry
from dms.subnet.errors import NotConnected
from dms.subnet.pipes import Pipe, TrioPipe


class Many:
    """Connections without end."""

    port = 1

    def __init__(self) -> None:
        self.taken = 0
        self.far: list[trio.StapledStream[MemorySendStream, MemoryReceiveStream]] = []

    async def accept(self) -> tuple[Pipe, IPv4Address, int]:
        await trio.lowlevel.checkpoint()
        self.taken += 1
        near, far = memory_stream_pair()
        self.far.append(far)
        return TrioPipe(near), IPv4Address("10.1.2.3"), 80

    def close(self) -> None:
        return


async def test_those_for_which_there_is_no_place_are_left_in_the_kernel_until_others_have_ended() -> None:
    come, fail = Many(), trio.Event()

    async def reach(_address: IPv4Address, _port: int) -> Pipe:
        await fail.wait()
        raise NotConnected("nobody is there")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, come, reach)
        await wait_all_tasks_blocked()
        assert come.taken == MAX_AT_ONCE
        before, fail = fail, trio.Event()
        before.set()
        await wait_all_tasks_blocked()
        assert come.taken == 2 * MAX_AT_ONCE
        nursery.cancel_scope.cancel()
    for far in come.far:
        assert await far.receive_some() == b"", "none is left open, whether it had got somewhere or not"
