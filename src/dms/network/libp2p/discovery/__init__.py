"""How a node finds others.

- :mod:`~dms.network.libp2p.discovery.peer_exchange`: bootstrap peers, and asking those that are connected.
"""
