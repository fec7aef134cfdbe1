"""Peers that recommend others: only what these signed themselves is believed."""

from __future__ import annotations

import itertools

from tests.network.waiting import until

from dms.network.libp2p import Libp2pNetwork  # isort: skip  # before anything of the library


from dms.network.gossip import Offer
from dms.types.ids import PeerID

_seeds = itertools.count(1500)


def node() -> Libp2pNetwork:
    return Libp2pNetwork(seed=next(_seeds).to_bytes(32, "big"), listen=["/ip4/127.0.0.1/tcp/0"], explore=False)


async def test_a_peer_that_is_offered_with_its_own_record_is_dialled_and_no_other() -> None:
    middle, newcomer, offered, other = (node() for _ in range(4))
    async with middle.run(), newcomer.run(), offered.run(), other.run():
        for one in (newcomer, offered, other):
            await one.connect(middle.listen_addresses[0])
        await until(lambda: sum(bool(info.protocols) for info in middle.peers()) == 3)
        assert middle._live is not None
        assert newcomer._live is not None
        record_of = middle._live.gossip._introductions.record_of
        follow = newcomer._live.gossip._introductions.follow
        record = record_of(offered.peer_id)
        assert record, "it told its signed record when it was identified"

        await follow(
            [
                Offer(other.peer_id),
                Offer(other.peer_id, record),
                Offer(other.peer_id, b"garbage"),
                Offer(PeerID("garbage"), record),
                Offer(other.peer_id, bytes(100) + record_of(other.peer_id)),
                Offer(newcomer.peer_id, record_of(newcomer.peer_id)),
            ]
        )
        assert {info.peer for info in newcomer.peers()} == {middle.peer_id}
        await follow([Offer(offered.peer_id, record)])
        assert {info.peer for info in newcomer.peers()} == {middle.peer_id, offered.peer_id}
