"""Names for keys: DIDs, actor ids, peer ids, and the ways between them (``spec/security.md`` 1.4-1.8).

All three contain the public key itself, so every conversion works offline and the results are kept in small caches. A
text that is not the one canonical form of its key is refused: otherwise one key could have many names.
"""

from __future__ import annotations

import base64
import binascii
import functools
from typing import Final

import base58

from dms.identity.errors import InvalidDID, InvalidKey, InvalidPeerID, NoAnchorMethod
from dms.identity.keys import KeyType, PublicKey, public_key_from_protobuf
from dms.types.gojson import Wire
from dms.types.ids import PeerID

KEY_METHOD: Final = "key"
PRISM_METHOD: Final = "prism"
MAX_DID_CHARS: Final = 1024
_CACHE: Final = 4096
_MAX_BASE58_CHARS: Final = 64
_PUB_CHARS: Final = 64
_MULTICODEC = {
    KeyType.ED25519: b"\xed\x01",
    KeyType.SECP256K1: b"\xe7\x01",
    KeyType.ETH: b"\x81\xde\x03",
    KeyType.CARDANO: b"\x82\xde\x03",
}
_IDENTITY_MULTIHASH = 0x00


class DID(Wire):
    """A decentralised identifier ``did:<method>:<identifier>``; empty is nobody. Equality is that of the text."""

    uri: str = ""

    @classmethod
    def parse(cls, text: str) -> DID:
        """Read what a person or a file gives; the empty text is the empty DID.

        :raises InvalidDID: not exactly three non-empty parts, or absurdly long.
        """
        if not text:
            return NO_DID
        parts = text.split(":")
        if len(parts) != 3 or parts[0] != "did" or not all(parts) or len(text) > MAX_DID_CHARS:
            shown = text if len(text) <= 80 else f"{text[:77]}..."
            raise InvalidDID(f"invalid DID: {shown!r}")
        return cls(uri=text)

    @property
    def method(self) -> str:
        """``key`` in ``did:key:…``; empty when it is no DID."""
        parts = self.uri.split(":", 2)
        return parts[1] if len(parts) == 3 else ""

    def __bool__(self) -> bool:
        return self.uri != ""

    def __str__(self) -> str:
        return self.uri


NO_DID: Final = DID()


class ActorID(Wire):
    """The public key of an actor as padded base32 text; the empty text is nobody."""

    pub: str

    @classmethod
    def of(cls, key: PublicKey) -> ActorID:
        """The id of a key.

        :raises UnexpectedKeyType: wallets' keys cannot be actors.
        """
        return _actor_id_of(key)

    def public_key(self) -> PublicKey:
        """The key.

        :raises InvalidKey: not the text of a key that may be an actor's.
        """
        return _public_key_of_text(self.pub)

    def __bool__(self) -> bool:
        return self.pub != ""

    def __str__(self) -> str:
        return self.pub


@functools.lru_cache(maxsize=_CACHE)
def peer_id_of(key: PublicKey) -> PeerID:
    """The libp2p peer id that contains the key.

    :raises UnexpectedKeyType: wallets' keys cannot be peers.
    """
    data = key.to_protobuf()
    return PeerID(base58.b58encode(bytes((_IDENTITY_MULTIHASH, len(data))) + data).decode("ascii"))


@functools.lru_cache(maxsize=_CACHE)
def public_key_of_peer(peer: PeerID) -> PublicKey:
    """The key inside a peer id.

    :raises InvalidPeerID: no peer id, or one that holds only a hash (``Qm…``).
    """
    try:
        data = _base58(peer)
        if len(data) < 2 or data[0] != _IDENTITY_MULTIHASH or data[1] != len(data) - 2:
            raise InvalidPeerID(f"The peer id {peer[:80]!r} does not contain a public key.")
        return public_key_from_protobuf(data[2:])
    except (ValueError, InvalidKey) as exc:
        raise InvalidPeerID(f"The peer id {peer[:80]!r} does not contain a public key: {exc}.") from None


@functools.lru_cache(maxsize=_CACHE)
def did_of(key: PublicKey) -> DID:
    """The did:key of a key of any kind."""
    return DID(uri="did:key:z" + base58.b58encode(_MULTICODEC[key.type] + key.raw).decode("ascii"))


def public_key_of_did(did: DID) -> PublicKey:
    """The key inside a did:key.

    :raises NoAnchorMethod: a DID of another method.
    :raises InvalidDID: no DID, or its key is damaged or of an unknown kind.
    """
    return _public_key_of_did_text(did.uri)


@functools.lru_cache(maxsize=_CACHE)
def _public_key_of_did_text(uri: str) -> PublicKey:
    did = DID.parse(uri)
    if not did:
        raise InvalidDID("invalid DID: empty")
    if did.method != KEY_METHOD:
        raise NoAnchorMethod(f"no anchor method: {did.method[:32]!r}")
    text = uri.removeprefix("did:key:")
    if not text.startswith("z"):
        raise InvalidDID(f"invalid DID: {uri[:80]!r} is not in base58btc")
    try:
        data = _base58(text[1:])
    except ValueError as exc:
        raise InvalidDID(f"invalid DID: {uri[:80]!r}: {exc}") from None
    for kind, prefix in _MULTICODEC.items():
        if data.startswith(prefix):
            try:
                return PublicKey(kind, data[len(prefix) :])
            except InvalidKey as exc:
                raise InvalidDID(f"invalid DID: {uri[:80]!r}: {exc}") from None
    raise InvalidDID(f"invalid DID: {uri[:80]!r} holds a key of an unknown kind")


@functools.lru_cache(maxsize=_CACHE)
def _actor_id_of(key: PublicKey) -> ActorID:
    return ActorID(pub=base64.b32encode(key.to_protobuf()).decode("ascii"))


@functools.lru_cache(maxsize=_CACHE)
def _public_key_of_text(pub: str) -> PublicKey:
    if len(pub) != _PUB_CHARS:
        raise InvalidKey("invalid key: not the id of an actor")
    try:
        data = base64.b32decode(pub)
    except (binascii.Error, ValueError):
        raise InvalidKey("invalid key: the id of an actor is upper-case base32") from None
    key = public_key_from_protobuf(data)
    if _actor_id_of(key).pub != pub:
        raise InvalidKey("invalid key: not the canonical text of the id")
    return key


def _base58(text: str) -> bytes:
    """Decode, bounded first: the cost grows with the square of the length.

    :raises ValueError: too long, or not base58.
    """
    if len(text) > _MAX_BASE58_CHARS:
        raise ValueError("too long to contain a key")
    data = base58.b58decode(text)
    if base58.b58encode(data).decode("ascii") != text:  # the decoder strips white space
        raise ValueError("not canonical base58")
    return data
