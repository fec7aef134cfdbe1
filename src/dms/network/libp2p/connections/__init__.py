"""Connections to peers: listening, dialling, limits, keep-alive.

- :mod:`~dms.network.libp2p.connections.ports`: listening sockets; :mod:`~dms.network.libp2p.connections.attention`: what
  the kernel watches on them; :mod:`~dms.network.libp2p.connections.sharing`: dialling from the port that listens;
  :mod:`~dms.network.libp2p.connections.visiting`: connections for one errand.
- :mod:`~dms.network.libp2p.connections.swarm`: inbound and outbound connections, within limits and deadlines.
- :mod:`~dms.network.libp2p.connections.private`: connections under the key of a private network;
  :mod:`~dms.network.libp2p.connections.buffering`: their sockets;
  :mod:`~dms.network.libp2p.connections.at_once`: a short way down to them;
  :mod:`~dms.network.libp2p.connections.locks`: who is next.
- :mod:`~dms.network.libp2p.connections.muxer`: streams on one connection, and whether its peer still answers;
  :mod:`~dms.network.libp2p.connections.windows`: how much each stream may send ahead.
- :mod:`~dms.network.libp2p.connections.limits`: how much others may take, and what of it is used;
  :mod:`~dms.network.libp2p.connections.metering`: what one connection passes;
  :mod:`~dms.network.libp2p.connections.shedding`: closing what is too much, chosen by
  :mod:`~dms.network.libp2p.connections.trimming`.
- :mod:`~dms.network.libp2p.connections.peerstore`: what peers said about themselves.
- :mod:`~dms.network.libp2p.connections.gate`: who is let in; :mod:`~dms.network.libp2p.connections.interfaces`: whether our own
  addresses are what they were.
- :mod:`~dms.network.libp2p.connections.dialler`: getting a connection to a peer, whatever is known of it;
  :mod:`~dms.network.libp2p.connections.listing`: what is told about connections;
  :mod:`~dms.network.libp2p.connections.listeners`: who is told of changes;
  :mod:`~dms.network.libp2p.connections.names`: peer ids, ours and the library's.
"""
