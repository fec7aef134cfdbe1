from __future__ import annotations

import dms.network.libp2p  # isort: skip  # noqa: F401  before anything of the library

from typing import Literal

import pytest
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import signature_validator

from dms.network.gossip import Message
from dms.network.libp2p.gossip.signing import Signer, is_genuine
from dms.network.libp2p.gossip.wire import message_of

KEYS = ed25519.create_new_key_pair(bytes(range(32)))


def signed(keys: KeyPair = KEYS, *, key: bytes | None = None) -> rpc_pb2.Message:
    own = ID.from_pubkey(keys.public_key).to_bytes()
    made = Signer(own, keys.private_key, 7).make("/nunet/hello", b"data")
    one = rpc_pb2.Message.FromString(made.raw)
    if key is not None:
        one.key = key
    return one


def test_what_we_sign_is_genuine_here_and_to_the_library() -> None:
    one = signed()
    assert is_genuine(message_of(one))
    assert signature_validator(one)
    assert one.seqno == (8).to_bytes(8, "big")
    assert message_of(one).id == one.from_id + one.seqno


def test_numbers_grow_with_each_message() -> None:
    signer = Signer(b"me", KEYS.private_key, 255)
    ids = [signer.make("t", b"same").id for _ in range(3)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("field", ["data", "seqno", "from_id", "signature", "topicIDs"])
def test_a_message_changed_on_the_way_is_not(field: str) -> None:
    one = signed()
    if field == "topicIDs":
        one.topicIDs[0] = "/nunet/deployment"
    else:
        value = bytearray(getattr(one, field))
        value[-1] ^= 1
        setattr(one, field, bytes(value))
    assert not is_genuine(message_of(one))


FIELDS: tuple[Literal["seqno", "from_id", "signature"], ...] = ("seqno", "from_id", "signature")


@pytest.mark.parametrize("field", FIELDS)
def test_a_message_that_leaves_something_out_is_not(field: Literal["seqno", "from_id", "signature"]) -> None:
    one = signed()
    one.ClearField(field)
    assert not is_genuine(message_of(one))


def test_a_key_of_somebody_else_beside_the_signature_changes_nothing() -> None:
    other = ed25519.create_new_key_pair(bytes(32))
    assert is_genuine(message_of(signed(key=other.public_key.serialize())))


def test_publishers_with_other_kinds_of_keys_are_believed_when_they_prove_it() -> None:
    curve = secp256k1.create_new_key_pair()
    assert is_genuine(message_of(signed(curve)))
    big = rsa.create_new_key_pair(2048)
    assert is_genuine(message_of(signed(big, key=big.public_key.serialize())))
    assert not is_genuine(message_of(signed(big)))
    assert not is_genuine(message_of(signed(big, key=curve.public_key.serialize())))
    assert not is_genuine(message_of(signed(big, key=b"garbage")))


def test_garbage_is_not_genuine() -> None:
    assert not is_genuine(Message(b"", message_of(signed()).origin, "t", b"", b"\xff\xff"))
