"""Which key of a DID document signs: the first usable one of the right relationship, and no other.

A document lists keys for many purposes. One that is meant for something else does not sign tokens, even where the
relationship that does is empty.
"""

from __future__ import annotations

import base64
from enum import StrEnum
from typing import Any, Final

import msgspec

from dms.identity import secp256k1
from dms.identity.errors import InvalidKey, ResolutionFailed
from dms.identity.ids import DID
from dms.identity.keys import KeyType, PublicKey

MAX_METHODS: Final = 64
"""Verification methods, or references to them, that are looked at."""
_METHOD_TYPE: Final = "JsonWebKey2020"
_COORDINATE_BYTES: Final = 32
_Json = dict[str, Any]  # an object of a document, of unknown shape


class Relationship(StrEnum):
    """What a key of a document is for."""

    AUTHENTICATION = "authentication"
    ASSERTION = "assertionMethod"
    INVOCATION = "capabilityInvocation"


def key_of_document(data: bytes, did: DID, relationship: Relationship = Relationship.AUTHENTICATION) -> PublicKey:
    """The key that signs for ``did`` according to its document.

    :raises ResolutionFailed: no document of ``did``, or none of its keys for this purpose can be used.
    """
    document = _parse(data)
    if document.get("id") != did.uri:
        raise ResolutionFailed(f"the document is not that of {did.uri[:80]}")
    entries = document.get(relationship)
    reasons: list[str] = []
    for entry in entries[:MAX_METHODS] if isinstance(entries, list) else ():
        try:
            return key_of_jwk(_jwk_of(_method(entry, document, did), did))
        except InvalidKey as exc:
            reasons.append(exc.message)
    why = reasons[0] if reasons else "it names none"
    raise ResolutionFailed(f"{did.uri[:80]} has no usable key for {relationship}: {why}")


def key_of_jwk(jwk: _Json) -> PublicKey:
    """The key in a JSON Web Key.

    :raises InvalidKey: neither Ed25519 nor secp256k1, or damaged.
    """
    match jwk.get("kty"), jwk.get("crv"):
        case "OKP", "Ed25519":
            return PublicKey(KeyType.ED25519, _coordinate(jwk, "x"))
        case "EC", "secp256k1":
            return PublicKey(KeyType.SECP256K1, secp256k1.compress(_coordinate(jwk, "x"), _coordinate(jwk, "y")))
    raise InvalidKey(f"a key of kind {_short(jwk.get('kty'))}, curve {_short(jwk.get('crv'))}, does not sign here")


def _method(entry: object, document: _Json, did: DID) -> _Json:
    if isinstance(entry, dict):
        return entry
    methods = document.get("verificationMethod")
    if isinstance(entry, str) and isinstance(methods, list):
        wanted = _absolute(entry, did)
        for method in methods[:MAX_METHODS]:
            if isinstance(method, dict) and _absolute(method.get("id"), did) == wanted:
                return method
    raise InvalidKey(f"it refers to {_short(entry)}, which is not in the document")


def _jwk_of(method: _Json, did: DID) -> _Json:
    if method.get("type") != _METHOD_TYPE:
        raise InvalidKey(f"a method of type {_short(method.get('type'))} instead of {_METHOD_TYPE}")
    if method.get("controller", did.uri) != did.uri:
        raise InvalidKey(f"its key is controlled by {_short(method['controller'])}")
    jwk = method.get("publicKeyJwk")
    if not isinstance(jwk, dict):
        raise InvalidKey("a method without publicKeyJwk")
    return jwk


def _absolute(reference: object, did: DID) -> str | None:
    if not isinstance(reference, str):
        return None
    return did.uri + reference if reference.startswith("#") else reference


def _coordinate(jwk: _Json, name: str) -> bytes:
    text = jwk.get(name)
    if isinstance(text, str) and text.isascii() and len(text) == 43:  # base64url of 32 bytes without padding
        try:
            data = base64.urlsafe_b64decode(text + "=")
        except ValueError:
            data = b""
        if base64.urlsafe_b64encode(data).decode("ascii") == text + "=":  # the decoder skips what it does not know
            return data
    raise InvalidKey(f"a key whose {name} is not the base64url text of {_COORDINATE_BYTES} bytes")


def _parse(data: bytes) -> _Json:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        document = None
    if not isinstance(document, dict):
        raise ResolutionFailed("the answer of the resolver is not a DID document")
    return document


def _short(value: object) -> str:
    return repr(value)[:80] if isinstance(value, str | None) else f"a {type(value).__name__}"
