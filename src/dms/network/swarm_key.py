"""The key of a private network: 32 bytes that all its nodes share, in the file that libp2p nodes of every kind read.

::

    /key/swarm/psk/1.0.0/
    /base16/
    <64 hexadecimal digits>

``/base64/`` and ``/bin/`` (32 raw bytes) are read, too; what is written is ``/base16/``, which every implementation
reads. The key hides that a node is there at all from whoever lacks it. It does not say who somebody is: that is what
the handshake behind it is for.

The trap: an early release made keys out of a key pair and so published their first bytes, which are always the same.
Such keys, and those that nobody drew by chance, are refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from dms.network.errors import InvalidSwarmKey

KEY_BYTES = 32
HEADER = b"/key/swarm/psk/1.0.0/"
MAX_FILE_BYTES = 1024
MIN_DISTINCT_BYTES = 16
"""Of 32 bytes drawn by chance fewer are distinct once in 10^16 times."""

_KEY_PAIR_PREFIX = b"\x08\x02\x12\x20"


@dataclass(frozen=True, slots=True)
class SwarmKey:
    """The key; printing it shows its fingerprint only."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise InvalidSwarmKey(f"a network key has {KEY_BYTES} bytes, not {len(self.secret)}")
        if self.secret.startswith(_KEY_PAIR_PREFIX):
            raise InvalidSwarmKey("the network key is weak: its first bytes are those of a key pair, always the same")
        if len(set(self.secret)) < MIN_DISTINCT_BYTES:
            raise InvalidSwarmKey("the network key is weak: nobody drew these bytes by chance")

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits by which people compare keys; made as other implementations make it."""
        from Crypto.Cipher import Salsa20  # imported where a key is: most nodes have none

        return hashlib.shake_128(Salsa20.new(self.secret, b"finprint").encrypt(bytes(64))).hexdigest(16)

    def __str__(self) -> str:
        return f"network key {self.fingerprint}"


def new_swarm_key() -> SwarmKey:
    """A key drawn by chance."""
    return SwarmKey(secrets.token_bytes(KEY_BYTES))


def encode_swarm_key(key: SwarmKey) -> bytes:
    """The file of a key."""
    return b"\n".join((HEADER, b"/base16/", key.secret.hex().encode(), b""))


def decode_swarm_key(data: bytes) -> SwarmKey:
    """The key of a file.

    :raises InvalidSwarmKey: it is none, or a weak one.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidSwarmKey(f"the file of a network key has at most {MAX_FILE_BYTES} bytes")
    header, _, rest = data.partition(b"\n")
    encoding, _, body = rest.partition(b"\n")
    if header.rstrip() != HEADER:
        raise InvalidSwarmKey(f"the first line must be {HEADER.decode()}")
    match encoding.rstrip():
        case b"/base16/":
            return SwarmKey(_read(base64.b16decode, body.strip().upper(), "hexadecimal digits"))
        case b"/base64/":
            return SwarmKey(_read(lambda text: base64.b64decode(text, validate=True), body.strip(), "base64"))
        case b"/bin/":
            return SwarmKey(body)
    raise InvalidSwarmKey("the second line must be /base16/, /base64/ or /bin/")


def _read(decode: Callable[[bytes], bytes], text: bytes, what: str) -> bytes:
    try:
        return decode(text)
    except (binascii.Error, ValueError):
        raise InvalidSwarmKey(f"the third line must be the key in {what}") from None
