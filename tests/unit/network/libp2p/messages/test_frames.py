"""Cutting bytes into the frames of a kept stream."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.network import BadFrame
from dms.network.libp2p.messages.frames import HEADER, MAX_PIECE_BYTES, Deframer, Frame, Kind, encode

FRAMES = st.builds(
    Frame,
    kind=st.sampled_from([int(kind) for kind in Kind]),
    flags=st.integers(0, 255),
    inbox=st.integers(0, 65535),
    number=st.integers(0, (1 << 32) - 1),
    piece=st.binary(max_size=300),
)


@settings(max_examples=60)
@given(frames=st.lists(FRAMES, max_size=12), cuts=st.lists(st.integers(1, 400), max_size=30))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(encode(*frame) for frame in frames)
    deframer, got = Deframer(), list[Frame]()
    for cut in cuts:
        got += deframer.feed(data[:cut])
        data = data[cut:]
    got += deframer.feed(data)

    assert got == frames


@pytest.mark.parametrize(
    "header",
    [HEADER.pack(0, 0, 0, 0, 0), HEADER.pack(6, 0, 0, 0, 0), HEADER.pack(Kind.DATA, 0, 0, 0, MAX_PIECE_BYTES + 1)],
)
def test_what_is_no_frame_is_refused_by_its_header(header: bytes) -> None:
    with pytest.raises(BadFrame):
        Deframer().feed(header)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_noise_is_refused_or_waited_for(data: bytes) -> None:
    deframer = Deframer()
    try:
        deframer.feed(data)
    except BadFrame:
        return
