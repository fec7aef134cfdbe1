"""A network in memory, on trio's clock: the twin of :mod:`dms.network.libp2p`.

Use it with ``autojump_clock``: hours of a deployment pass in milliseconds, and the same seed gives the same run, because
no two deliveries happen at the same instant and all chance comes from generators seeded with it. (What a test does by
itself in several tasks at the same instant, trio still shuffles.)

A :class:`VirtualNetwork` holds nodes and the links between them. By default every running node is connected to every
other; with ``mesh=False`` connections come from ``bootstrap`` and ``connect`` only, and with ``explore=True`` from what peers
tell. Links have delay, jitter, loss, duplicates, overtaking and a bandwidth, and can be cut, also in one direction; nodes can
crash and come back, and be behind a NAT (``nat="home"``), reached through a relay (``is_relay=True``) within its limits.
What a cut link does is what a pulled cable does: messages wait, and after :data:`DETECT_S` the connection is gone; a crash
is noticed at once.

- :mod:`.fabric`: the network as a whole, with everything that can be done to it;
- :mod:`.node`: one node, which implements :class:`dms.network.protocol.Network`; each further part of that seam is
  a module of its own, made by the node and given the node;
- :mod:`.connections`: whom a node is connected to, and how it gets there;
- :mod:`.broadcast`: topics as a flood; :mod:`.meshed`: through meshes, by the router of real nodes (``gossip=True``);
- :mod:`.byte_streams`: streams of bytes;
- :mod:`.latency`: round trips and coordinates; :mod:`.reachability`: how others reach a node;
- :mod:`.directory`: advertisements;
- :mod:`.links`, :mod:`.agenda`: what lies between the nodes, and what happens when.
"""

from dms.testing.network.connections import DETECT_S, RECONNECT_S
from dms.testing.network.fabric import Delay, VirtualNetwork
from dms.testing.network.links import Link
from dms.testing.network.node import MemoryNetwork

__all__ = ["DETECT_S", "RECONNECT_S", "Delay", "Link", "MemoryNetwork", "VirtualNetwork"]
