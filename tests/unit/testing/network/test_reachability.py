"""How others reach the nodes of a virtual network."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dms.network.reachability import Reach
from dms.testing.network import VirtualNetwork


async def test_a_node_behind_a_nat_learns_that_it_is_private_and_by_which_relay_others_come(
    autojump_clock: MockClock,
) -> None:
    network = VirtualNetwork()
    relay, hidden = network.node("relay", is_relay=True), network.node("hidden", nat="home")
    async with relay.run(), hidden.run():
        await trio.sleep(5)
        assert hidden.reachability.report().status is Reach.UNKNOWN
        report = await hidden.reachability.probe()
        assert report.status is Reach.PRIVATE
        assert [one.relay for one in report.relays] == [relay.peer_id]
        report = await relay.reachability.probe()
        assert report.status is Reach.PUBLIC
        assert report.has_relay_service
        assert report.relays == ()
