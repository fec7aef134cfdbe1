from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.identity.errors import InvalidKey, ResolutionFailed
from dms.identity.ids import DID
from dms.identity.keys import KeyType, PrivateKey, PublicKey
from dms.identity.prism.document import MAX_METHODS, Relationship, key_of_document, key_of_jwk
from dms.testing.prism import document, jwk

DID_ = DID(uri="did:prism:" + "ab" * 32)
ED = PrivateKey(KeyType.ED25519, b"\x01" * 32).public
SECP = PrivateKey(KeyType.SECP256K1, b"\x02" * 32).public
OTHER = PrivateKey(KeyType.ED25519, b"\x03" * 32).public


def read(value: Any, relationship: Relationship = Relationship.AUTHENTICATION) -> PublicKey:
    return key_of_document(json.dumps(value).encode(), DID_, relationship)


def method(key: PublicKey, name: str = "#k") -> dict[str, Any]:
    return {"id": DID_.uri + name, "type": "JsonWebKey2020", "controller": DID_.uri, "publicKeyJwk": jwk(key)}


def refused(value: Any, relationship: Relationship = Relationship.AUTHENTICATION) -> str:
    with pytest.raises(ResolutionFailed) as caught:
        read(value, relationship)
    return caught.value.message


def test_published_json_web_keys_are_read() -> None:
    rfc_8037 = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert key_of_jwk(rfc_8037).raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


@pytest.mark.parametrize("key", [ED, SECP])
def test_both_kinds_of_keys_are_found_by_reference_and_embedded(key: PublicKey) -> None:
    assert read(document(DID_, key)) == key
    assert read({"id": DID_.uri, "authentication": [method(key)]}) == key
    assert read({"id": DID_.uri, "verificationMethod": [method(key)], "authentication": ["#k"]}) == key
    relative = {**method(key), "id": "#k"}
    absolute = {"id": DID_.uri, "verificationMethod": [relative], "authentication": [f"{DID_.uri}#k"]}
    assert read(absolute) == key


def test_only_the_chosen_relationship_counts() -> None:
    full = {
        "id": DID_.uri,
        "verificationMethod": [method(ED, "#a"), method(SECP, "#b")],
        "assertionMethod": ["#b"],
        "capabilityInvocation": ["#a"],
        "keyAgreement": ["#a"],
    }
    assert read(full, Relationship.ASSERTION) == SECP
    assert read(full, Relationship.INVOCATION) == ED
    assert "has no usable key for authentication: it names none" in refused(full)
    assert "it names none" in refused({**full, "authentication": []})
    assert "it names none" in refused({**full, "authentication": "#a"})


def test_the_first_usable_key_is_taken() -> None:
    unusable = {**method(OTHER, "#x"), "type": "Ed25519VerificationKey2020"}
    agreement = {**method(OTHER, "#y"), "publicKeyJwk": {**jwk(OTHER), "crv": "X25519"}}
    assert read({"id": DID_.uri, "authentication": ["#gone", 7, unusable, agreement, method(ED), method(SECP)]}) == ED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "JsonWebKey"}, "of type 'JsonWebKey' instead of"),
        ({"controller": "did:prism:cc"}, "controlled by 'did:prism:cc'"),
        ({"controller": ["did:prism:cc"]}, "controlled by a list"),
        ({"publicKeyJwk": None}, "without publicKeyJwk"),
        ({"publicKeyJwk": {}}, "of kind None, curve None"),
        ({"publicKeyJwk": {**jwk(ED), "crv": "X25519"}}, "curve 'X25519', does not sign"),
        ({"publicKeyJwk": {**jwk(SECP), "crv": "P-256"}}, "curve 'P-256'"),
        ({"publicKeyJwk": {**jwk(ED), "x": jwk(ED)["x"] + "="}}, "x is not"),
        ({"publicKeyJwk": {**jwk(ED), "x": jwk(ED)["x"][:-1] + "é"}}, "x is not"),
        ({"publicKeyJwk": {**jwk(ED), "x": "+" * 43}}, "x is not"),
        ({"publicKeyJwk": {**jwk(ED), "x": "!" * 2 + "A" * 41}}, "x is not"),
        ({"publicKeyJwk": {**jwk(ED), "x": jwk(ED)["x"][:-1] + "B"}}, "x is not"),
        ({"publicKeyJwk": {**jwk(ED), "x": 7}}, "x is not"),
        ({"publicKeyJwk": {**jwk(SECP), "y": None}}, "y is not"),
        ({"publicKeyJwk": {**jwk(SECP), "y": jwk(SECP)["x"]}}, "not a point"),
    ],
)
def test_unusable_keys_are_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    assert reason in refused({"id": DID_.uri, "authentication": [{**method(ED), **change}]})


@pytest.mark.parametrize("value", [None, [], 7, "x", {}, {"id": "did:prism:other"}, {"id": [DID_.uri]}])
def test_other_documents_are_refused(value: Any) -> None:
    assert "document" in refused(value)


def test_the_number_of_methods_looked_at_is_bounded() -> None:
    assert refused({"id": DID_.uri, "authentication": [7] * MAX_METHODS + [method(ED)]})
    methods = [method(OTHER, f"#{n}") for n in range(MAX_METHODS)] + [method(ED)]
    assert refused({"id": DID_.uri, "verificationMethod": methods, "authentication": ["#k"]})


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    with pytest.raises(ResolutionFailed):
        key_of_document(data, DID_)


def test_a_document_nested_beyond_measure_is_refused() -> None:
    with pytest.raises(ResolutionFailed):
        key_of_document(b"[" * 200_000, DID_)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda x: st.lists(x, max_size=3), max_leaves=5
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["id", "type", "controller", "publicKeyJwk", "kty", "crv", "x", "y", "authentication"]), _JSON)
def test_no_changed_member_makes_more_than_our_error(name: str, value: Any) -> None:
    changed = copy.deepcopy(document(DID_, SECP))
    inner = changed["verificationMethod"][0]
    for part in (changed, inner, inner["publicKeyJwk"]):
        if name in part:
            part[name] = value
    try:
        assert read(changed) == SECP  # only where nothing was changed
    except ResolutionFailed:
        return


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.sampled_from([KeyType.ED25519, KeyType.SECP256K1]))
def test_keys_survive_their_json_form(secret: bytes, kind: KeyType) -> None:
    try:
        key = PrivateKey(kind, secret).public
    except InvalidKey:
        return
    assert key_of_jwk(jwk(key)) == key
