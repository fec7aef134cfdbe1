"""The real network, on the libp2p library (TCP + Noise + yamux + GossipSub).

- :mod:`~dms.network.libp2p.host`: :class:`Libp2pNetwork`, the implementation of the seam; start reading there.
- :mod:`~dms.network.libp2p.connections`: sockets, connections, limits, keep-alive.
- :mod:`~dms.network.libp2p.core`: protocols on streams, identify, ping.
- :mod:`~dms.network.libp2p.streams`: streams of bytes for others; :mod:`~dms.network.libp2p.messages`: messages;
  :mod:`~dms.network.libp2p.gossip`: broadcast;
  :mod:`~dms.network.libp2p.discovery`: how to find others.
- :mod:`~dms.network.libp2p.services`, :mod:`~dms.network.libp2p.hardening`, ``_placeholder``: what keeps the library
  safe; :mod:`~dms.network.libp2p.negotiation`: what keeps it from chattering.

Importing this package imports the whole library (about a second and 60 MB), so nothing does before a node really runs.
"""

from dms.network.libp2p import _placeholder

_placeholder.install()

from dms.network.libp2p import hardening  # noqa: E402  the library can only be imported after its placeholder

hardening.install()

from dms.network.libp2p.connections.gate import Gate  # noqa: E402
from dms.network.libp2p.connections.limits import Limits  # noqa: E402
from dms.network.libp2p.host import Libp2pNetwork  # noqa: E402

__all__ = ["Gate", "Libp2pNetwork", "Limits"]
