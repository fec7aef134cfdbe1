"""A port stays forwarded for as long as the node runs, and no longer."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

import pytest
import trio
from multiaddr import Multiaddr
from trio.testing import MockClock

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.libp2p.reach.mapping.gateway import Mapped, Mapper, NotMapped, default_gateway
from dms.network.libp2p.reach.mapping.keeper import AGAIN_S, Keeper, port_to_map

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


class Scripted:
    """A router that does as it is told."""

    name = "scripted"

    def __init__(self, *answers: Mapped | str) -> None:
        self._answers = list(answers)
        self.times: list[float] = []
        self.unmapped: list[int] = []

    async def map(self, port: int) -> Mapped:
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, str):
            raise NotMapped(answer)
        return answer

    async def unmap(self, port: int) -> None:
        await trio.lowlevel.checkpoint()
        self.unmapped.append(port)


GOOD = Mapped(IPv4Address("5.6.7.8"), 9001, 3600)


async def kept(keeper: Keeper, for_s: float) -> None:
    with trio.move_on_after(for_s):
        await keeper.run()


async def test_a_lease_is_renewed_half_way_and_given_back_at_the_end(autojump_clock: MockClock) -> None:
    router, changes = Scripted(GOOD), list[Multiaddr | None]()
    keeper = Keeper(9000, find=lambda: [router], changed=lambda: changes.append(keeper.address()))
    await kept(keeper, 4000)
    assert [round(at - router.times[0]) for at in router.times] == [0, 1800, 3600]
    assert router.unmapped == [9000]
    assert changes == [Multiaddr("/ip4/5.6.7.8/tcp/9001")]
    assert keeper.address() is None


async def test_the_next_way_is_taken_when_the_first_refuses_and_all_are_tried_again_later(
    autojump_clock: MockClock,
) -> None:
    first, second = Scripted("no such router"), Scripted("no", GOOD)
    ways: Sequence[Mapper] = [first, second]
    keeper = Keeper(9000, find=lambda: ways)
    await kept(keeper, 1)
    assert keeper.state is not None
    assert keeper.state.problem == "no"
    await kept(keeper, AGAIN_S + 1)
    assert keeper.state.problem == ""
    assert keeper.state.external == "5.6.7.8:9001"
    assert first.unmapped == []
    assert second.unmapped == [9000]


async def test_a_router_behind_another_router_is_no_help_and_said_so(autojump_clock: MockClock) -> None:
    keeper = Keeper(9000, find=lambda: [Scripted(Mapped(IPv4Address("100.64.1.1"), 9000, 3600))])
    await kept(keeper, 1)
    assert keeper.state is not None
    assert "another router follows" in keeper.state.problem


async def test_where_there_is_no_router_nothing_is_said(autojump_clock: MockClock) -> None:
    keeper = Keeper(9000, find=list)
    await kept(keeper, 5000)
    assert keeper.state is None


async def test_an_address_that_the_router_no_longer_forwards_is_withdrawn(autojump_clock: MockClock) -> None:
    router, changes = Scripted(GOOD, "restarting", "restarting"), list[Multiaddr | None]()
    keeper = Keeper(9000, find=lambda: [router], changed=lambda: changes.append(keeper.address()))
    await kept(keeper, 2000)
    assert changes == [Multiaddr("/ip4/5.6.7.8/tcp/9001"), None]


def test_the_router_is_that_of_the_cheapest_default_route() -> None:
    assert default_gateway(ROUTES) == IPv4Address("192.168.1.1")
    assert default_gateway("") is None
    assert default_gateway("header\nnonsense\na b c d e f g h\n") is None


@pytest.mark.parametrize(
    ("listening", "port"),
    [
        ([], None),
        ([(IPv4Address("127.0.0.1"), 9000)], None),
        ([(None, 9000)], None),
        ([(IPv4Address("127.0.0.1"), 1), (IPv4Address("192.168.1.7"), 9000)], 9000),
    ],
)
def test_only_a_port_that_the_network_could_use_is_forwarded(
    listening: list[tuple[IPv4Address | None, int]], port: int | None
) -> None:
    assert port_to_map(listening) == port
