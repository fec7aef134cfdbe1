"""Tests of the questions and answers of :mod:`dms.network.libp2p.discovery.peer_exchange`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiaddr import Multiaddr

from dms.network import InvalidAddress
from dms.network.libp2p.discovery.peer_exchange import (
    MAX_SAMPLE,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
)
from dms.types.ids import PeerID

PEER = PeerID("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3")
ADDRESS = Multiaddr("/ip4/10.0.0.1/tcp/9000")


def test_questions_are_understood() -> None:
    assert decode_question(encode_question(peer=PEER)) == (PEER, 0)
    assert decode_question(encode_question(sample=3)) == (None, 3)
    assert decode_question(encode_question(sample=10_000)) == (None, MAX_SAMPLE)


def test_answers_are_understood() -> None:
    assert decode_answer(encode_answer([(PEER, [ADDRESS])])) == [(PEER, (ADDRESS,))]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"peer": "x"}', b'{"sample": 0}', b'{"sample": "3"}', b"[" * 9999]
)
def test_other_questions_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidAddress):
        decode_question(data)


def test_entries_that_make_no_sense_are_left_out_of_an_answer() -> None:
    good = {"peer": PEER, "addresses": [str(ADDRESS)]}
    bad: list[object] = [
        7,
        {},
        {"peer": 7, "addresses": []},
        {"peer": PEER, "addresses": ["x"]},
        {"peer": PEER, "addresses": 5},
    ]
    assert decode_answer(json.dumps({"peers": [*bad, good]}).encode()) == [(PEER, (ADDRESS,))]
    assert len(decode_answer(json.dumps({"peers": [good] * 1000}).encode())) == MAX_SAMPLE


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=9) | st.just(PEER),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["peer", "addresses", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=40)
@given(JSON)
def test_no_json_is_fatal(value: object) -> None:
    for document in (value, {"peers": value}, {"peers": [value]}, {"peer": value}, {"sample": value}):
        data = json.dumps(document).encode()
        for decode in (decode_question, decode_answer):
            try:
                decode(data)
            except InvalidAddress:
                continue
