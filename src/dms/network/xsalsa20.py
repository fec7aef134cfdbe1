"""XSalsa20: Salsa20 with a nonce of 24 bytes, so that nonces may be drawn by chance.

The stream itself comes from a library; what the longer nonce adds, one hash for each connection, stands here.
"""

from __future__ import annotations

import struct
from typing import Final

from Crypto.Cipher import Salsa20
from Crypto.Cipher.Salsa20 import Salsa20Cipher

NONCE_BYTES: Final = 24

_SIGMA: Final = struct.unpack("<4I", b"expand 32-byte k")
_MASK: Final = 0xFFFFFFFF
_ROTATIONS: Final = (7, 9, 13, 18)
_COLUMNS: Final = tuple(tuple((5 * at + 4 * step) % 16 for step in range(4)) for at in range(4))
_ROWS: Final = tuple(tuple(4 * at + (at + step) % 4 for step in range(4)) for at in range(4))


def xsalsa20(key: bytes, nonce: bytes) -> Salsa20Cipher:
    """A cipher that keeps its place between calls; encrypting and decrypting are the same.

    :param key: 32 bytes. :param nonce: 24 bytes.
    """
    return Salsa20.new(hsalsa20(key, nonce[:16]), nonce[16:])


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """The key for the last 8 bytes of a nonce, out of the key and the first 16."""
    words, salt = struct.unpack("<8I", key), struct.unpack("<4I", nonce)
    state = [
        *(_SIGMA[0], *words[:4]),
        *(_SIGMA[1], *salt),
        *(_SIGMA[2], *words[4:]),
        _SIGMA[3],
    ]
    for _ in range(10):
        for quarter in _COLUMNS + _ROWS:
            _mix(state, quarter)
    return struct.pack("<8I", *(state[at] for at in (0, 5, 10, 15, 6, 7, 8, 9)))


def _mix(state: list[int], quarter: tuple[int, ...]) -> None:
    for step, rotation in enumerate(_ROTATIONS):
        total = (state[quarter[step]] + state[quarter[step - 1]]) & _MASK
        state[quarter[(step + 1) % 4]] ^= (total << rotation | total >> (32 - rotation)) & _MASK
