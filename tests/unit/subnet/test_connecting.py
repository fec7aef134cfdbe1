"""Heads of streams that stand for connections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet.connecting import (
    MAX_ERROR_CHARS,
    Answer,
    Wanted,
    decode_answer,
    decode_wanted,
    encode_answer,
    encode_wanted,
)
from dms.subnet.errors import BadPacket


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=120), st.integers(1, 65535))
def test_what_is_wanted_arrives_as_it_was_sent(subnet: str, to: str, port: int) -> None:
    data = encode_wanted(Wanted(subnet, to, port))
    assert int.from_bytes(data[:2], "little") == len(data) - 2
    assert decode_wanted(data[2:]) == Wanted(subnet, to, port)


def test_the_bytes_of_both_heads_are_these() -> None:
    assert encode_wanted(Wanted("e", "10.1.2.3", 80)) == b'\x2b\x00{"subnet":"e","to":"10.1.2.3","port":80}'.replace(
        b"\x2b", bytes([len('{"subnet":"e","to":"10.1.2.3","port":80}')])
    )
    assert encode_answer(Answer(ok=True)) == b'\x0b\x00{"ok":true}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"subnet":"e","to":"x"}',
        b'{"subnet":"","to":"x","port":80}',
        b'{"subnet":"e","to":"","port":80}',
        b'{"subnet":"e","to":"x","port":0}',
        b'{"subnet":"e","to":"x","port":65536}',
        b'{"subnet":"e","to":"x","port":80.5}',
        b'{"subnet":"' + b"e" * 257 + b'","to":"x","port":80}',
        b'{"subnet":"e","to":"' + b"x" * 513 + b'","port":80}',
        b'{"subnet":"\xff","to":"x","port":80}',
        b"[" * 2000,
    ],
)
def test_what_makes_no_sense_is_refused(body: bytes) -> None:
    with pytest.raises(BadPacket):
        decode_wanted(body)


def test_a_long_reason_is_cut_on_both_sides() -> None:
    data = encode_answer(Answer(ok=False, error="x" * 5000))
    assert decode_answer(data[2:]).error == "x" * MAX_ERROR_CHARS
    assert decode_answer(b'{"ok":false,"error":"' + b"y" * 900 + b'"}').error == "y" * MAX_ERROR_CHARS
