"""Messages from one peer to another.

- :mod:`~dms.network.libp2p.messages.streams`: the original's way, one stream for one message.
"""
