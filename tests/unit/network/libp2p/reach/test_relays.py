"""Which relays are asked."""

from __future__ import annotations

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.libp2p.reach.relays import CANDIDATES, choose


def test_a_few_more_are_asked_than_are_missing_the_nearest_first() -> None:
    from libp2p.peer.id import ID

    peers = [ID(bytes([number])) for number in range(6)]
    assert choose(peers, [], {}, 0) == peers[:CANDIDATES]
    assert choose(peers, peers[:1], {}, 0) == peers[1:3]
    assert choose(peers, peers[:2], {}, 0) == []
    assert choose(peers, [], {peers[0]: 30.0, peers[1]: 10.0}, 10.0) == peers[1:4]
    assert choose([], [], {}, 0) == []
