"""AutoNAT 2: the bytes, and what is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.errors import BadFrame
from dms.network.libp2p.reach.autonat2 import (
    MAX_ADDRESSES,
    Asker,
    DialOutcome,
    Request,
    Response,
    ResponseStatus,
    Toll,
    decode_answer,
)
from dms.network.libp2p.reach.protobuf import decode
from dms.types.ids import PeerID

ADDRESS = Multiaddr("/ip4/1.2.3.4/tcp/9000")
NUMBERS = st.integers(0, (1 << 32) - 1)


@given(st.integers(0, (1 << 64) - 1))
def test_a_request_is_read_as_it_was_written(nonce: int) -> None:
    request = Request((ADDRESS,), nonce)
    assert Request.decode(decode(request.encode())) == request


def test_the_bytes_are_those_of_the_specification() -> None:
    address = ADDRESS.to_bytes()
    inner = b"\x0a" + bytes((len(address),)) + address + b"\x11" + (7).to_bytes(8, "little")
    assert Request((ADDRESS,), 7).encode() == b"\x0a" + bytes((len(inner),)) + inner
    assert Response(ResponseStatus.OK, 1, DialOutcome.OK).encode() == bytes.fromhex(
        "1208 08c801 1001 18c801".replace(" ", "")
    )
    assert Toll(1, 300).encode() == bytes.fromhex("1a05 0801 10ac02".replace(" ", ""))


@given(st.one_of(st.builds(Response, NUMBERS, NUMBERS, NUMBERS), st.builds(Toll, NUMBERS, NUMBERS)))
def test_an_answer_is_read_as_it_was_written(answer: Response | Toll) -> None:
    assert decode_answer(decode(answer.encode())) == answer


@given(st.binary(max_size=100))
def test_garbage_is_a_bad_frame_or_a_message(data: bytes) -> None:
    for read in (Request.decode, decode_answer):
        try:
            read(decode(data))
        except BadFrame:
            continue


def test_a_request_names_a_bounded_number_of_addresses() -> None:
    assert len(Request.decode(decode(Request((ADDRESS,) * 100, 1).encode())).addresses) == MAX_ADDRESSES


@pytest.mark.parametrize("outcome", list(DialOutcome))
def test_a_dial_that_only_was_claimed_does_not_count(outcome: DialOutcome) -> None:
    import trio

    async def judge() -> None:
        await trio.lowlevel.checkpoint()
        peer = PeerID("a")
        claimed = Asker._judge(peer, ADDRESS, outcome, came=False)
        assert claimed is None or not claimed.is_reached
        proved = Asker._judge(peer, ADDRESS, outcome, came=True)
        assert proved is not None
        assert proved.is_reached

    trio.run(judge)
