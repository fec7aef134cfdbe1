"""How nodes reach each other: messages between peers, broadcast on topics, and who is connected.

- :mod:`~dms.network.protocol`: the seam, :class:`~dms.network.protocol.Network`; all that the program knows of it.
- :mod:`~dms.network.byte_streams`: streams of bytes between peers.
- :mod:`~dms.network.errors`: what can go wrong.
- :mod:`~dms.network.framing`: one message on a stream, without I/O; :mod:`~dms.network.addresses`: addresses of peers.
- :mod:`~dms.network.latency`, :mod:`~dms.network.coordinates`: how long the way to others takes, measured or guessed.
- :mod:`~dms.network.directory`: advertisements, and where peers are; :mod:`dms.network.kademlia`: the hash table under
  it; :mod:`~dms.network.mdns`: the local network; :mod:`~dms.network.known_good`: peers from before the restart;
  :mod:`~dms.network.names`: what keeps networks apart; :mod:`~dms.network.protobuf`: how such messages are written.
- :mod:`~dms.network.handlers`, :mod:`~dms.network.subscriptions`: who here receives which messages and broadcasts.
- :mod:`~dms.network.swarm_key`, :mod:`~dms.network.swarm_key_file`: the key of a private network and its file;
  :mod:`~dms.network.xsalsa20`: the cipher that goes with it.
- :mod:`dms.network.gossip`: who gets which broadcast and what is thought of whom, without I/O.
- :mod:`dms.network.libp2p`: the real network. Importing it loads the whole libp2p library, so only a running node does.

The twin in memory is :mod:`dms.testing.network`.
"""

from dms.network.byte_streams import ByteStream, ByteStreamHandler, ByteStreams
from dms.network.directory import Advertisement, DHTMode, Directory, DirectoryState, RoutingEntry
from dms.network.errors import (
    AddressInUse,
    AlreadyHandled,
    BadFrame,
    InvalidAddress,
    InvalidRecord,
    MessageTooLarge,
    NetworkError,
    NotRunning,
    PeerUnreachable,
    StreamEnded,
)
from dms.network.protocol import (
    MAX_LARGE_MESSAGE_BYTES,
    MAX_MESSAGE_BYTES,
    MessageHandler,
    Network,
    PeerChange,
    PeerEvent,
    PeerInfo,
    PeerListener,
    PeerScore,
    SizeLimit,
    TopicScore,
    TopicValidator,
    Verdict,
)

__all__ = [
    "MAX_LARGE_MESSAGE_BYTES",
    "MAX_MESSAGE_BYTES",
    "AddressInUse",
    "Advertisement",
    "AlreadyHandled",
    "BadFrame",
    "ByteStream",
    "ByteStreamHandler",
    "ByteStreams",
    "DHTMode",
    "Directory",
    "DirectoryState",
    "InvalidAddress",
    "InvalidRecord",
    "MessageHandler",
    "MessageTooLarge",
    "Network",
    "NetworkError",
    "NotRunning",
    "PeerChange",
    "PeerEvent",
    "PeerInfo",
    "PeerListener",
    "PeerScore",
    "PeerUnreachable",
    "RoutingEntry",
    "SizeLimit",
    "StreamEnded",
    "TopicScore",
    "TopicValidator",
    "Verdict",
]
