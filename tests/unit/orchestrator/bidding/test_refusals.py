"""Why peers do not bid: reading what they answer, and what of it is worth an event."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.orchestrator.bidding.refusals import (
    MAX_GROUPS,
    MAX_NODES,
    MAX_PEERS,
    MAX_TEXT_CHARS,
    MAX_TOLD,
    Hearing,
    RefusalMessage,
    Refusals,
    RefusedNodes,
    is_refusal,
    read_refusals,
)
from dms.orchestrator.errors import InvalidBid
from dms.types import gojson
from dms.types.ids import EnsembleID, PeerID

ID = EnsembleID("e" * 64)
BOB = PeerID("bob")
SHORT = RefusedNodes(rule="free", text="not enough free resources now", hint="ask for less", nodes=("n1", "n2"))


def message(*refused: RefusedNodes, ensemble: EnsembleID = ID, nonce: str = "n") -> bytes:
    return gojson.encode(RefusalMessage(refusals=Refusals(ensemble_id=ensemble, nonce=nonce, refused=refused)))


def read(data: bytes, known: tuple[str, ...] = ("n1", "n2")) -> tuple[RefusedNodes, ...]:
    assert is_refusal(data)
    return read_refusals(data, ensemble=ID, nonce="n", known=known)


def test_an_answer_as_it_travels() -> None:
    assert message(SHORT) == (
        b'{"Refusals":{"EnsembleID":"' + b"e" * 64 + b'","Nonce":"n","Refused":[{"rule":"free",'
        b'"text":"not enough free resources now","hint":"ask for less","nodes":["n1","n2"]}]}}'
    )
    assert read(message(SHORT)) == (SHORT,)


def test_bids_are_told_apart() -> None:
    assert not is_refusal(b'{"V1":{}}')
    assert not is_refusal(b"")


@pytest.mark.parametrize(
    "data",
    [
        message(SHORT, ensemble=EnsembleID("f" * 64)),
        message(SHORT, nonce="another round"),
        b'{"Refusals":7}',
        b'{"Refusals":{"EnsembleID":1}}',
        b'{"Refusals":',
        b'{"Refusals":{"EnsembleID":"e","Nonce":"n","Refused":[{"rule":[]}]}}',
    ],
)
def test_what_is_no_answer_to_this_question_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidBid):
        read(data)


def test_only_nodes_that_were_asked_for_are_read_and_all_is_bounded_and_printable() -> None:
    long = RefusedNodes(rule="r" * 99, text="\x1b[31m" * 999, hint="h\n" * 999, nodes=("n1",) * 5_000)
    [group] = read(message(long, RefusedNodes(rule="x", text="y", nodes=("another",))))
    assert len(group.nodes) == MAX_NODES
    assert len(group.text) <= MAX_TEXT_CHARS
    assert group.text.isprintable()
    assert group.hint.isprintable()
    assert len(read(message(*[SHORT] * 99))) <= MAX_GROUPS


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    with pytest.raises(InvalidBid):
        read_refusals(b'{"Refusals":' + data, ensemble=ID, nonce="n", known=())


def test_what_was_told_already_is_no_news() -> None:
    hearing = Hearing()
    [news] = hearing.take(BOB, [SHORT])
    assert news == {
        "peer": BOB,
        "nodes": ["n1", "n2"],
        "rule": "free",
        "reason": "not enough free resources now",
        "hint": "ask for less",
    }
    assert hearing.take(BOB, [SHORT]) == ()
    assert len(hearing.take(BOB, [RefusedNodes(rule="machine", text="too small", nodes=("n1",))])) == 1
    assert [(peer, node, group.rule) for peer, node, group in hearing] == [(BOB, "n1", "machine")]
    hearing.forget(BOB, "n1")
    hearing.forget(BOB, "n1")
    assert list(hearing) == []


def test_others_can_fill_neither_the_memory_nor_the_journal() -> None:
    hearing, told = Hearing(), 0
    for number in range(MAX_PEERS + 50):
        told += len(hearing.take(PeerID(f"p{number}"), [SHORT]))
    assert len(hearing.by_peer) == MAX_PEERS
    assert told == MAX_TOLD
