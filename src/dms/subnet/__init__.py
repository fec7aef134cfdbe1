"""The private network of an ensemble: addresses, packets, names and ports (``spec/network.md`` 7).

Pure:

- :mod:`~dms.subnet.addresses`: which network an ensemble gets, which address an allocation; IPv6 beside IPv4.
- :mod:`~dms.subnet.routing`: which peer has which address.
- :mod:`~dms.subnet.packets`: what the headers of a packet say, and the few packets that we write ourselves.
- :mod:`~dms.subnet.ports`: which public port leads where.
- :mod:`~dms.subnet.dns`: names to addresses and back.
- :mod:`~dms.subnet.errors`: what can go wrong.
"""
