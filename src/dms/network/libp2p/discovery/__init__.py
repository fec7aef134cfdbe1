"""How a node finds others.

- :mod:`~dms.network.libp2p.discovery.finding`: all of it, put together; start reading there.
- :mod:`~dms.network.libp2p.discovery.peer_exchange`: bootstrap peers, and asking those that are connected.
- :mod:`~dms.network.libp2p.discovery.dht`: the hash table (:mod:`dms.network.kademlia`) on streams.
- :mod:`~dms.network.libp2p.discovery.rendezvous`: meeting there; :mod:`~dms.network.libp2p.discovery.rounds`: when.
- :mod:`~dms.network.libp2p.discovery.returning`, :mod:`~dms.network.libp2p.discovery.peers_file`: peers known from
  before (:mod:`dms.network.known_good`).
"""
