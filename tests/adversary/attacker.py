"""Whoever speaks the protocol by hand: JSON, tokens and envelopes made from dictionaries, and signed with real keys.

Nothing here uses the product's encoders: what is signed is written by a second, small implementation of the format
(``spec/security.md`` 0, 3.1, 5.1), so that an attack can leave the format at any place, and so that the two
implementations check each other in every message that is meant to arrive.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dms.identity.ids import ActorID, did_of, peer_id_of
from dms.identity.keys import KeyType, PrivateKey
from dms.types.ids import PeerID

ROOT_PROTOCOL = "actor/root/messages/0.0.1"
SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS

Json = dict[str, Any]  # what an attacker writes has no type

_numbers = itertools.count(1)


def write_json(value: object) -> bytes:
    """As Go writes it; bytes become base64."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_base64)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def _base64(value: object) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()


class Person:
    """Somebody with a key: the same name is always the same key."""

    def __init__(self, name: str) -> None:
        self.key = PrivateKey(KeyType.ED25519, hashlib.sha256(name.encode()).digest())
        self.did = did_of(self.key.public).uri
        self.id = ActorID.of(self.key.public).pub
        self.peer: PeerID = peer_id_of(self.key.public)

    def handle(self, *, inbox: str = "root", **members: object) -> Json:
        """The handle of an actor of this person; ``members`` put others in the place of ``id``, ``did`` and ``host``."""
        return {
            "id": {"pub": members.get("id", self.id)},
            "did": {"uri": members.get("did", self.did)},
            "addr": {"host": members.get("host", self.peer), "inbox": inbox},
        }

    def token(
        self,
        act: str,
        subject: str,
        caps: Sequence[str] | None,
        *,
        exp: int,
        aud: str = "",
        topics: Sequence[str] = (),
        depth: int = 0,
        chain: object = None,
        nonce: bytes | None = None,
        issuer: str = "",
        signer: Person | None = None,
    ) -> Json:
        """A signed token; ``issuer`` and ``signer`` let somebody else claim it, or sign it."""
        number = next(_numbers)
        body: Json = {
            "act": act,
            "iss": {"uri": issuer or self.did},
            "sub": {"uri": subject},
            "aud": {"uri": aud} if aud else {},
        }
        if topics:
            body["topic"] = list(topics)
        body |= {"cap": caps, "nonce": nonce or number.to_bytes(12, "big"), "exp": exp}
        if depth:
            body["depth"] = depth
        if chain is not None:
            body["chain"] = chain
        body["sig"] = (signer or self).key.sign(b"dms:token:" + write_json(body))
        return {"dms": body}

    def message(
        self,
        to: Mapping[str, Any],
        behaviour: str,
        tokens: Iterable[object] | bytes = (),
        *,
        exp: int,
        payload: object = None,
        nonce: int | None = None,
        reply_to: str = "",
        topic: str = "",
        sender: Mapping[str, Any] | None = None,
    ) -> Json:
        """An envelope without its signature."""
        number = next(_numbers)
        options: Json = {"exp": exp}
        if reply_to:
            options["cont"] = reply_to
        if topic:
            options["topic"] = topic
        caps = tokens if isinstance(tokens, bytes) else token_list(tokens)
        message: Json = {
            "to": dict(to),
            "be": behaviour,
            "from": dict(sender or self.handle()),
            "nonce": number if nonce is None else nonce,
            "opt": options,
            "msg": payload if isinstance(payload, bytes) else write_json(payload),
        }
        if caps:
            message["cap"] = caps
        return message

    def sign(self, message: Mapping[str, Any]) -> bytes:
        """The bytes of a signed envelope."""
        return write_json({**message, "sig": self.signature(message)})

    def signature(self, message: Mapping[str, Any]) -> bytes:
        """Of an envelope."""
        return self.key.sign(b"dms:msg:" + write_json(message))


NOBODY: Json = {"id": {"pub": ""}, "did": {}, "addr": {}}
"""The recipient of a broadcast."""


def token_list(tokens: Iterable[object]) -> bytes:
    """As it travels."""
    return write_json({"tok": list(tokens)})


def chain_of(people: Sequence[Person], caps: Sequence[str], *, exp: int, **members: Any) -> Json:
    """Delegations from the first person to the last, each resting on the one before."""
    token: Json | None = None
    for giver, taker in itertools.pairwise(people):
        token = giver.token("delegate", taker.did, caps, exp=exp, chain=token, **members)
    assert token is not None
    return token
