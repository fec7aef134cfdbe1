"""Who is let in by the network, and how much all may take: the settings ``p2p.*`` as the network wants them."""

from __future__ import annotations

from dms.config import Settings
from dms.config.schema import P2P
from dms.network.directory import DHTMode
from dms.network.libp2p import Gate, Libp2pNetwork, Limits
from dms.types.ids import PeerID

BYTES_PER_MB = 1_000_000


def peer_gate(p2p: P2P) -> Gate:
    """Who is let in at the start."""
    return Gate(deny=_ids(p2p.deny_peers), allow=_ids(p2p.allow_peers), server_mode=p2p.server_mode)


def peer_limits(p2p: P2P) -> Limits:
    """How much others may take."""
    return Limits().within(memory_bytes=p2p.memory * BYTES_PER_MB, descriptors=p2p.fd)


def dht_mode(p2p: P2P) -> DHTMode:
    """Whether this node serves the hash table."""
    return {"on": DHTMode.SERVER, "off": DHTMode.CLIENT}.get(p2p.dht_server, DHTMode.AUTO)


def regate(network: Libp2pNetwork, now: Settings) -> None:
    """The settings say that others are let in from now on."""
    network.regate(deny=_ids(now.p2p.deny_peers), allow=_ids(now.p2p.allow_peers))


def _ids(peers: tuple[str, ...]) -> tuple[PeerID, ...]:
    return tuple(PeerID(peer) for peer in peers)
