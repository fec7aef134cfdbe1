"""Broadcast as a calculation: who gets which message, and what is thought of whom (``spec/network.md`` 4).

GossipSub 1.1 (with IDONTWANT of 1.2) without sockets, keys or tasks. What arrives is fed in, what is to be sent is taken out;
time and chance are injected. :mod:`dms.network.libp2p.gossip` carries it over streams, :mod:`dms.testing.network` over
virtual links.

- :mod:`.parameters`: every number, with its unit and reason;
- :mod:`.mesh`: the router;
- :mod:`.upkeep`: whom to take into the mesh of a topic and whom to drop; :mod:`.backoffs`: and whom not yet;
- :mod:`.packets`: what peers tell each other; :mod:`.scores`: what is thought of them; :mod:`.caches`: what was seen lately.
"""

from dms.network.gossip.mesh import Mesh
from dms.network.gossip.packets import Message, Offer, Packet, Prune
from dms.network.gossip.parameters import MeshParameters, ScoreParameters, TopicParameters
from dms.network.gossip.scores import Scores

__all__ = [
    "Mesh",
    "MeshParameters",
    "Message",
    "Offer",
    "Packet",
    "Prune",
    "ScoreParameters",
    "Scores",
    "TopicParameters",
]
