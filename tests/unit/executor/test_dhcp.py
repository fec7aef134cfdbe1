"""A guest that asks gets the address that it has; whatever else comes is left unanswered."""

from __future__ import annotations

import random
import struct
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from dms.executor.dhcp import Lease, answer

LEASE = Lease("10.1.2.5", "255.255.255.0", "10.1.2.1", "169.254.0.1", 1420)
MAC = bytes.fromhex("525400000001")
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, INFORM = 1, 2, 3, 4, 5, 6, 8


def packed(text: str) -> bytes:
    return IPv4Address(text).packed


def ask(kind: int, *options: tuple[int, bytes], own: str = "0.0.0.0", op: int = 1) -> bytes:
    head = (
        struct.pack("!BBBBIHH", op, 1, 6, 0, 0xABCD, 7, 0) + packed(own) + bytes(12) + MAC.ljust(16, b"\0") + bytes(192)
    )
    body = b"".join(bytes([number, len(value)]) + value for number, value in ((53, bytes([kind])), *options))
    return head + b"\x63\x82\x53\x63" + b"\0" + body + b"\xff"


def read(reply: bytes) -> tuple[str, dict[int, bytes]]:
    """The address that is given, and the options."""
    assert reply[:3] == b"\x02\x01\x06"
    assert reply[4:8] == b"\0\0\xab\xcd"
    assert reply[28:34] == MAC
    assert len(reply) >= 300
    found, at = {}, 240
    while reply[at] != 255:
        found[reply[at]] = reply[at + 2 : at + 2 + reply[at + 1]]
        at += 2 + reply[at + 1]
    return str(IPv4Address(reply[16:20])), found


def test_who_looks_for_an_address_is_offered_his_own_with_resolver_and_mtu_and_no_way_out() -> None:
    address, options = read(answer(ask(DISCOVER), LEASE))
    assert address == "10.1.2.5"
    assert options == {
        53: bytes([OFFER]),
        54: packed("10.1.2.1"),
        1: packed("255.255.255.0"),
        6: packed("10.1.2.1"),
        15: b"internal",
        26: struct.pack("!H", 1420),
        51: b"\xff\xff\xff\xff",
        121: b"\x20" + packed("169.254.0.1") + bytes(4),
    }


def test_what_was_offered_is_given_also_when_it_is_renewed() -> None:
    for request in (ask(REQUEST, (50, packed("10.1.2.5"))), ask(REQUEST, own="10.1.2.5")):
        address, options = read(answer(request, LEASE))
        assert (address, options[53]) == ("10.1.2.5", bytes([ACK]))
    assert read(answer(ask(REQUEST, (50, packed("10.1.2.5")), (54, packed("10.1.2.1"))), LEASE))[0] == "10.1.2.5"


def test_another_address_is_refused_and_another_server_left_alone() -> None:
    address, options = read(answer(ask(REQUEST, (50, packed("192.168.0.9"))), LEASE))
    assert (address, options) == ("0.0.0.0", {53: bytes([NAK]), 54: packed("10.1.2.1")})
    assert answer(ask(REQUEST, (50, packed("10.1.2.5")), (54, packed("192.168.0.1"))), LEASE) == b""


def test_who_has_an_address_is_told_the_rest() -> None:
    address, options = read(answer(ask(INFORM, own="10.1.2.5"), LEASE))
    assert address == "0.0.0.0"
    assert 51 not in options
    assert options[6] == packed("10.1.2.1")


def test_what_is_no_question_is_not_answered() -> None:
    good = ask(DISCOVER)
    for wrong in (b"", good[:239], ask(DISCOVER, op=2), ask(DECLINE), good[:236] + b"none" + good[240:], good[:240]):
        assert answer(wrong, LEASE) == b""


@settings(max_examples=100)
@given(st.binary(max_size=80), st.integers(0, 2**32))
def test_whatever_comes_it_does_not_raise(tail: bytes, seed: int) -> None:
    answer(ask(DISCOVER)[:240] + tail, LEASE)
    broken = bytearray(ask(REQUEST, (50, packed("10.1.2.5"))))
    broken[random.Random(seed).randrange(len(broken))] ^= 1 + seed % 255
    answer(bytes(broken), LEASE)
