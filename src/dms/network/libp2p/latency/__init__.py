"""Round trips and network coordinates of connected peers.

- :mod:`~dms.network.libp2p.latency.exchange`: the protocol by which coordinates are told, and :class:`PeerLatency`.
"""
