"""With what datagrams are sealed: ChaCha20-Poly1305, or AES-GCM where both machines have instructions for AES, which then
takes half the time.

AES-GCM is safe for fewer packets under one key (RFC 9001, appendix B.1), so its keys change: which one a datagram has
follows from its counter, and nothing has to be agreed anew.
"""

from __future__ import annotations

import functools
import struct
from enum import Enum
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SPAN_BITS = 28
"""So many datagrams, as a power of two, have the same key of AES; each of 2 KiB at most."""
KEY_BYTES = 32

_CPUINFO = Path("/proc/cpuinfo")
_U64 = struct.Struct("<Q")


class Suite(Enum):
    """How to seal."""

    CHACHA20 = "ChaCha20-Poly1305"
    AES = "AES-256-GCM"


AEAD = ChaCha20Poly1305 | AESGCM


class Ciphers:
    """Those of one direction, by the counter of the datagram."""

    def __init__(self, key: bytes, suite: Suite) -> None:
        self._key, self._suite, self._span = key, suite, 0
        self._current = self._of(0)

    def at(self, counter: int) -> AEAD:
        """The one for this datagram."""
        span = counter >> SPAN_BITS
        return self._current if span == self._span or self._suite is Suite.CHACHA20 else self._of(span)

    def use(self, counter: int) -> AEAD:
        """The same; and those that follow are likely to have it, too."""
        cipher = self.at(counter)
        self._span, self._current = counter >> SPAN_BITS, cipher
        return cipher

    def _of(self, span: int) -> AEAD:
        if self._suite is Suite.CHACHA20:
            return ChaCha20Poly1305(self._key)
        if not span:
            return AESGCM(self._key)
        info = b"nunet subnet datagrams, key " + _U64.pack(span)
        return AESGCM(HKDFExpand(SHA256(), KEY_BYTES, info).derive(self._key))


@functools.cache
def has_aes() -> bool:
    """Whether this machine has instructions for AES."""
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith(("flags", "Features")) and "aes" in line.split() for line in lines)
