"""What a proxy is asked for, in both languages."""

from __future__ import annotations

import base64

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from dms.subnet.errors import BadPacket
from dms.subnet.pipes import TrioPipe
from dms.subnet.socks import Asked, answer, read_request

HELLO = b"\x05\x02\x00\x02"
LOGIN = b"\x01\x05alice\x06secret"
BASIC = b"Proxy-Authorization: Basic " + base64.b64encode(b"alice:secret") + b"\r\n"


def check(user: str, password: str) -> bool:
    return (user, password) == ("alice", "secret")


async def ask(data: bytes) -> tuple[Asked | None, bytes]:
    """What is understood of it, and what is answered before the end."""
    ours, theirs = memory_stream_pair()
    await theirs.send_all(data)
    await theirs.send_eof()
    try:
        asked = await read_request(TrioPipe(ours), check)
    finally:
        await ours.send_eof()
    return asked, b"".join([bytes(piece) async for piece in theirs])


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (b"\x01\x0a\x01\x02\x03", "10.1.2.3"),
        (b"\x03\x03web", "web"),
        (b"\x04" + bytes(15) + b"\x01", "::1"),
    ],
)
async def test_socks_is_understood(address: bytes, host: str) -> None:
    asked, told = await ask(HELLO + LOGIN + b"\x05\x01\x00" + address + b"\x00\x50more")
    assert asked == Asked("alice", host, 80, first=b"more")
    assert told == b"\x05\x02\x01\x00"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x05\x01\x00", b"\x05\xff"),
        (HELLO + b"\x01\x05alice\x05wrong", b"\x05\x02\x01\x01"),
        (HELLO + LOGIN + b"\x05\x02\x00\x01\x0a\x01\x02\x03\x00\x50", b"\x05\x02\x01\x00\x05\x07\x00\x01" + bytes(6)),
        (HELLO + LOGIN + b"\x05\x01\x00\x09", b"\x05\x02\x01\x00\x05\x08\x00\x01" + bytes(6)),
        (HELLO + LOGIN + b"\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x00", b"\x05\x02\x01\x00\x05\x01\x00\x01" + bytes(6)),
    ],
    ids=["no password", "wrong password", "bind", "unknown address", "no port"],
)
async def test_socks_that_may_not_be_is_answered(data: bytes, told: bytes) -> None:
    assert await ask(data) == (None, told)


async def test_a_tunnel_is_understood() -> None:
    asked, told = await ask(b"CONNECT web:443 HTTP/1.1\r\nHost: web\r\n" + BASIC + b"\r\nhello")
    assert asked == Asked("alice", "web", 443, is_http=True, first=b"hello")
    assert told == b""


async def test_a_request_is_passed_on_without_what_is_for_the_proxy() -> None:
    head = b"GET http://web:8080/a?b=c HTTP/1.1\r\nHost: web:8080\r\n" + BASIC
    asked, _ = await ask(head + b"Proxy-Connection: x\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\nbody")
    assert asked is not None
    assert (asked.host, asked.port, asked.is_tunnel) == ("web", 8080, False)
    assert asked.first == (b"GET /a?b=c HTTP/1.1\r\nHost: web:8080\r\nAccept: */*\r\nConnection: close\r\n\r\nbody")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET http://web/ HTTP/1.1\r\n\r\n", b"407"),
        (b"GET http://web/ HTTP/1.1\r\nProxy-Authorization: Basic !!\r\n\r\n", b"407"),
        (b"GET http://web/ HTTP/1.1\r\nProxy-Authorization: Basic eHg=\r\n\r\n", b"407"),
        (b"GET / HTTP/1.1\r\n" + BASIC + b"\r\n", b"400"),
        (b"GET ftp://web/ HTTP/1.1\r\n" + BASIC + b"\r\n", b"400"),
        (b"CONNECT web HTTP/1.1\r\n" + BASIC + b"\r\n", b"400"),
        (b"CONNECT web:99999 HTTP/1.1\r\n" + BASIC + b"\r\n", b"400"),
    ],
)
async def test_http_that_may_not_be_is_answered(data: bytes, status: bytes) -> None:
    asked, told = await ask(data)
    assert asked is None
    assert told.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05",
        HELLO + b"\x02",
        b"\x04\x01",
        b"hello\r\n\r\n",
        b"GET x",
        b"G" * 20_000,
        HELLO + LOGIN + b"\x04\x01\x00\x01",
    ],
)
async def test_what_is_neither_is_refused(data: bytes) -> None:
    with pytest.raises(BadPacket):
        await ask(data)


async def test_each_is_answered_in_its_language() -> None:
    for asked, ok, told in (
        (Asked("a", "h", 1), True, b"\x05\x00\x00\x01" + bytes(6)),
        (Asked("a", "h", 1), False, b"\x05\x04\x00\x01" + bytes(6)),
        (Asked("a", "h", 1, is_http=True), True, b"HTTP/1.1 200 Connection established\r\n\r\n"),
        (Asked("a", "h", 1, is_http=True, is_tunnel=False), True, b""),
    ):
        ours, theirs = memory_stream_pair()
        await answer(TrioPipe(ours), asked, ok=ok)
        await ours.send_eof()
        assert b"".join([bytes(piece) async for piece in theirs]) == told


@given(st.binary(max_size=300))
@settings(max_examples=80)
def test_noise_raises_nothing_else(data: bytes) -> None:
    async def run() -> None:
        try:
            asked, _ = await ask(data)
        except BadPacket:
            return
        assert asked is None

    trio.run(run)
