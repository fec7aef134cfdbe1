"""What the private network reads of peers and members: packets, questions about names, frames and offers on streams, and sealed
datagrams with what is in them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Network, ip_address

import dns.flags
import dns.message
import trio
from trio.testing import memory_stream_pair

from dms.subnet import frames
from dms.subnet.addresses import private_prefix
from dms.subnet.bundles import is_slice
from dms.subnet.connecting import (
    Answer,
    Wanted,
    decode_answer,
    decode_wanted,
    encode_answer,
    encode_wanted,
)
from dms.subnet.dns import MAX_ANSWER_BYTES, Zone
from dms.subnet.errors import BadPacket
from dms.subnet.name_streams import NameStreams
from dms.subnet.packets import (
    MAX_PACKET_BYTES,
    TCP,
    UDP,
    echo_reply,
    parse_header,
    too_big,
    udp_packet,
    udp_ports,
    unreachable,
)
from dms.subnet.pieces import cut, join
from dms.subnet.pipes import TrioPipe
from dms.subnet.sealing import (
    ANSWER,
    PACKET,
    PIECE,
    PROBE,
    Offer,
    Opener,
    Replayed,
    Sealer,
    decode_offer,
    encode_offer,
    session_of,
)
from dms.subnet.segments import VNET_BYTES, Parcel, check, from_device, offloads_of, packets_of
from dms.subnet.socks import Asked, read_request

MTU = 1400
_KEY, _SESSION = bytes(range(32)), 0x0102030405060708
_SLICE_SIZES = (90, 200)


def packets() -> Sequence[bytes]:
    """As a device gives them: behind ten bytes about offloads."""
    found = []
    for source, destination in (("10.1.2.3", "10.1.2.4"), ("fd00::3", "fd00::4")):
        one = udp_packet(ip_address(source).packed, 5, ip_address(destination).packed, 53, b"payload" * 30)
        at = parse_header(one).offset
        tcp = bytearray(one)
        tcp[9 if at == 20 else 6] = TCP
        tcp[at + 12] = 5 << 4
        kind = 1 if at == 20 else 4
        found += [bytes(VNET_BYTES) + one, bytes([1, 0, 0, 0, 0, 0, at, 0, 6, 0]) + one]
        found.append(bytes([1, kind, at + 20, 0, 64, 0, at, 0, 16, 0]) + bytes(tcp))
    return found


def check_packet(data: bytes) -> str:
    """Whatever is taken can be cut, handed on and answered, and none of it is larger or of other addresses."""
    parcel, header = from_device(data)
    raw = offloads_of(parcel, header) + parcel.data
    again, same = from_device(raw)
    assert (again, same) == (parcel, header), "what is handed on reads as it was"
    words = [f"v{header.version}", "partial" if parcel.is_partial else "whole"]
    pieces = packets_of(parcel, header, MTU)
    for piece in pieces:
        own = parse_header(piece)
        assert own[:4] == header[:4], "a piece goes where the whole went"
    for answer in (echo_reply(parcel.data, header), too_big(parcel.data, header, MTU, header.destination)):
        if answer is not None:
            assert parse_header(answer).destination == header.source, "an answer goes to who asked"
            words.append("answered")
    told = unreachable(parcel.data, header, header.destination)
    assert told is None or len(told) <= len(parcel.data) + 1280
    if header.protocol == UDP:
        try:
            words.append("udp" if len(udp_ports(parcel.data, header)[2]) <= len(parcel.data) else "")
        except BadPacket:
            words.append("no udp")
    taken = NameStreams(MTU).take(parcel.data, header)
    if taken is not None:
        words.append("name stream")
        for reply in taken.replies:
            check(reply, parse_header(reply.data))
            assert parse_header(reply.data).destination == header.source, "an answer goes to who asked"
    return " ".join([*words, "cut" if len(pieces) > 1 else ""])


@functools.cache
def _zone() -> Zone:
    zone = Zone(IPv4Network("10.1.2.0/24"), private_prefix("id"), forwards=True)
    zone.add({"web": "10.1.2.3", "a.b": "10.1.2.4"} | {f"n{number}": "10.1.2.5" for number in range(100)})
    zone.set_ports({"web": [("tcp", 80)]})
    return zone


def questions() -> Sequence[bytes]:
    """One of each kind."""
    asked = [("web.internal", "A"), ("WEB", "AAAA"), ("_80._tcp.web.internal", "SRV"), ("example.com", "MX")]
    asked += [("5.2.1.10.in-addr.arpa", "PTR"), ("nobody.internal", "ANY")]
    made = [dns.message.make_query(name, kind) for name, kind in asked]
    edns = dns.message.make_query("5.2.1.10.in-addr.arpa", "PTR", use_edns=0, payload=4096)
    return [message.to_wire() for message in (*made, edns)]


def check_question(data: bytes) -> str:
    """An answer has the id of its question, says that it is one, and is no larger than was agreed."""
    reply = _zone().answer(data)
    if reply.data:
        assert reply.data[:2] == data[:2]
        assert len(reply.data) <= MAX_ANSWER_BYTES
        message = dns.message.from_wire(reply.data)
        assert message.flags & dns.flags.QR
        return f"{reply.outcome.value} {message.rcode().name} {len(message.answer)}"
    return reply.outcome.value


def streams() -> Sequence[bytes]:
    """The beginnings of streams of both protocols."""
    packet = udp_packet(bytes([10, 1, 2, 3]), 1, bytes([10, 1, 2, 4]), 2, b"x")
    offer = encode_offer(Offer(bytes(range(32)), 7, ("192.0.2.1",), 9000))
    own = frames.encode_hello(frames.Hello("id")) + frames.encode_parcels([Parcel(packet, 64, is_partial=True)])
    own += frames.encode(frames.PING, b"12345678") + frames.encode(frames.OFFER, offer)
    return [own, frames.encode_opening("id") + frames.encode_packets([packet]) * 2]


def check_stream(data: bytes) -> str:
    """Reading in two pieces gives the same as in one; what was decoded is within its limits."""
    words = []
    for decoder in (frames.FrameDecoder, frames.OriginalDecoder):
        outcomes = []
        for pieces in ((data,), (data[: len(data) // 2], data[len(data) // 2 :])):
            one = decoder()
            got: list[object] = []
            try:
                for piece in pieces:
                    got += one.feed(piece)
            except BadPacket:
                got = ["refused"]
            outcomes.append(got)
        assert outcomes[0] == outcomes[1] or ["refused"] in outcomes
        words.append(str(min(len(outcomes[0]), 9)))
        words += sorted({_told(frame) for frame in outcomes[0] if isinstance(frame, frames.Frame)})
    return " ".join(words)


def connections() -> Sequence[bytes]:
    """The heads of both sides, without their lengths."""
    wanted = [Wanted("id", "10.1.2.3", 80), Wanted("e" * 64, "e_node.allocation", 65535)]
    answers = [Answer(ok=True), Answer(ok=False, error="nobody listens", code="not_connected")]
    return [encode_wanted(one)[2:] for one in wanted] + [encode_answer(one)[2:] for one in answers]


def check_connection(data: bytes) -> str:
    """What is taken is within its bounds, and says the same once more."""
    words = []
    with suppress(BadPacket):
        wanted = decode_wanted(data)
        assert decode_wanted(encode_wanted(wanted)[2:]) == wanted, "it says the same once more"
        words.append("wanted")
    with suppress(BadPacket):
        answer = decode_answer(data)
        assert decode_answer(encode_answer(answer)[2:]) == answer, "it says the same once more"
        words.append("answer")
    return " ".join(words)


@functools.cache
def _sealed() -> dict[bytes, tuple[int, bytes]]:
    """What the other side of a session has sealed."""
    sealer = Sealer(_KEY, _SESSION)
    said = [(PACKET, packets()[0]), (PROBE, b"12345678" + bytes(100)), (ANSWER, b"12345678"), (PIECE, b"")]
    return {sealer.seal(kind, body): (kind, body) for kind, body in said}


def datagrams() -> Sequence[bytes]:
    """One of each kind."""
    return list(_sealed())


def check_datagram(data: bytes) -> str:
    """Nothing is opened that was not sealed, and nothing twice."""
    opener = Opener(_KEY)
    session = session_of(data)
    opened = opener.open(data)
    assert opened == _sealed()[data], "nobody sealed this"
    assert session == _SESSION
    try:
        opener.open(data)
    except Replayed:
        return f"opened {opened[0]}"
    raise AssertionError("it was opened twice")


@functools.cache
def _bundled() -> dict[bytes, int]:
    """Bundles as slices of two sizes, also with a datagram of another kind behind; and which size."""
    bodies = [frames.encode_parcels([from_device(raw)[0] for raw in packets()[:count]]) for count in (1, 3, 6)]
    found = {}
    for body in bodies:
        for size in _SLICE_SIZES:
            sealer = Sealer(_KEY, _SESSION)
            found[sealer.seal_bundle(body, size)] = size
            found[sealer.seal_bundle(body, size) + sealer.seal(PACKET, b"")] = size
    return found


def slices() -> Sequence[bytes]:
    """Each behind the size of its datagrams."""
    return [bytes([size]) + data for data, size in _bundled().items()]


def check_slices(data: bytes) -> str:
    """What opens was sealed, is taken as packets, and opens once; something is read of whatever comes."""
    opener = Opener(_KEY)
    whole = {frames.encode_parcels([from_device(raw)[0] for raw in packets()[:count]]) for count in (1, 3, 6)}
    view, size = memoryview(data)[1:], max(1, data[0]) if data else 1
    at, words = 0, list[str]()
    while at < len(view):
        takes = opener.open_slices if is_slice(view, at) else opener.open_all
        opened = takes(view, at, size)
        assert at < opened.end <= len(view), "something is read"
        if takes == opener.open_slices:
            assert set(opened.plain) <= whole, "nobody sealed this"
            assert not [body for body in opened.plain if not frames.decode_parcels(body)]
            assert not opened.plain or opener.open_slices(view, at, size).plain == [], "it was opened twice"
        words.append(f"{takes.__name__} {len(opened.plain)}")
        at = opened.end
    return " ".join(sorted(set(words)))


def rows_of_pieces() -> Sequence[bytes]:
    """Large packets in pieces, each piece behind its length: whole, with a gap, and in a row of their own."""
    found = []
    for data in packets():
        parcel, header = from_device(data)
        if parcel.segment_bytes and (made := cut(parcel, header, 7, 1000)) is not None:
            pieces = [front + payload for front, payload in zip(*made, strict=True)]
            found += [_row(pieces), _row([*pieces[:1], *pieces[2:]]), _row(pieces[::-1])]
    return found


def check_pieces(data: bytes) -> str:
    """What is joined is as long as it says, goes where its pieces went, and is no larger than a packet may be."""
    pieces = []
    while len(data) >= 2:
        size = int.from_bytes(data[:2], "little")
        pieces.append(data[2 : 2 + size])
        data = data[2 + size :]
    words = []
    for parcel in join(pieces):
        if parcel is None:
            words.append("none")
            continue
        assert len(parcel.data) <= MAX_PACKET_BYTES
        try:
            header = parse_header(parcel.data)
            check(parcel, header)
            words.append(f"v{header.version} {'many' if parcel.segment_bytes else 'one'}")
        except BadPacket:
            words.append("bad")
    assert len(words) <= len(pieces)
    return " ".join(sorted(set(words)))


def _row(pieces: Sequence[bytes]) -> bytes:
    return b"".join(len(piece).to_bytes(2, "little") + piece for piece in pieces)


def proxied() -> Sequence[bytes]:
    """What a proxy is asked for."""
    login = b"\x05\x01\x02\x01\x01a\x01b"
    basic = b"Proxy-Authorization: Basic YTpi\r\n\r\n"
    return [
        login + b"\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x50more",
        login + b"\x05\x01\x00\x03\x03web\x00\x50",
        login + b"\x05\x01\x00\x04" + bytes(16) + b"\x00\x50",
        b"CONNECT web:443 HTTP/1.1\r\n" + basic,
        b"GET http://web/x?y HTTP/1.1\r\nHost: web\r\n" + basic,
    ]


def check_proxied(data: bytes) -> str:
    """Whatever is asked, it is by somebody known, and for a host and a port."""

    async def ask() -> Asked | None:
        ours, theirs = memory_stream_pair()
        await theirs.send_all(data)
        await theirs.send_eof()
        return await read_request(TrioPipe(ours), lambda user, password: (user, password) == ("a", "b"))

    asked = trio.run(ask)
    if asked is None:
        return "refused"
    assert asked.user == "a", "somebody known"
    assert asked.host, "a host"
    assert 0 < asked.port < 1 << 16, "a port"
    return f"{asked.is_http} {asked.is_tunnel} {bool(asked.first)}"


def _told(frame: frames.Frame) -> str:
    try:
        if frame.kind == frames.HELLO:
            assert len(frames.decode_hello(frame).subnet.encode(errors="replace")) <= frames.MAX_ID_BYTES
        elif frame.kind == frames.OFFER:
            assert decode_offer(encode_offer(decode_offer(frame.body))) == decode_offer(frame.body)
        elif frame.kind == frames.PACKET:
            check(frame.parcel, parse_header(frame.body))
    except BadPacket:
        return f"bad {frame.kind}"
    return str(frame.kind)
