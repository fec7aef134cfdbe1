"""Questions for names by TCP, where an answer does not fit into one packet: just enough of TCP for that. Pure.

The gateway has no kernel behind it, and needs none: whoever asks sits on the other side of a device of ours, where nothing
is lost or reordered but under overload. So there is no repetition: who misses an answer asks anew, as with UDP. An answer
goes out as one packet with the size of its segments beside it, for the device to cut.
"""

from __future__ import annotations

import secrets
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from dms.subnet.packets import TCP, Header, tcp_packet
from dms.subnet.segments import Parcel

PORT = 53
MAX_CONVERSATIONS = 128
"""Of one network on one node; the one that was silent for longest makes room."""
MAX_QUERY_BYTES = 4096
MAX_ANSWER_BYTES = 16384
"""Fits into the window with which every system begins."""
WINDOW_BYTES = 8192

_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_TCP = struct.Struct(">HHLLBBHHH")
_HEADS = {4: 40, 6: 60}
"""Bytes of both headers."""
_MAX_SEQUENCE = 0xFFFFFFFF


class Asker(NamedTuple):
    """Who asks, at which address of the gateway."""

    address: bytes
    port: int
    gateway: bytes


@dataclass
class _Conversation:
    expected: int
    sent: int
    buffer: bytearray = field(default_factory=bytearray)
    is_ending: bool = False


class Taken(NamedTuple):
    """What follows from a packet: what to hand to the asker's device, and what he asks."""

    replies: list[Parcel]
    asker: Asker
    queries: list[bytes]


class NameStreams:
    """Of one network on one node."""

    def __init__(self, mtu: int) -> None:
        self._mtu = mtu
        self._open: OrderedDict[Asker, _Conversation] = OrderedDict()

    def take(self, packet: bytes, header: Header) -> Taken | None:
        """A packet for the gateway; ``None`` if it is no question for names."""
        at = header.offset
        if header.protocol != TCP or len(packet) < at + _TCP.size:
            return None
        port, to, sequence, _, words, flags, *_ = _TCP.unpack_from(packet, at)
        start = at + (words >> 4) * 4
        if to != PORT or not at + _TCP.size <= start <= len(packet):
            return None
        asker = Asker(header.source, port, header.destination)
        return self._taken(asker, sequence, flags, packet[start:])

    def answer(self, asker: Asker, data: bytes) -> list[Parcel]:
        """The answer to a question of before; nothing, if he is gone or it is too long."""
        found = self._open.get(asker)
        if found is None or found.is_ending or not 0 < len(data) <= MAX_ANSWER_BYTES:
            return []
        return [self._say(asker, found, _PSH | _ACK, len(data).to_bytes(2) + data)]

    def __len__(self) -> int:
        return len(self._open)

    def _taken(self, asker: Asker, sequence: int, flags: int, payload: bytes) -> Taken:
        if flags & _RST:
            self._open.pop(asker, None)
            return Taken([], asker, [])
        if flags & _SYN:
            return Taken([self._greet(asker, sequence)], asker, [])
        found = self._open.get(asker)
        if found is None:
            silent = not payload and not flags & _FIN  # the last word of one that has just ended
            return Taken([] if silent else [self._refuse(asker, sequence + len(payload))], asker, [])
        self._open.move_to_end(asker)
        if sequence != found.expected:
            return Taken([self._say(asker, found, _ACK)] if payload or flags & _FIN else [], asker, [])
        found.buffer += payload
        found.expected = found.expected + len(payload) & _MAX_SEQUENCE
        queries = _queries(found.buffer)
        if len(found.buffer) > MAX_QUERY_BYTES + 2:
            del self._open[asker]
            return Taken([self._refuse(asker, found.expected)], asker, [])
        if flags & _FIN:
            found.expected = found.expected + 1 & _MAX_SEQUENCE
            replies = [self._say(asker, found, _FIN | _ACK)]
            del self._open[asker]
            return Taken(replies, asker, [])
        return Taken([self._say(asker, found, _ACK)] if payload else [], asker, queries)

    def _greet(self, asker: Asker, sequence: int) -> Parcel:
        while len(self._open) >= MAX_CONVERSATIONS:
            self._open.popitem(last=False)
        made = self._open[asker] = _Conversation(sequence + 1 & _MAX_SEQUENCE, secrets.randbits(32))
        segment = struct.pack(">BBH", 2, 4, self._segment_bytes(asker))
        reply = self._say(asker, made, _SYN | _ACK, options=segment)
        made.sent = made.sent + 1 & _MAX_SEQUENCE
        return reply

    def _refuse(self, asker: Asker, expected: int) -> Parcel:
        return self._say(asker, _Conversation(expected & _MAX_SEQUENCE, 0), _RST | _ACK)

    def _say(self, asker: Asker, on: _Conversation, flags: int, payload: bytes = b"", options: bytes = b"") -> Parcel:
        size = self._segment_bytes(asker)
        is_cut = len(payload) > size
        words = (_TCP.size + len(options)) // 4 << 4
        head = _TCP.pack(PORT, asker.port, on.sent, on.expected, words, flags, WINDOW_BYTES, 0, 0) + options
        data = tcp_packet(asker.gateway, asker.address, head + payload, is_partial=is_cut)
        on.sent = on.sent + len(payload) & _MAX_SEQUENCE
        return Parcel(data, size, is_partial=True) if is_cut else Parcel(data)

    def _segment_bytes(self, asker: Asker) -> int:
        return self._mtu - _HEADS[4 if len(asker.address) == 4 else 6]


def _queries(buffer: bytearray) -> list[bytes]:
    """What is whole of it, taken out."""
    found = []
    while len(buffer) >= 2 and len(buffer) >= 2 + (size := int.from_bytes(buffer[:2])):
        found.append(bytes(buffer[2 : 2 + size]))
        del buffer[: 2 + size]
    return found
