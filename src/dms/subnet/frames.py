"""How packets stand on a stream between two nodes, without I/O.

Two protocols, negotiated by id. The original's: two bytes of length, the network's id, then each packet behind two
bytes of length; nodes of version 0.5 write the id again before every packet, which is skipped here
(``spec/network.md`` 7.4). And ours: frames with a head of eight bytes, all little-endian::

    kind 1 | flags 1 | segment bytes 2 | length 4 | body

    1 hello   {"subnet": id, "mtu": n}; the answer to it is a hello
    2 packet  an IP packet; flag 1: its TCP or UDP checksum is still to be done
    3 ping    eight bytes
    4 pong    the same eight bytes
    5 offer   what the sender needs for the datagram path
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec

from dms.subnet.errors import BadPacket
from dms.subnet.packets import MAX_PACKET_BYTES
from dms.subnet.segments import Parcel

OWN = "nunet/subnet/packets/1.0.0"
ORIGINAL = "/dms/subnet/packet-exchange/0.0.1"

HELLO, PACKET, PING, PONG, OFFER = range(1, 6)
MAX_ID_BYTES = 256
MAX_HELLO_BYTES = 4096
PING_BYTES = 8

_HEAD = struct.Struct("<BBHL")
HEAD_BYTES = _HEAD.size
_LENGTH = struct.Struct("<H")
_PARTIAL = 1
_LIMITS = {HELLO: MAX_HELLO_BYTES, PACKET: MAX_PACKET_BYTES, PING: PING_BYTES, PONG: PING_BYTES, OFFER: MAX_HELLO_BYTES}


class Hello(msgspec.Struct, frozen=True):
    """The first frame each way: which network is meant, and what the sender's devices take."""

    subnet: str
    mtu: int = 1420


class Frame(NamedTuple):
    """One frame of our protocol."""

    kind: int
    body: bytes
    segment_bytes: int = 0
    is_partial: bool = False

    @property
    def parcel(self) -> Parcel:
        """What a packet frame carries."""
        return Parcel(self.body, self.segment_bytes, self.is_partial)


def encode(kind: int, body: bytes) -> bytes:
    """One frame that is no packet."""
    return _HEAD.pack(kind, 0, 0, len(body)) + body


def encode_parcels(parcels: list[Parcel]) -> bytes:
    """Many packets for one write."""
    parts = []
    for data, segment_bytes, is_partial in parcels:
        parts.append(_HEAD.pack(PACKET, _PARTIAL if is_partial else 0, segment_bytes, len(data)))
        parts.append(data)
    return b"".join(parts)


def decode_parcels(data: bytes) -> list[Parcel]:
    """What :func:`encode_parcels` made.

    :raises BadPacket: it did not make this.
    """
    found: list[Frame] = []
    if FrameDecoder.read(data, 0, found) != len(data):
        raise BadPacket("a frame that is not whole")
    return [frame.parcel for frame in found if frame.kind == PACKET]


def encode_hello(hello: Hello) -> bytes:
    """The first frame."""
    return encode(HELLO, msgspec.json.encode(hello))


def decode_hello(frame: Frame) -> Hello:
    """The first frame of the other side.

    :raises BadPacket: it is none.
    """
    try:
        hello = msgspec.json.decode(frame.body, type=Hello)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadPacket("not a hello") from None
    if frame.kind != HELLO or not 0 < len(hello.subnet.encode(errors="replace")) <= MAX_ID_BYTES:
        raise BadPacket("not a hello")
    return hello


class FrameDecoder:
    """Our protocol, from pieces of any size. Kinds that are not known are skipped, if they are small."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now.

        :raises BadPacket: this is not our protocol; the stream is of no more use.
        """
        found: list[Frame] = []
        at = 0
        if self._begun:
            at = self._missing(data)
            if len(data) < at:
                self._begun += data
                return found
            self.read(self._begun + data[:at], 0, found)
        self._begun = data[self.read(data, at, found) :]
        return found

    def _missing(self, data: bytes) -> int:
        """How many bytes end the frame that has begun, at least."""
        begun = self._begun
        if len(begun) < HEAD_BYTES:
            begun += data[: HEAD_BYTES - len(begun)]
        if len(begun) < HEAD_BYTES:
            return HEAD_BYTES - len(self._begun)
        return HEAD_BYTES + _length(*_HEAD.unpack_from(begun)[::3]) - len(self._begun)

    @staticmethod
    def read(data: bytes, at: int, found: list[Frame]) -> int:
        """Add the whole frames from there on; returns where the first begins that is not."""
        end = len(data)
        while end - at >= HEAD_BYTES:
            kind, flags, segment_bytes, length = _HEAD.unpack_from(data, at)
            body = at + HEAD_BYTES
            if end - body < _length(kind, length):
                break
            at = body + length
            if kind in _LIMITS:
                found.append(Frame(kind, data[body:at], segment_bytes, bool(flags & _PARTIAL)))
        return at


def _length(kind: int, length: int) -> int:
    if length > _LIMITS.get(kind, MAX_HELLO_BYTES):
        raise BadPacket(f"a frame of {length} bytes")
    return length


def encode_opening(subnet_id: str) -> bytes:
    """The first bytes of the original's protocol."""
    data = subnet_id.encode()
    return _LENGTH.pack(len(data)) + data


def encode_packets(packets: list[bytes]) -> bytes:
    """Many packets of the original's protocol for one write."""
    return b"".join(part for packet in packets for part in (_LENGTH.pack(len(packet)), packet))


class OriginalDecoder:
    """The original's protocol, from pieces of any size; a repeated opening is skipped."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._opening: bytes | None = None

    @property
    def subnet_id(self) -> str | None:
        """The network that is meant, once it was said."""
        return None if self._opening is None else self._opening.decode()

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are whole now.

        :raises BadPacket: the opening is none; the stream is of no more use.
        """
        self._buffer += data
        packets: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, at)
            if self._opening is None and not 0 < length <= MAX_ID_BYTES:
                raise BadPacket("no id of a network")
            body = at + _LENGTH.size
            if len(self._buffer) - body < length:
                break
            at = body + length
            content = bytes(self._buffer[body:at])
            if self._opening is None:
                self._open(content)
            elif content and content != self._opening:
                packets.append(content)
        del self._buffer[:at]
        return packets

    def _open(self, content: bytes) -> None:
        try:
            content.decode()
        except UnicodeDecodeError:
            raise BadPacket("no id of a network") from None
        self._opening = content
