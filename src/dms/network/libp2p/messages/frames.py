"""The frames of a kept stream, without I/O.

Each has a header of twelve bytes, little-endian: kind (1), flags or status (1), number of the inbox (2), number of the
message (4), length of what follows (4).

======== =========================================================================================================
NAME     gives an inbox a number; what follows is its protocol id. A number may be given anew.
DATA     a piece of a message. The first of several begins with the length of the whole (4).
ANSWER   what became of a message of the other side; its flags are a :class:`Status`.
CANCEL   the sender gives up a message of which not all pieces were sent.
CLOSING  no new messages, from either side; both end the stream once all have been answered.
======== =========================================================================================================
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from dms.network.errors import BadFrame

PROTOCOL = "nunet/messages/1.0.0"
"""Spoken by nodes of this program only; all others get a stream for each message."""

HEADER = struct.Struct("<BBHII")
SIZE = struct.Struct("<I")
MAX_PIECE_BYTES = 64 * 1024
"""What follows the header of one frame, at most."""
MAX_NAME_BYTES = 512
MAX_NAMES = 256
"""Inboxes that have a number at a time."""

FIRST, LAST = 1, 2


class Kind(IntEnum):
    """What a frame is."""

    NAME = 1
    DATA = 2
    ANSWER = 3
    CANCEL = 4
    CLOSING = 5


class Status(IntEnum):
    """What became of a message."""

    ACCEPTED = 0
    NO_SUCH_INBOX = 1
    TOO_BUSY = 2
    TOO_LARGE = 3


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    inbox: int
    number: int
    piece: bytes


def encode(kind: int, flags: int, inbox: int, number: int, piece: bytes = b"") -> bytes:
    """The bytes of one frame."""
    return HEADER.pack(kind, flags, inbox, number, len(piece)) + piece


class Deframer:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now.

        :raises BadFrame: an unknown kind, or longer than a frame may be.
        """
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        at, end = 0, len(data)
        while end - at >= HEADER.size:
            kind, flags, inbox, number, length = HEADER.unpack_from(data, at)
            if length > MAX_PIECE_BYTES or not Kind.NAME <= kind <= Kind.CLOSING:
                raise BadFrame(f"no frame: kind {kind}, {length} bytes")
            stop = at + HEADER.size + length
            if stop > end:
                break
            frames.append(Frame(kind, flags, inbox, number, data[at + HEADER.size : stop]))
            at = stop
        self._rest = data[at:]
        return frames
