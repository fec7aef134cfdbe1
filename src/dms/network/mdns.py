"""Multicast DNS as libp2p uses it to meet on the local network: what is asked, announced and understood. Pure.

Wire compatible with go and js: a question for the pointers (PTR) of the service; an answer with a pointer to a random
name, whose texts (TXT) are ``dnsaddr=<multiaddress>/p2p/<id>``. Go also wants a place (SRV) and addresses (A, AAAA), so
they are there. The name is random and new with every start: nothing is told that the protocol does not need, and nothing
of a name tells who or what the machine is.
"""

from __future__ import annotations

import secrets
import string
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from multiaddr import Multiaddr

from dms.network.addresses import MAX_ADDRESSES_PER_PEER, ip_of, is_dialable, is_loopback, split_address
from dms.network.errors import BadFrame, InvalidAddress
from dms.types.ids import PeerID

GROUP, PORT = "224.0.0.251", 5353
MAX_PACKET_BYTES = 9000
MAX_RECORDS = 64
MAX_PEERS = 16
"""Peers that are taken from one packet."""
TTL_S = 120
NAME_CHARS = 32

PTR, TXT, SRV, A, AAAA, ANY = 12, 16, 33, 1, 28, 255
_IN = 1
_RESPONSE = 0x8400
_IS_RESPONSE = 0x8000
_TEXT_BYTES = 255
_PREFIX = b"dnsaddr="
_UNUSED_PORT = 4001
"""Of the place: go writes it, too, and nobody reads it."""

_MAX_LABELS = 32
_MAX_NAME_BYTES = 255


@dataclass(frozen=True, slots=True)
class Packet:
    """What matters of a packet: the names asked for, and the texts by name. Names are in lower case, without final dot."""

    is_response: bool
    questions: tuple[tuple[str, int], ...] = ()
    texts: tuple[tuple[str, tuple[bytes, ...]], ...] = ()

    def asks_for(self, service: str) -> bool:
        """Whether it is a question for this service."""
        wanted = service.lower()
        return not self.is_response and any(name == wanted and kind in (PTR, ANY) for name, kind in self.questions)


def random_name() -> str:
    """The name of a node for the time that it runs."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(NAME_CHARS))


def encode_question(service: str) -> bytes:
    """Who is there?"""
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + _encode_name(service) + struct.pack(">2H", PTR, _IN)


def encode_answer(service: str, name: str, peer: PeerID, addresses: Sequence[Multiaddr]) -> bytes:
    """We are, at these addresses; those of this machine only, and those too long for a text, are left out."""
    full, host = f"{name}.{service}", f"{name}.local"
    usable = [one for one in addresses if not is_loopback(one)]
    texts = [_PREFIX + f"{one}/p2p/{peer}".encode() for one in usable]
    data = b"".join(bytes([len(text)]) + text for text in texts if len(text) <= _TEXT_BYTES)
    place = struct.pack(">3H", 0, 0, _UNUSED_PORT) + _encode_name(host)
    extra = [_encode_record(full, TXT, data or b"\0"), _encode_record(full, SRV, place)]
    ips = dict.fromkeys(ip for ip in map(ip_of, usable) if ip is not None)
    extra += (_encode_record(host, A if ip.version == 4 else AAAA, ip.packed) for ip in ips)
    head = struct.pack(">6H", 0, _RESPONSE, 0, 1, 0, len(extra))
    return head + _encode_record(service, PTR, _encode_name(full)) + b"".join(extra)


def decode(data: bytes) -> Packet:
    """What somebody on the local network said.

    :raises BadFrame: it is malformed, or too much.
    """
    if not 12 <= len(data) <= MAX_PACKET_BYTES:
        raise BadFrame("not a packet of DNS")
    _, flags, *counts = struct.unpack_from(">6H", data)
    if sum(counts) > MAX_RECORDS:
        raise BadFrame(f"a packet of DNS with more than {MAX_RECORDS} records")
    at = 12
    questions: list[tuple[str, int]] = []
    texts: list[tuple[str, tuple[bytes, ...]]] = []
    try:
        for _ in range(counts[0]):
            name, at = _decode_name(data, at)
            kind, _class = struct.unpack_from(">2H", data, at)
            at += 4
            questions.append((name, kind))
        for _ in range(sum(counts[1:])):
            name, at = _decode_name(data, at)
            kind, _class, _ttl, length = struct.unpack_from(">2HIH", data, at)
            at += 10
            if at + length > len(data):
                raise BadFrame("a record is longer than its packet")
            if kind == TXT:
                texts.append((name, tuple(_split_text(data[at : at + length]))))
            at += length
    except struct.error as error:
        raise BadFrame(f"a packet of DNS ends too early: {error}") from error
    return Packet(bool(flags & _IS_RESPONSE), tuple(questions), tuple(texts))


def peers_in(packet: Packet, service: str, *, own: PeerID) -> dict[PeerID, tuple[Multiaddr, ...]]:
    """Who says that it is there, and where; what makes no sense is left out."""
    found: dict[PeerID, list[Multiaddr]] = {}
    for name, texts in packet.texts if packet.is_response else ():
        if not name.endswith(f".{service.lower()}"):
            continue
        for text in texts[: 2 * MAX_ADDRESSES_PER_PEER]:
            try:
                address, peer = split_address(text.removeprefix(_PREFIX).decode() if text.startswith(_PREFIX) else "")
            except (InvalidAddress, UnicodeDecodeError):
                continue
            if peer != own and is_dialable(address) and not is_loopback(address) and len(found) < MAX_PEERS:
                found.setdefault(peer, []).append(address)
    return {peer: tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES_PER_PEER] for peer, addresses in found.items()}


def _encode_name(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _encode_record(name: str, kind: int, data: bytes) -> bytes:
    return _encode_name(name) + struct.pack(">2HIH", kind, _IN, TTL_S, len(data)) + data


def _decode_name(data: bytes, at: int) -> tuple[str, int]:
    """A name, and the offset behind it; pointers may only lead backwards, so there are no circles."""
    labels: list[str] = []
    behind = -1
    limit = at + 1
    size = 0
    while True:
        if at >= len(data):
            raise BadFrame("a name does not end")
        length = data[at]
        if length >= 0xC0:
            if at + 1 >= len(data):
                raise BadFrame("a name does not end")
            behind = at + 2 if behind < 0 else behind
            at = (length & 0x3F) << 8 | data[at + 1]
            if at >= limit - 1:
                raise BadFrame("a name points forwards")
            limit = at + 1
            continue
        if length >= 0x40:
            raise BadFrame("a name has a part of an unknown kind")
        at += 1
        if length == 0:
            return ".".join(labels), at if behind < 0 else behind
        size += length + 1
        if at + length > len(data) or len(labels) >= _MAX_LABELS or size > _MAX_NAME_BYTES:
            raise BadFrame("a name is too long")
        labels.append(data[at : at + length].decode("utf-8", "replace").lower())
        at += length


def _split_text(data: bytes) -> Iterable[bytes]:
    at = 0
    while at < len(data):
        length = data[at]
        if at + 1 + length > len(data):
            raise BadFrame("a text is longer than its record")
        yield data[at + 1 : at + 1 + length]
        at += 1 + length
