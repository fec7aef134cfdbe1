"""Tokens as they travel, read level by level: the chain of each is left as it came, since most chains are known.

Only what is written as we would write it is read here; everything else is the business of :mod:`dms.types.gojson`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from dms.identity.ids import DID
from dms.types.gojson import Wire

UInt = Annotated[int, msgspec.Meta(ge=0)]

_WRAPPER_BYTES: Final = len(b'{"dms":')
_LESS, _GREATER, _AMPERSAND = b"<>&"
_LINE_SEPARATOR: Final = "\u2028".encode()
_PARAGRAPH_SEPARATOR: Final = "\u2029".encode()


class Level(Wire, kw_only=True):
    """:class:`dms.capability.token.DMSToken` with its chain as it came."""

    act: str
    iss: DID
    sub: DID
    aud: DID
    topic: tuple[str, ...] = ()
    cap: tuple[str, ...] | None
    nonce: bytes | None
    exp: UInt
    depth: UInt = 0
    chain: msgspec.Raw = msgspec.Raw()
    sig: bytes = b""


class OuterLevel(Wire):
    """The presented level of a token, in its wrapper."""

    dms: Level


class Members(Wire):
    """A token list, none of its members parsed."""

    tok: list[msgspec.Raw] = msgspec.field(default_factory=list)


_encode_level = msgspec.json.Encoder().encode
decode_level = msgspec.json.Decoder(OuterLevel).decode
decode_members = msgspec.json.Decoder(Members).decode


def encode_unsigned(outer: OuterLevel) -> bytes | None:
    """The canonical JSON without ``sig`` of a level whose chain came as canonical JSON; None if something in it must be
    escaped, which this fast encoder does not do. Cheaper than to encode the chain anew.
    """
    encoded = _encode_level(outer)
    if _LESS in encoded or _GREATER in encoded or _AMPERSAND in encoded:
        return None
    if not encoded.isascii() and (_LINE_SEPARATOR in encoded or _PARAGRAPH_SEPARATOR in encoded):
        return None
    size = len(outer.dms.sig)
    if not size:
        return encoded[_WRAPPER_BYTES:-1]
    return encoded[_WRAPPER_BYTES : -(11 + 4 * ((size + 2) // 3))] + b"}"  # without ,"sig":"…"}}
