"""Asking the router at home to forward our port.

- :mod:`~dms.network.libp2p.reach.mapping.keeper`: asks, renews, and takes it back at the end.
- :mod:`~dms.network.libp2p.reach.mapping.natpmp`, :mod:`~dms.network.libp2p.reach.mapping.upnp`: the two languages of routers.
- :mod:`~dms.network.libp2p.reach.mapping.gateway`: where the router is, and what a mapping is.

What a router answers is bounded and believed no further than it goes: it names a port and an address, both are looked at,
and nothing but the router itself is ever asked, whatever it says.
"""
