"""Files that nodes pass to each other, from a volume of a tenant to one of the same tenant elsewhere.

Whoever owns the volume at the receiving end asks for a ticket there, by a message that his capabilities authorise, and
has the other node redeem it. The bytes go over a stream of their own (``nunet/files/1.0.0``), are resumed where they
broke off, and checked as a whole before anybody sees the file.

- :mod:`~dms.storage.passing.desk`: :class:`FileDesk`, what a node does with files of others; start reading there.
- :mod:`~dms.storage.passing.tickets`: what was permitted to whom, once.
- :mod:`~dms.storage.passing.protocol`: what both sides say on the stream.
- :mod:`~dms.storage.passing.sending`, :mod:`~dms.storage.passing.receiving`: the two sides.
- :mod:`~dms.storage.passing.transfers`: which are under way, and how far.
"""
