"""Streams of bytes for whoever is above the network (:mod:`dms.network.byte_streams`).

- :mod:`~dms.network.libp2p.streams.opening`: a stream to a peer, in time or not at all, and its end.
- :mod:`~dms.network.libp2p.streams.channel`: one stream as the seam wants it.
- :mod:`~dms.network.libp2p.streams.service`: who serves which protocol, and how many at once.
"""
