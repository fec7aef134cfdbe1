"""What the runner of a microVM reads of the guest's network: questions for its address."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from dms.executor.dhcp import Lease, answer

LEASE = Lease("10.1.2.5", "255.255.255.0", "10.1.2.1", "169.254.0.1", 1420)
_DISCOVER, _REQUEST, _INFORM = 1, 3, 8
_KINDS = {2: "offer", 5: "ack", 6: "refusal"}


def questions() -> Sequence[bytes]:
    """As guests ask them."""
    wanted, server = b"\x32\x04" + LEASE.address, b"\x36\x04" + LEASE.gateway
    return [
        _question(_DISCOVER, b"\x37\x04\x01\x03\x06\x1a"),
        _question(_REQUEST, wanted + server),
        _question(_REQUEST, b"\x32\x04\xc0\xa8\x00\x09"),
        _question(_INFORM, b"\x3d\x07\x01" + bytes(6)),
    ]


def check_question(data: bytes) -> str:
    """Whatever is asked, the answer is one that a client can read and gives no address but the guest's."""
    told = answer(data, LEASE)
    if not told:
        return "silence"
    assert 300 <= len(told) <= 576
    assert (told[0], told[4:8], told[28:44]) == (2, data[4:8], data[28:44])
    assert told[16:20] in (bytes(4), LEASE.address)
    assert told[236:243] == b"\x63\x82\x53\x63\x35\x01" + told[242:243]
    return f"{_KINDS[told[242]]} {'given' if any(told[16:20]) else 'nothing'}"


def _question(kind: int, options: bytes) -> bytes:
    head = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0xABCD, 7, 0x8000) + bytes(16) + b"\x52\x54\0\0\0\x01".ljust(208, b"\0")
    return head + b"\x63\x82\x53\x63\x35\x01" + bytes([kind]) + options + b"\xff"
