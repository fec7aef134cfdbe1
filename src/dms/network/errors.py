"""Errors of the network.

::

    DMSError
    └── NetworkError
        ├── InvalidAddress      not a multiaddress of a peer          (BadInput)
        ├── AddressInUse        another program listens there         (Conflict)
        ├── AlreadyHandled      a protocol has one handler            (Conflict)
        ├── BadFrame            a message that breaks the framing     (BadInput)
        ├── InvalidRecord       a record of the hash table that does not hold (BadInput)
        ├── MessageTooLarge     over the limit of a frame or topic    (BadInput)
        ├── InvalidSwarmKey     not the key of a private network      (BadInput)
        ├── NotRunning          used before its start or after its end (Unavailable)
        ├── PeerUnreachable     no way to the peer in time            (Unavailable)
        └── StreamEnded         the other side gave a stream up       (Unavailable)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, DMSError, Unavailable


class NetworkError(DMSError):
    """The network failed."""

    code = "network"


class InvalidAddress(BadInput, NetworkError):
    """Not the address of a peer."""

    code = "invalid_address"
    default_hint = "write /ip4/<address>/tcp/<port>/p2p/<peer id>"


class AddressInUse(Conflict, NetworkError):
    """Another program listens on this address."""

    code = "address_in_use"
    default_hint = "stop the other program, or set another p2p.listen_address"


class AlreadyHandled(Conflict, NetworkError):
    """This protocol has a handler already."""

    code = "already_handled"


class BadFrame(BadInput, NetworkError):
    """not a well-formed message"""

    code = "bad_frame"


class InvalidRecord(BadInput, NetworkError):
    """This record of the hash table does not hold."""

    code = "invalid_record"


class MessageTooLarge(BadInput, NetworkError):
    """message too large"""

    code = "message_too_large"


class InvalidSwarmKey(BadInput, NetworkError):
    """not the key of a private network"""

    code = "invalid_swarm_key"
    default_hint = "make one with nunet network key new"


class NotRunning(Unavailable, NetworkError):
    """The network is not running."""

    code = "network_not_running"


class PeerUnreachable(Unavailable, NetworkError):
    """The peer cannot be reached."""

    code = "peer_unreachable"


class StreamEnded(Unavailable, NetworkError):
    """The other side ended the stream."""

    code = "stream_ended"
