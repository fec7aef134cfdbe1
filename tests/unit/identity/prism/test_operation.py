"""The operation that creates a DID, read by the protocol buffers library by the published field numbers."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.identity.ids import DID
from dms.identity.keys import KeyType, PrivateKey, generate_key
from dms.identity.prism.operation import create_did

_TEXT, _BYTES, _NUMBER, _MESSAGE = 9, 12, 5, 11
_MESSAGES: dict[str, list[tuple[str, int, int, bool, str]]] = {
    "Signed": [
        ("signed_with", 1, _TEXT, False, ""),
        ("signature", 2, _BYTES, False, ""),
        ("operation", 3, _MESSAGE, False, "Operation"),
    ],
    "Operation": [("create_did", 1, _MESSAGE, False, "Create")],
    "Create": [("did_data", 1, _MESSAGE, False, "Data")],
    "Data": [
        ("public_keys", 2, _MESSAGE, True, "Key"),
        ("services", 3, _BYTES, True, ""),
        ("context", 4, _TEXT, True, ""),
    ],
    "Key": [
        ("id", 1, _TEXT, False, ""),
        ("usage", 2, _NUMBER, False, ""),
        ("ec_key_data", 8, _MESSAGE, False, "Point"),
    ],
    "Point": [("curve", 1, _TEXT, False, ""), ("x", 2, _BYTES, False, ""), ("y", 3, _BYTES, False, "")],
}


def _signed_class() -> Any:  # a class made at run time
    file = descriptor_pb2.FileDescriptorProto(name="prism-test.proto", package="prismtest", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, is_repeated, of in fields:
            added = message.field.add(name=field, number=number, type=kind, label=3 if is_repeated else 1)
            if of:
                added.type_name = f".prismtest.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prismtest.Signed"))


Signed = _signed_class()


@pytest.mark.parametrize(
    ("kind", "curve", "suite"),
    [
        (KeyType.ED25519, "Ed25519", "https://w3id.org/security/suites/ed25519-2020/v1"),
        (KeyType.SECP256K1, "secp256k1", "https://w3id.org/security/suites/secp256k1-2019/v1"),
    ],
)
def test_the_operation_says_what_it_must(kind: KeyType, curve: str, suite: str) -> None:
    key = PrivateKey(kind, b"\x09" * 32)
    creation = create_did(key)
    signed = Signed.FromString(creation.signed_operation)
    operation = signed.operation.SerializeToString()
    assert signed.signed_with == "master-0"
    assert key.public.verify(operation, signed.signature)
    assert creation.did == DID.parse(f"did:prism:{hashlib.sha256(operation).hexdigest()}")
    data = signed.operation.create_did.did_data
    assert [(entry.id, entry.usage, entry.ec_key_data.curve) for entry in data.public_keys] == [
        ("master-0", 1, curve),
        ("auth-0", 4, curve),
    ]
    assert list(data.context) == ["https://www.w3.org/ns/did/v1", suite]
    assert list(data.services) == []
    point = data.public_keys[1].ec_key_data
    if kind is KeyType.ED25519:
        assert (point.x, point.y) == (key.public.raw, b"")
    else:
        assert (point.x, len(point.y)) == (key.public.raw[1:], 32)
        assert point.y[-1] & 1 == key.public.raw[0] & 1


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_one_key_has_one_did(seed: bytes) -> None:
    key = PrivateKey(KeyType.ED25519, seed)
    assert create_did(key) == create_did(key)
    assert create_did(key).did != create_did(generate_key()).did
