"""The distributed hash table, wire compatible with go and js (libp2p kad-dht), but for the sockets.

- :mod:`~dms.network.kademlia.keys`: keys and distance; :mod:`~dms.network.kademlia.table`: the routing table.
- :mod:`~dms.network.kademlia.messages`: what travels.
- :mod:`~dms.network.kademlia.values`, :mod:`~dms.network.kademlia.providers`: what is kept for others;
  :mod:`~dms.network.kademlia.advertisements`: the signed records of our namespace.
- :mod:`~dms.network.kademlia.server`: answers; :mod:`~dms.network.kademlia.lookup`: one search, pure;
  :mod:`~dms.network.kademlia.queries`: our questions.
- :mod:`~dms.network.kademlia.node`: one node of it; :mod:`~dms.network.kademlia.directory`: advertisements on it.

The library's own KadDHT is not used: it takes keys for text, keeps the prefix ``/ipfs`` whatever it is told, never meets
peers by itself, and validates and bounds too little of what others make it keep.
"""
