"""One message on a stream: an 8-byte little-endian length, then that many bytes (``spec/network.md`` 3).

Without I/O of its own: reading takes a ``receive`` function. The trap of the original is the header read with one plain
read: streams return short, so every read here goes on until it has all its bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dms.network.errors import BadFrame, MessageTooLarge
from dms.network.protocol import MAX_LARGE_MESSAGE_BYTES, MAX_MESSAGE_BYTES

HEADER_BYTES = 8

MAX_GOSSIP_BYTES = 128 * 1024
"""The longest broadcast that we publish: gossip multiplies every byte by the degree of the mesh."""

Receive = Callable[[int], Awaitable[bytes]]
"""Returns at least one and at most that many bytes; empty at the end of the stream."""


def encode_frame(data: bytes, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """The bytes to write for one message; the sender counts the header in.

    :raises BadFrame: the message is empty.
    :raises MessageTooLarge: header and message together pass the limit.
    """
    if not data:
        raise BadFrame("a message cannot be empty")
    if HEADER_BYTES + len(data) > limit_bytes:
        raise MessageTooLarge(
            f"message too large: {HEADER_BYTES + len(data)} bytes with its length, the limit is {limit_bytes}"
        )
    return len(data).to_bytes(HEADER_BYTES, "little") + data


def decode_length(header: bytes, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> int:
    """The length that a header announces; the receiver does not count the header in.

    :raises BadFrame: the header is short, or announces nothing.
    :raises MessageTooLarge: it announces more than the limit.
    """
    if len(header) != HEADER_BYTES:
        raise BadFrame(f"a header has {HEADER_BYTES} bytes, not {len(header)}")
    length = int.from_bytes(header, "little")
    if length == 0:
        raise BadFrame("a message cannot be empty")
    if length > limit_bytes:
        raise MessageTooLarge(f"message too large: {length} bytes announced, the limit is {limit_bytes}")
    return length


def is_large(data: bytes) -> bool:
    """Whether only nodes of this program take a message.

    :raises BadFrame: it is empty.
    :raises MessageTooLarge: nobody takes it.
    """
    if not data:
        raise BadFrame("a message cannot be empty")
    if len(data) > MAX_LARGE_MESSAGE_BYTES:
        raise MessageTooLarge(f"message too large: {len(data)} bytes, the limit is {MAX_LARGE_MESSAGE_BYTES}")
    return HEADER_BYTES + len(data) > MAX_MESSAGE_BYTES


def refuse_large(peer: str, data: bytes) -> MessageTooLarge:
    """The error for a message to a peer that takes only what the original does."""
    return MessageTooLarge(
        f"message too large: {HEADER_BYTES + len(data)} bytes with its length, peer {peer} takes {MAX_MESSAGE_BYTES}"
    )


async def read_frame(receive: Receive, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """Read one message; no memory is set aside before its length was checked.

    :raises BadFrame: the stream ended before the message did, or the header is not one.
    :raises MessageTooLarge: more was announced than the limit.
    """
    length = decode_length(await read_exactly(receive, HEADER_BYTES), limit_bytes=limit_bytes)
    return await read_exactly(receive, length)


async def read_exactly(receive: Receive, count: int) -> bytes:
    """Read ``count`` bytes, however short the single reads are.

    :raises BadFrame: the stream ended before.
    """
    first = await receive(count)
    if len(first) == count:
        return bytes(first)
    parts = bytearray(first)
    while first:
        first = await receive(count - len(parts))
        parts += first
        if len(parts) == count:
            return bytes(parts)
    raise BadFrame(f"the stream ended after {len(parts)} of {count} bytes")
