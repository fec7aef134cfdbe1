"""Content ids: what some bytes are called by their hash, as IPFS writes it (CIDv0 and CIDv1)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

import base58

from dms.storage.errors import InvalidStorageSpec

RAW = 0x55
DAG_PB = 0x70
IDENTITY = 0x00
SHA2_256 = 0x12
SHA2_512 = 0x13
SHA3_256 = 0x16
BLAKE2B_256 = 0xB220

MAX_TEXT_CHARS = 256
MAX_IDENTITY_BYTES = 128
"""Content that is its own name; no more is ever meant seriously."""
_MAX_VARINT_BYTES = 9
_DIGEST_BYTES = {SHA2_256: 32, SHA2_512: 64, SHA3_256: 32, BLAKE2B_256: 32}


@dataclass(frozen=True, slots=True)
class CID:
    """A content id: version, codec of the content, hash function and digest."""

    version: int
    codec: int
    hash_code: int
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> CID:
        """Read the text form: base58 of version 0, or base 16, 32 or 58 of version 1.

        :raises InvalidStorageSpec: not a content id, or of a hash function that is not known here.
        """
        try:
            if len(text) > MAX_TEXT_CHARS:
                raise ValueError("too long")
            if len(text) == 46 and text.startswith("Qm"):
                return cls.from_bytes(base58.b58decode(text))
            cid = cls.from_bytes(_decode_multibase(text))
            if cid.version == 0:
                raise ValueError("version 0 in a multibase")
            return cid
        except (ValueError, binascii.Error) as exc:
            raise InvalidStorageSpec(f"{text[:80]!r} is not a content id: {exc}") from None

    @classmethod
    def from_bytes(cls, data: bytes) -> CID:
        """Read the binary form, all of ``data``.

        :raises ValueError: it is not one.
        """
        cid, end = cls.read(data, 0)
        if end != len(data):
            raise ValueError("more bytes than a content id has")
        return cid

    @classmethod
    def read(cls, data: bytes, start: int) -> tuple[CID, int]:
        """Read one that begins at ``start``; returns also where it ends.

        :raises ValueError: there is none.
        """
        if data[start : start + 2] == b"\x12\x20":
            digest = data[start + 2 : start + 34]
            if len(digest) != 32:
                raise ValueError("it ends too early")
            return cls(0, DAG_PB, SHA2_256, digest), start + 34
        version, at = read_varint(data, start)
        if version != 1:
            raise ValueError(f"version {version} is not known")
        codec, at = read_varint(data, at)
        hash_code, at = read_varint(data, at)
        length, at = read_varint(data, at)
        expected = _DIGEST_BYTES.get(hash_code)
        if expected is None and hash_code != IDENTITY:
            raise ValueError(f"the hash function 0x{hash_code:x} is not known")
        if length > MAX_IDENTITY_BYTES or (expected is not None and length != expected):
            raise ValueError(f"a digest of {length} bytes")
        digest = data[at : at + length]
        if len(digest) != length:
            raise ValueError("it ends too early")
        return cls(1, codec, hash_code, digest), at + length

    @classmethod
    def of(cls, codec: int, content: bytes | memoryview) -> CID:
        """The CIDv1 of ``content`` with SHA2-256."""
        return cls(1, codec, SHA2_256, hashlib.sha256(content).digest())

    def matches(self, content: bytes) -> bool:
        """Whether these bytes are what it names."""
        return _hash(self.hash_code, content) == self.digest

    def same_content(self, other: CID) -> bool:
        """Whether both name the same bytes of the same codec, in whatever version."""
        return (self.codec, self.hash_code, self.digest) == (other.codec, other.hash_code, other.digest)

    def to_bytes(self) -> bytes:
        """The binary form."""
        multihash = varint(self.hash_code) + varint(len(self.digest)) + self.digest
        if self.version == 0:
            return multihash
        return varint(1) + varint(self.codec) + multihash

    def __str__(self) -> str:
        if self.version == 0:
            return base58.b58encode(self.to_bytes()).decode()
        return "b" + base64.b32encode(self.to_bytes()).decode().lower().rstrip("=")


def varint(number: int) -> bytes:
    """``number`` as an unsigned variable-length integer."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, start: int) -> tuple[int, int]:
    """The number at ``start`` and where it ends.

    :raises ValueError: it ends too early or is too long.
    """
    number = 0
    for index in range(_MAX_VARINT_BYTES):
        if start + index >= len(data):
            raise ValueError("it ends too early")
        byte = data[start + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, start + index + 1
    raise ValueError("a number that is too long")


def _hash(code: int, content: bytes) -> bytes:
    if code == SHA2_256:
        return hashlib.sha256(content).digest()
    if code == SHA2_512:
        return hashlib.sha512(content).digest()
    if code == SHA3_256:
        return hashlib.sha3_256(content).digest()
    if code == BLAKE2B_256:
        return hashlib.blake2b(content, digest_size=32).digest()
    return content


def _decode_multibase(text: str) -> bytes:
    base, rest = text[:1], text[1:]
    if base in ("b", "B"):
        if rest != (rest.lower() if base == "b" else rest.upper()):
            raise ValueError("mixed letters")
        return base64.b32decode(rest.upper() + "=" * (-len(rest) % 8))
    if base == "z":
        return base58.b58decode(rest)
    if base in ("f", "F"):
        return bytes.fromhex(rest)
    raise ValueError("its base is not known" if text else "it is empty")
