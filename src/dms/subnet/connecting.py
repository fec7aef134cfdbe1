"""TCP connections without packets: a stream between two nodes that stands for one connection.

Whoever opens the stream says with whom he wants to talk, and the other node whether it is connected; then bytes go both ways,
and each direction ends on its own. Both heads are two bytes of length, little-endian, and JSON::

    {"subnet": id of the ensemble, "to": an address of its network or the id of an allocation, "port": 80}
    {"ok": true}        or        {"ok": false, "error": why not, "code": of the error}

It needs no device and no rights of either side, and is the way to members that have no address of their own in the kernel.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import trio

from dms.network import ByteStream
from dms.network.byte_streams import ByteStreams
from dms.subnet.errors import BadPacket, NotConnected
from dms.subnet.frames import MAX_ID_BYTES
from dms.subnet.pipes import Pipe
from dms.types.ids import PeerID

PROTOCOL = "nunet/subnet/connect/1.0.0"

MAX_HEAD_BYTES = 2048
MAX_TO_BYTES = 512
MAX_ERROR_CHARS = 300
HEAD_S = 10.0
OPEN_S = 10.0
ANSWER_S = 20.0
"""Longer than the other side may take to connect."""

Reach = Callable[[PeerID, "Wanted"], Awaitable[Pipe]]
"""A connection with somebody on a machine, which may be this one.

:raises DMSError: there is none.
"""

_LENGTH = struct.Struct("<H")
T = TypeVar("T")


class Wanted(msgspec.Struct, frozen=True):
    """With whom: ``to`` is an address of the network, or the id of an allocation of the ensemble."""

    subnet: str
    to: str
    port: int


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the connection is there."""

    ok: bool
    error: str = ""
    code: str = ""


def encode_wanted(wanted: Wanted) -> bytes:
    """The first bytes of whoever opens a stream."""
    return _framed(msgspec.json.encode(wanted))


def encode_answer(answer: Answer) -> bytes:
    """The first bytes of the other side; a long reason is cut."""
    return _framed(msgspec.json.encode(msgspec.structs.replace(answer, error=answer.error[:MAX_ERROR_CHARS])))


def decode_wanted(body: bytes) -> Wanted:
    """What somebody wants, without its length.

    :raises BadPacket: it is no such thing.
    """
    wanted = _decode(body, Wanted)
    if not 0 < len(wanted.subnet.encode(errors="replace")) <= MAX_ID_BYTES:
        raise BadPacket("a connection to no network")
    if not 0 < len(wanted.to.encode(errors="replace")) <= MAX_TO_BYTES:
        raise BadPacket("a connection to nobody")
    if not 0 < wanted.port < 1 << 16:
        raise BadPacket("a connection to no port")
    return wanted


def decode_answer(body: bytes) -> Answer:
    """What the other side says, without its length.

    :raises BadPacket: it is no such thing.
    """
    answer = _decode(body, Answer)
    return msgspec.structs.replace(answer, error=answer.error[:MAX_ERROR_CHARS], code=answer.code[:MAX_ERROR_CHARS])


async def read_head(stream: ByteStream) -> bytes:
    """The head of the other side, without its length; not a byte of what follows is taken.

    :raises BadPacket: it is too long, or ends in the middle.
    :raises StreamEnded: it broke.
    """
    (length,) = _LENGTH.unpack(await _read(stream, _LENGTH.size))
    if not 0 < length <= MAX_HEAD_BYTES:
        raise BadPacket(f"a head of {length} bytes")
    return await _read(stream, length)


async def dial(streams: ByteStreams, peer: PeerID, wanted: Wanted) -> ByteStream:
    """A stream to a peer that stands for a connection with ``wanted``.

    :raises NotConnected: the peer refuses, and why, or speaks otherwise.
    :raises PeerUnreachable: it is not there, or does not know this protocol.
    :raises StreamEnded: it broke meanwhile.
    """
    stream = await streams.open(peer, PROTOCOL, timeout_s=OPEN_S)
    is_open = False
    try:
        with trio.fail_after(ANSWER_S):
            await stream.write(encode_wanted(wanted))
            answer = decode_answer(await read_head(stream))
        if not answer.ok:
            raise NotConnected(answer.error or "the other machine refuses the connection")
        is_open = True
        return stream
    except trio.TooSlowError:
        raise NotConnected(f"the other machine does not answer within {ANSWER_S:g} s") from None
    except BadPacket as error:
        raise NotConnected(f"the other machine does not speak this protocol: {error.message}") from None
    finally:
        if not is_open:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await stream.reset()


async def _read(stream: ByteStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await stream.read(count - len(data))
        if not piece:
            raise BadPacket("a head that ends in the middle")
        data += piece
    return data


def _framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadPacket("not a head of a connection") from None
