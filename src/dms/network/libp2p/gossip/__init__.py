"""Broadcast.

- :mod:`~dms.network.libp2p.gossip.pubsub`: GossipSub with the parameters of ``spec/network.md`` 4, hardened.
"""
