"""The directory of every implementation: :class:`dms.network.directory.Directory`, real (loopback) and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from dms.network import MessageTooLarge, Network, NotRunning
from dms.network.directory import MAX_DATA_BYTES
from dms.network.libp2p import Libp2pNetwork
from dms.testing.network import VirtualNetwork
from dms.types.errors import BadInput

WAIT_S = 20.0

Chain = Callable[[], AbstractAsyncContextManager[list[Network]]]


@asynccontextmanager
async def _real() -> AsyncIterator[list[Network]]:
    """Three nodes; the first knows the second, the second the third."""
    nodes: list[Libp2pNetwork] = []
    async with trio.open_nursery() as nursery:
        stop = trio.Event()

        async def run(one: Libp2pNetwork, ready: trio.Event) -> None:
            async with one.run():
                ready.set()
                await stop.wait()

        for number in range(3):
            bootstrap = nodes[-1].listen_addresses if nodes else ()
            one = Libp2pNetwork(
                seed=(number + (3 << 100)).to_bytes(32, "big"),
                listen=["/ip4/127.0.0.1/tcp/0"],
                bootstrap=bootstrap,
                explore=False,
            )
            ready = trio.Event()
            nursery.start_soon(run, one, ready)
            await ready.wait()
            nodes.append(one)
        with trio.fail_after(WAIT_S):
            while [len(one.directory.state().entries) for one in nodes] != [1, 2, 1]:  # noqa: ASYNC110
                await trio.sleep(0.005)
        yield list(nodes)
        stop.set()


@asynccontextmanager
async def _virtual() -> AsyncIterator[list[Network]]:
    network = VirtualNetwork(mesh=False)
    one, two = network.node(1), network.node(2)
    three = network.node(3)
    async with one.run(), two.run(), three.run():
        await two.connect(one.listen_addresses[0])
        await three.connect(two.listen_addresses[0])
        yield [one, two, three]


@pytest.fixture(params=["libp2p", "memory"])
def chain(request: pytest.FixtureRequest) -> Chain:
    return _real if request.param == "libp2p" else _virtual


async def test_what_one_advertises_all_find_until_it_is_replaced_or_withdrawn(chain: Chain) -> None:
    async with chain() as (one, two, three):
        await one.directory.advertise("gpu", b"first")
        await three.directory.advertise("gpu", b"other")
        for seeker in (one, two, three):
            found = {ad.peer: ad.data for ad in await seeker.directory.query("gpu")}
            assert found == {one.peer_id: b"first", three.peer_id: b"other"}
        assert await two.directory.query("cpu") == []

        (before,) = [ad for ad in await three.directory.query("gpu") if ad.peer == one.peer_id]
        await one.directory.advertise("gpu", b"second")
        (after,) = [ad for ad in await three.directory.query("gpu") if ad.peer == one.peer_id]
        assert (after.data, after.key, after.is_legacy) == (b"second", "gpu", False)
        assert after.sequence > before.sequence

        assert one.directory.state().advertised == ("gpu",)
        await one.directory.withdraw("gpu")
        await one.directory.withdraw("never said")
        assert one.directory.state().advertised == ()
        assert [ad.peer for ad in await three.directory.query("gpu")] == [three.peer_id]


async def test_a_peer_is_found_by_its_id_and_can_be_connected_to_by_it(chain: Chain) -> None:
    async with chain() as (one, _, three):
        assert not one.is_connected(three.peer_id)
        found = await one.directory.find(three.peer_id)
        assert [f"{address}/p2p/{three.peer_id}" for address in found] == list(three.listen_addresses)
        await one.connect(three.peer_id)
        assert one.is_connected(three.peer_id)


async def test_the_routing_table_tells_who_is_in_it(chain: Chain) -> None:
    async with chain() as (one, two, three):
        state = two.directory.state()
        assert state.is_serving
        assert state.protocol == "/nunet/kad/1.0.0"
        assert {entry.peer for entry in state.entries} == {one.peer_id, three.peer_id}
        for entry in state.entries:
            assert entry.is_connected
            assert entry.addresses
            assert entry.heard_s >= 0
            assert 0 <= entry.bucket < 256


async def test_nonsense_is_refused(chain: Chain) -> None:
    async with chain() as (one, *_):
        with pytest.raises(MessageTooLarge):
            await one.directory.advertise("gpu", b"x" * (MAX_DATA_BYTES + 1))
        with pytest.raises(BadInput):
            await one.directory.advertise("", b"")
        with pytest.raises(BadInput):
            await one.directory.query("x" * 999)


async def test_a_directory_works_only_while_its_network_runs() -> None:
    nodes: list[Network] = [
        VirtualNetwork().node(1),
        Libp2pNetwork(seed=bytes(32), listen=["/ip4/127.0.0.1/tcp/0"]),
    ]
    for one in nodes:
        with pytest.raises(NotRunning):
            await one.directory.advertise("gpu", b"")
        with pytest.raises(NotRunning):
            await one.directory.query("gpu")
        assert one.directory.state().entries == []
