from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet import frames
from dms.subnet.errors import BadPacket
from dms.subnet.frames import FrameDecoder, Hello, OriginalDecoder
from dms.subnet.segments import Parcel

parcels = st.lists(st.builds(Parcel, st.binary(max_size=200), st.integers(0, 65535), st.booleans()), max_size=6)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


@given(parcels, st.lists(st.integers(0, 5000), max_size=8))
def test_our_frames_come_out_as_they_went_in_however_they_are_cut(sent: list[Parcel], cuts: list[int]) -> None:
    data = frames.encode_hello(Hello("id")) + frames.encode_parcels(sent) + frames.encode(frames.PING, b"12345678")
    decoder = FrameDecoder()
    got = [frame for piece in pieces(data, cuts) for frame in decoder.feed(piece)]
    assert frames.decode_hello(got[0]) == Hello("id", 1420)
    assert [frame.parcel for frame in got[1:-1]] == sent
    assert got[-1] == frames.Frame(frames.PING, b"12345678")


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=6), st.lists(st.integers(0, 700), max_size=8))
def test_the_packets_of_the_original_come_out_as_they_went_in(sent: list[bytes], cuts: list[int]) -> None:
    sent = [packet for packet in sent if packet != b"id"]
    data = frames.encode_opening("id") + frames.encode_packets(sent)
    decoder = OriginalDecoder()
    assert [packet for piece in pieces(data, cuts) for packet in decoder.feed(piece)] == sent
    assert decoder.subnet_id == "id"


def test_an_opening_before_every_packet_is_skipped() -> None:
    decoder = OriginalDecoder()
    data = b"".join(frames.encode_opening("id") + frames.encode_packets([packet]) for packet in (b"one", b"two"))
    assert decoder.feed(data) == [b"one", b"two"]


def test_the_bytes_of_the_original_are_little_endian() -> None:
    assert frames.encode_opening("ab") + frames.encode_packets([b"xyz"]) == b"\x02\x00ab\x03\x00xyz"


def test_the_bytes_of_a_frame_of_ours() -> None:
    assert frames.encode_parcels([Parcel(b"xyz", 0x1234, is_partial=True)]) == b"\x02\x01\x34\x12\x03\x00\x00\x00xyz"


@pytest.mark.parametrize("data", [b"\x00\x00", b"\x01\x01" + bytes(257), b"\x02\x00\xff\xfe"])
def test_an_opening_that_names_nothing_is_refused(data: bytes) -> None:
    with pytest.raises(BadPacket):
        OriginalDecoder().feed(data)


@pytest.mark.parametrize(
    ("kind", "length"), [(frames.HELLO, 4097), (frames.PACKET, 65536), (frames.PING, 9), (99, 4097), (2, 1 << 31)]
)
def test_a_frame_that_is_too_long_is_refused_before_it_is_read(kind: int, length: int) -> None:
    with pytest.raises(BadPacket, match="a frame of"):
        FrameDecoder().feed(struct.pack("<BBHL", kind, 0, 0, length))


def test_a_small_frame_of_a_later_version_is_skipped() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(frames.encode(42, b"news") + frames.encode(frames.PING, b"x" * 8))[0].kind == frames.PING


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"subnet":""}', b'{"subnet":5}', b"\xff", b"{" * 3000])
def test_a_first_frame_that_names_no_network_is_refused(body: bytes) -> None:
    with pytest.raises(BadPacket, match="not a hello"):
        frames.decode_hello(frames.Frame(frames.HELLO, body))
    with pytest.raises(BadPacket, match="not a hello"):
        frames.decode_hello(frames.Frame(frames.HELLO, b'{"subnet":"%s"}' % (b"x" * 300)))
    with pytest.raises(BadPacket, match="not a hello"):
        frames.decode_hello(frames.Frame(frames.PACKET, b'{"subnet":"id"}'))


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_frames_or_refused(data: list[bytes]) -> None:
    for decoder in (FrameDecoder(), OriginalDecoder()):
        try:
            for piece in data:
                decoder.feed(piece)
        except BadPacket:
            continue
