"""UPnP, with a router that is a pair of sockets on this machine."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.libp2p.reach.mapping import upnp
from dms.network.libp2p.reach.mapping.gateway import LEASE_S, Mapped, NotMapped
from dms.network.libp2p.reach.mapping.upnp import (
    CONFLICT,
    MAX_DOCUMENT_BYTES,
    ONLY_PERMANENT,
    Upnp,
    decode_answer,
    decode_location,
    decode_order,
    decode_service,
)

LOOPBACK = IPv4Address("127.0.0.1")
OUTSIDE = "5.6.7.8"
KIND = "urn:schemas-upnp-org:service:WANIPConnection:1"
ROOT = (
    '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList><service>'
    f"<serviceType>{KIND}</serviceType><controlURL>/control</controlURL>"
    "</service></serviceList></device></root>"
)

Document = tuple[int, bytes]
Handle = Callable[[str, bytes], Document]
"""What the router answers to an action and its body."""


def soap(**values: str) -> bytes:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    return f'<s:Envelope xmlns:s="x"><s:Body><u:R xmlns:u="y">{inner}</u:R></s:Body></s:Envelope>'.encode()


def fault(number: int) -> Document:
    return 500, soap(errorCode=str(number), errorDescription="no")


class Router:
    """Answers a search and serves its description and control."""

    def __init__(self, handle: Handle, root: bytes = ROOT.encode()) -> None:
        self.orders: list[tuple[str, dict[str, str]]] = []
        self.root = root
        self._handle = handle

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Upnp]:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        location = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/root.xml"
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", 0))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve, listeners)
                nursery.start_soon(self._announce, sock, location)
                yield Upnp(LOOPBACK, search=sock.getsockname())
                nursery.cancel_scope.cancel()

    async def _announce(self, sock: trio.socket.SocketType, location: str) -> None:
        while True:
            question, sender = await sock.recvfrom(2000)
            assert b"M-SEARCH" in question
            for told in ("http://10.0.0.1:80/", "file:///etc/passwd", location):
                await sock.sendto(f"HTTP/1.1 200 OK\r\nLOCATION: {told}\r\n\r\n".encode(), sender)

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(4096)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += await stream.receive_some(4096)
        status, document = 200, self.root
        if head.startswith(b"POST"):
            found = re.search(rb'(?i)soapaction: "[^#]*#(\w+)"', head)
            assert found is not None
            action = found[1].decode()
            self.orders.append((action, decode_order(body)))
            status, document = self._handle(action, body)
        reply = f"HTTP/1.1 {status} X\r\nContent-Length: {len(document)}\r\nConnection: close\r\n\r\n".encode()
        try:
            await stream.send_all(reply + document)
        except trio.BrokenResourceError:
            return


def willing(action: str, _body: bytes) -> Document:
    return 200, soap(NewExternalIPAddress=OUTSIDE) if action == "GetExternalIPAddress" else soap()


async def test_a_willing_router_forwards_and_forgets() -> None:
    router = Router(willing)
    async with router.serving() as client:
        assert await client.map(9000) == Mapped(IPv4Address(OUTSIDE), 9000, LEASE_S)
        await client.unmap(9000)
    (_, (_, added), (last, removed)) = router.orders
    assert added["NewInternalClient"] == "127.0.0.1"
    assert (added["NewExternalPort"], added["NewInternalPort"], added["NewProtocol"]) == ("9000", "9000", "TCP")
    assert (last, removed["NewExternalPort"]) == ("DeletePortMapping", "9000")


async def test_a_port_that_is_somebody_elses_is_replaced_by_another_and_that_one_is_renewed() -> None:
    def busy(action: str, body: bytes) -> Document:
        return fault(CONFLICT) if b"<NewExternalPort>9000<" in body else willing(action, body)

    router = Router(busy)
    async with router.serving() as client:
        first = await client.map(9000)
        assert first.external_port != 9000
        assert await client.map(9000) == first


async def test_a_router_that_knows_no_leases_gets_none() -> None:
    def old(action: str, body: bytes) -> Document:
        return fault(ONLY_PERMANENT) if f"<NewLeaseDuration>{LEASE_S}<".encode() in body else willing(action, body)

    async with Router(old).serving() as client:
        assert (await client.map(9000)).lease_s == 0


async def test_a_router_that_refuses_says_why() -> None:
    async with Router(lambda action, body: fault(606)).serving() as client:
        with pytest.raises(NotMapped, match="606"):
            await client.map(9000)


@pytest.mark.parametrize(
    "root",
    [
        b"",
        b"nonsense",
        b"<root/>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><root>&a;</root>',
        b"<root>" + b"x" * MAX_DOCUMENT_BYTES + b"</root>",
        ROOT.replace("/control", "http://10.0.0.1:80/control").encode(),
        ROOT.replace(KIND, "urn:something:else").encode(),
    ],
    ids=["empty", "no XML", "no service", "entities", "too long", "elsewhere", "another service"],
)
async def test_a_description_that_cannot_be_trusted_is_no_router(root: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "SEARCH_S", 0.3)
    router = Router(willing, root)
    async with router.serving() as client:
        with pytest.raises(NotMapped):
            await client.map(9000)
    assert router.orders == []


@pytest.mark.parametrize("told", ["", "5.6.7", "::1", "<x/>"])
async def test_an_outer_address_that_is_none_is_refused(told: str) -> None:
    async with Router(lambda action, body: (200, soap(NewExternalIPAddress=told))).serving() as client:
        with pytest.raises(NotMapped, match="outer address"):
            await client.map(9000)


async def test_where_nobody_answers_there_is_no_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp, "SEARCH_S", 0.05)
    with pytest.raises(NotMapped):
        await Upnp(LOOPBACK, search=("127.0.0.1", 1)).map(9000)


@pytest.mark.parametrize(
    "location",
    [
        *(
            "http://10.0.0.1:80/x",
            "https://127.0.0.1:80/x",
            "http://127.0.0.1/x",
            "http://u@127.0.0.1:80/",
            "ftp://127.0.0.1:1/",
        ),
        *(
            "http://localhost:80/",
            "http://127.0.0.1:80/ x",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:80/" + "x" * 400,
        ),
    ],
)
def test_only_the_sender_itself_is_asked_for_its_description(location: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\nLocation: {location}\r\n\r\n".encode()
    assert decode_location(answer, "127.0.0.1") is None


def test_an_answer_in_pieces_is_put_together() -> None:
    answer = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<a/>\r\n1;x=y\r\n!\r\n0\r\n\r\n"
    assert decode_answer(answer) == (500, b"<a/>!")


@given(st.binary(max_size=300))
def test_garbage_is_no_router(data: bytes) -> None:
    decode_location(data, "127.0.0.1")
    decode_location(b"HTTP/1.1 200 OK\r\nLOCATION: " + data, "127.0.0.1")
    decode_order(data)
    for answer in (data, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data):
        with suppress(NotMapped):
            decode_answer(answer)
    with pytest.raises(NotMapped):
        decode_service(data, "http://127.0.0.1:80/")
