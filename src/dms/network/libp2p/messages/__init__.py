"""Messages from one peer to another.

- :mod:`~dms.network.libp2p.messages.messenger`: which of the two ways a message takes.
- :mod:`~dms.network.libp2p.messages.streams`: the original's way, one stream for one message.
- :mod:`~dms.network.libp2p.messages.keeper`: the way between nodes of this program, one stream for many messages in both
  directions; :mod:`~dms.network.libp2p.messages.kept`: one such stream; and without I/O,
  :mod:`~dms.network.libp2p.messages.exchange`: what is under way on it,
  :mod:`~dms.network.libp2p.messages.frames`: what it looks like.
"""
