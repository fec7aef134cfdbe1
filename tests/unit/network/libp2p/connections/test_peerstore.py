from __future__ import annotations

from dms.network.libp2p.connections.peerstore import BoundedPeerStore

from libp2p.crypto.ed25519 import create_new_key_pair  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from multiaddr import Multiaddr  # isort: skip

KEYS = [create_new_key_pair(number.to_bytes(32, "big")) for number in range(1, 9)]
PEERS = [ID.from_pubkey(keys.public_key) for keys in KEYS]
ADDRESS = Multiaddr("/ip4/192.0.2.1/tcp/9000")


def test_the_peer_not_heard_of_for_the_longest_time_is_forgotten() -> None:
    store = BoundedPeerStore(lambda _: False, max_peers=3)
    for peer in PEERS[:3]:
        store.add_addrs(peer, [ADDRESS], 3600)
    store.add_protocols(PEERS[0], ["/a"])
    store.add_pubkey(PEERS[3], KEYS[3].public_key)
    assert store.peer_ids() == [PEERS[2], PEERS[0], PEERS[3]]
    assert store.get_protocols(PEERS[0]) == ["/a"]


def test_ourselves_and_those_who_are_connected_are_never_forgotten() -> None:
    kept = PEERS[:2]
    store = BoundedPeerStore(kept.__contains__, max_peers=3)
    store.add_key_pair(PEERS[0], KEYS[0])
    store.add_addrs(PEERS[1], [ADDRESS], 3600)
    for peer in PEERS[2:]:
        store.add_addrs(peer, [ADDRESS], 3600)
    assert sorted(store.peer_ids(), key=PEERS.index) == [PEERS[0], PEERS[1], PEERS[-1]]
    assert store.privkey(PEERS[0]) == KEYS[0].private_key


def test_more_peers_than_fit_stay_while_all_of_them_are_connected() -> None:
    store = BoundedPeerStore(lambda _: True, max_peers=2)
    for peer in PEERS:
        store.add_addrs(peer, [ADDRESS], 3600)
    assert set(store.peer_ids()) == set(PEERS)


def test_what_is_known_of_a_peer_does_not_expire_by_the_clock() -> None:
    store = BoundedPeerStore(lambda _: False)
    store.add_addrs(PEERS[0], [ADDRESS], 1)
    store.peer_data_map[PEERS[0]].last_identified = 0
    assert store.addrs(PEERS[0]) == [ADDRESS]
