"""The envelope: bytes as Go writes them, signatures over the re-encoding, lifetimes."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.actor.envelope import (
    MAX_BROADCAST_LIFETIME_NS,
    MAX_LIFETIME_NS,
    MAX_SKEW_NS,
    Envelope,
    Options,
    decode_envelope,
    encode_payload,
)
from dms.actor.errors import BadSender, BadSignature, InvalidMessage, MessageExpired
from dms.actor.handle import NOBODY, Address, Handle
from dms.identity.ids import DID, ActorID, did_of, peer_id_of
from dms.testing.actors import key_of
from dms.types import gojson
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.ids import PeerID

KEY, OTHER = key_of("a"), key_of("b")
EXP = 1_700_000_000 * 10**9
TEXTS = st.text(max_size=20)


def handle_of(name: str, inbox: str = "root") -> Handle:
    public = key_of(name).public
    return Handle(id=ActorID.of(public), did=did_of(public), addr=Address(host=peer_id_of(public), inbox=inbox))


def envelope(**changes: object) -> Envelope:
    plain = Envelope(
        to=handle_of("b"), be="/public/hello", from_=handle_of("a"), nonce=7, opt=Options(exp=EXP), msg=b'{"a":1}'
    )
    return msgspec.structs.replace(plain, **changes)


def test_the_bytes_are_those_that_go_writes() -> None:
    made = envelope(to=NOBODY, be="/a<b>&", opt=Options(exp=5, topic="/t"), msg=b"", sig=b"\x01\x02")
    own = handle_of("a")
    assert made.encode().decode() == (
        '{"to":{"id":{"pub":""},"did":{},"addr":{}},"be":"/a\\u003cb\\u003e\\u0026",'
        f'"from":{{"id":{{"pub":"{own.id.pub}"}},"did":{{"uri":"{own.did.uri}"}},'
        f'"addr":{{"host":"{own.addr.host}","inbox":"root"}}}},'
        '"nonce":7,"opt":{"exp":5,"topic":"/t"},"msg":"","sig":"AQI="}'
    )


def test_the_signature_covers_the_prefix_and_everything_but_itself() -> None:
    signed = envelope(cap=b"{}").sign(KEY)
    unsigned = json.loads(signed.encode())
    del unsigned["sig"]
    body = json.dumps(unsigned, separators=(",", ":")).encode()
    assert KEY.public.verify(b"dms:msg:" + body, signed.sig)
    signed.verify(EXP)


@given(
    be=TEXTS,
    nonce=st.integers(0, 2**64 - 1),
    exp=st.integers(0, 2**64 - 1),
    cont=TEXTS,
    topic=TEXTS,
    msg=st.binary(max_size=40),
    cap=st.binary(max_size=40),
    host=TEXTS,
    inbox=TEXTS,
)
def test_what_is_written_is_read_again_and_its_signature_holds(
    be: str, nonce: int, exp: int, cont: str, topic: str, msg: bytes, cap: bytes, host: str, inbox: str
) -> None:
    own = msgspec.structs.replace(handle_of("a"), addr=Address(host=PeerID(host), inbox=inbox))
    made = envelope(be=be, nonce=nonce, opt=Options(exp=exp, cont=cont, topic=topic), msg=msg, cap=cap, from_=own)
    signed = made.sign(KEY)
    read = decode_envelope(signed.encode())
    assert read == signed
    assert read.encode() == signed.encode()
    read.check_signature()


@given(st.permutations(["to", "be", "from", "nonce", "opt", "msg", "sig"]), st.randoms(use_true_random=False))
def test_order_case_and_unknown_members_change_nothing(order: list[str], rng: object) -> None:
    signed = envelope().sign(KEY)
    members = json.loads(signed.encode())
    choose = rng.random  # type: ignore[attr-defined]
    shuffled = {(name.upper() if choose() < 0.5 else name): members[name] for name in order}
    read = decode_envelope(json.dumps(shuffled | {"unknown": [1, {"x": None}]}).encode())
    assert read == signed
    assert read.encode() == signed.encode()
    read.check_signature()


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class AsOriginal(Wire):
    """The members that the original knows; what else comes it ignores."""

    to: Handle
    be: str
    from_: Handle = msgspec.field(name="from")
    nonce: int
    opt: Options
    msg: bytes
    cap: bytes = b""
    sig: bytes = b""


def test_a_trace_is_outside_of_what_is_signed_so_that_the_original_verifies_the_message() -> None:
    plain, traced = envelope().sign(KEY), envelope(trace=TRACE).sign(KEY)
    assert traced.sig == plain.sig
    data = traced.encode()
    assert data == plain.encode()[:-1] + b',"trace":"%b"}' % TRACE.encode()
    read = decode_envelope(data)
    assert read.trace == TRACE
    read.check_signature()
    assert read.encode() == data
    theirs = gojson.decode(data, AsOriginal)
    signed = b"dms:msg:" + gojson.encode(msgspec.structs.replace(theirs, sig=b""))
    assert KEY.public.verify(signed, theirs.sig)


@pytest.mark.parametrize("trace", ['"}', "x" * 10_000, TRACE.upper(), "\u2028"])
def test_what_is_no_trace_is_neither_refused_nor_passed_on(trace: str) -> None:
    plain = envelope().sign(KEY)
    data = plain.encode()[:-1] + b',"trace":' + json.dumps(trace).encode() + b"}"
    read = decode_envelope(data)
    read.check_signature()
    assert read.encode() == plain.encode()


def test_no_payload_and_a_payload_of_null_are_two_things() -> None:
    assert encode_payload(None) == b""
    assert b'"msg":""' in envelope(msg=b"").encode()
    assert base64.b64encode(b"null") in envelope(msg=b"null").encode()
    assert envelope(msg=b"").payload(type(None)) is None
    null = decode_envelope(envelope().encode().replace(b'"msg":"eyJhIjoxfQ=="', b'"msg":null'))
    assert null.msg == b""
    assert b'"msg":""' in null.encode() or b'"msg":null' in null.encode()


@pytest.mark.parametrize("member", ["be", "nonce", "msg", "to", "opt", "cap"])
def test_any_change_breaks_the_signature(member: str) -> None:
    changes: dict[str, object] = {
        "be": "/other",
        "nonce": 8,
        "msg": b"{}",
        "to": handle_of("c"),
        "opt": Options(exp=EXP + 1),
        "cap": b"x",
    }
    forged = msgspec.structs.replace(envelope().sign(KEY), **{member: changes[member]})
    with pytest.raises(BadSignature):
        decode_envelope(forged.encode()).verify(EXP)
    with pytest.raises(BadSignature):
        forged.verify(EXP)


def test_only_the_key_of_the_sender_signs_for_it() -> None:
    with pytest.raises(BadSender):
        envelope().sign(OTHER)
    forged = msgspec.structs.replace(envelope(), sig=OTHER.sign(envelope().signed_bytes()))
    with pytest.raises(BadSignature):
        forged.check_signature()


def test_a_sender_without_a_usable_key_is_invalid() -> None:
    nobody = Handle(id=ActorID(pub="x"), did=DID(), addr=Address())
    with pytest.raises(InvalidMessage):
        envelope(from_=nobody).check_signature()


def test_it_is_valid_up_to_its_expiry_and_says_by_how_much_it_is_late() -> None:
    made = envelope()
    made.check_lifetime(EXP)
    with pytest.raises(MessageExpired, match=r"2\.5 s ago"):
        made.check_lifetime(EXP + 2_500_000_000)


@pytest.mark.parametrize(
    ("changes", "longest_ns"),
    [
        ({}, MAX_LIFETIME_NS),
        ({"opt": Options(exp=EXP, topic="/t")}, MAX_LIFETIME_NS),
        ({"opt": Options(exp=EXP, topic="/t"), "to": NOBODY}, MAX_BROADCAST_LIFETIME_NS),
    ],
)
def test_it_may_live_for_a_day_a_broadcast_for_an_hour_and_clocks_may_differ(
    changes: dict[str, object], longest_ns: int
) -> None:
    made = envelope(**changes)
    made.check_lifetime(EXP - longest_ns - MAX_SKEW_NS)
    with pytest.raises(InvalidMessage, match="would live longer"):
        made.check_lifetime(EXP - longest_ns - MAX_SKEW_NS - 1)


@given(st.binary(max_size=300))
def test_garbage_is_an_error_of_ours(data: bytes) -> None:
    try:
        decode_envelope(data).verify(EXP)
    except DMSError:
        return
