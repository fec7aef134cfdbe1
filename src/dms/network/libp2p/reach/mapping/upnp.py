"""UPnP Internet Gateway Devices: found by a multicast (SSDP), described in XML, told by SOAP.

Everything comes from a stranger on the local network. A description is fetched from whom it was announced by, and from
nobody else; documents are bounded, have no entities, and name no other host; redirects are not followed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import trio

from dms.network.libp2p.reach.mapping.gateway import LEASE_S, Mapped, NotMapped

MULTICAST = ("239.255.255.250", 1900)
SEARCH_S = 2.0
ASK_S = 5.0
MAX_ANSWERS = 16
MAX_DATAGRAM_BYTES = 2048
MAX_DOCUMENT_BYTES = 1 << 16
DESCRIPTION = "nunet"
DEVICES = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
SERVICES = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
CONFLICT, ONLY_PERMANENT = 718, 725
OTHER_PORTS = 3
"""Outer ports that are tried while the same one is somebody else's."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where a router takes orders, and for which service."""

    control: str
    type: str


class Refused(NotMapped):
    """The router refuses."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"the router refuses: {text or 'no reason'} ({number})")
        self.number = number


class Upnp:
    """Asks the routers of the local network.

    :param own: our address there.
    :param search: where they are looked for; another place in tests.
    """

    name = "upnp"

    def __init__(self, own: IPv4Address, *, search: tuple[str, int] = MULTICAST) -> None:
        self._own = own
        self._search = search
        self._service: Service | None = None
        self._external: dict[int, int] = {}

    async def map(self, port: int) -> Mapped:
        """Have a TCP port forwarded, from the same port outside if that is free.

        :raises NotMapped: no router, or it refuses.
        """
        try:
            return await self._map(self._service or await self._find(), port)
        except NotMapped:
            self._service = None  # look again next time: routers are replaced
            raise

    async def unmap(self, port: int) -> None:
        """Take it back.

        :raises NotMapped: the router did not say that it did.
        """
        external = self._external.pop(port, None)
        if self._service is not None and external is not None:
            await self._order(self._service, "DeletePortMapping", _which(external))

    async def _map(self, service: Service, port: int) -> Mapped:
        told = await self._order(service, "GetExternalIPAddress", ())
        try:
            external_ip = IPv4Address(told.get("NewExternalIPAddress", "").strip())
        except AddressValueError:
            raise NotMapped("the router does not know its outer address") from None
        wanted = self._external.get(port, port)
        for external in (wanted, *(1024 + (port + 7919 * n) % 64511 for n in range(1, OTHER_PORTS + 1))):
            for lease_s in (LEASE_S, 0):
                try:
                    await self._order(service, "AddPortMapping", self._terms(external, port, lease_s))
                except Refused as error:
                    if error.number == ONLY_PERMANENT and lease_s:
                        continue
                    if error.number == CONFLICT:
                        break
                    raise
                self._service = service
                self._external[port] = external
                return Mapped(external_ip, external, lease_s)
        raise NotMapped("the router has given the port to somebody else")

    def _terms(self, external: int, internal: int, lease_s: int) -> tuple[tuple[str, str], ...]:
        return (
            *_which(external),
            ("NewInternalPort", str(internal)),
            ("NewInternalClient", str(self._own)),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", DESCRIPTION),
            ("NewLeaseDuration", str(lease_s)),
        )

    # finding ---------------------------------------------------------------------------------------------------------

    async def _find(self) -> Service:
        seen: set[str] = set()
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            try:
                sock.setsockopt(trio.socket.IPPROTO_IP, trio.socket.IP_MULTICAST_TTL, 2)
                await sock.bind((str(self._own), 0))
                for device in DEVICES:
                    await sock.sendto(encode_search(device), self._search)
            except OSError as error:
                raise NotMapped(f"no router that speaks UPnP: {error.strerror or error}") from error
            with trio.move_on_after(SEARCH_S):
                while len(seen) < MAX_ANSWERS:
                    answer, sender = await sock.recvfrom(MAX_DATAGRAM_BYTES)
                    location = decode_location(answer, sender[0])
                    if location is None or location in seen:
                        continue
                    seen.add(location)
                    with suppress(NotMapped):
                        return decode_service(await self._fetch(location), location)
        raise NotMapped("no router that speaks UPnP answers")

    # asking ----------------------------------------------------------------------------------------------------------

    async def _fetch(self, url: str) -> bytes:
        status, document = await _http("GET", url, b"", {})
        if status != 200:
            raise NotMapped(f"the router answers with status {status}")
        return document

    async def _order(self, service: Service, action: str, terms: tuple[tuple[str, str], ...]) -> dict[str, str]:
        headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{service.type}#{action}"'}
        status, document = await _http("POST", service.control, encode_order(service, action, terms), headers)
        told = decode_order(document)
        if status == 200:
            return told
        number = told.get("errorCode", "").strip()
        raise Refused(
            int(number) if re.fullmatch(r"\d{1,4}", number) else status, told.get("errorDescription", "")[:80]
        )


def encode_search(device: str) -> bytes:
    """Asks who is such a device."""
    host, port = MULTICAST
    lines = ("M-SEARCH * HTTP/1.1", f"HOST: {host}:{port}", 'MAN: "ssdp:discover"', "MX: 1", f"ST: {device}", "", "")
    return "\r\n".join(lines).encode()


def decode_location(answer: bytes, sender: str) -> str | None:
    """Where a device describes itself; nothing unless it is the sender's own machine, over HTTP, by address."""
    lines = answer.decode("latin-1").split("\r\n")
    if not re.match(r"HTTP/1\.[01] 200\b", lines[0]):
        return None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return _own_url(headers.get("location", ""), sender)


def decode_service(document: bytes, location: str) -> Service:
    """The best service for our purpose in the description of a device.

    :raises NotMapped: there is none, or it is at another machine.
    """
    found: dict[str, str] = {}
    for service in _parse(document).iter():
        if _tag(service) == "service":
            told = {_tag(child): (child.text or "").strip() for child in service}
            found.setdefault(told.get("serviceType", ""), told.get("controlURL", ""))
    sender = urlsplit(location).hostname or ""
    for kind in SERVICES:
        if kind in found:
            control = _own_url(urljoin(location, found[kind]), sender)
            if control is not None:
                return Service(control, kind)
    raise NotMapped("the device is no router that forwards ports")


def encode_order(service: Service, action: str, terms: tuple[tuple[str, str], ...]) -> bytes:
    """An order in SOAP."""
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in terms)
    return (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.type}">{inner}</u:{action}></s:Body></s:Envelope>'
    ).encode()


def decode_order(document: bytes) -> dict[str, str]:
    """Every value that an answer names; empty for one that cannot be read."""
    try:
        return {_tag(one): one.text or "" for one in _parse(document).iter() if len(one) == 0}
    except NotMapped:
        return {}


def _which(external: int) -> tuple[tuple[str, str], ...]:
    return (("NewRemoteHost", ""), ("NewExternalPort", str(external)), ("NewProtocol", "TCP"))


def _parse(document: bytes) -> ElementTree.Element:
    """:raises NotMapped: too long, not XML, or it declares entities."""
    if len(document) > MAX_DOCUMENT_BYTES or b"<!" in document:
        raise NotMapped("the router describes itself in a way that is not read")
    try:
        return ElementTree.fromstring(document)  # noqa: S314  bounded, and without declarations nothing can be expanded
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise NotMapped("the router describes itself in no XML") from error


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _own_url(text: str, sender: str) -> str | None:
    """The address, if it is one of that very machine, by its IP address, and printable."""
    try:
        parts = urlsplit(text)
        if parts.scheme != "http" or parts.hostname != sender or parts.username is not None or not parts.port:
            return None
        IPv4Address(sender)
    except ValueError:
        return None
    return text if len(text) <= 300 and text.isascii() and text.isprintable() and " " not in text else None


async def _http(method: str, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """One exchange on a connection of its own; status and document.

    :raises NotMapped: no answer in time, none in HTTP, or one that is too long.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    answer = bytearray()
    try:
        with trio.fail_after(ASK_S):
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all("\r\n".join((*lines, "", "")).encode("ascii") + body)
                async for piece in stream:
                    answer += piece
                    if len(answer) > MAX_DOCUMENT_BYTES:
                        raise NotMapped("the router says too much")
    except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise NotMapped(f"the router does not answer over HTTP: {str(error) or type(error).__name__}") from error
    return decode_answer(bytes(answer))


def decode_answer(answer: bytes) -> tuple[int, bytes]:
    """Status and document of an answer in HTTP/1, after which the connection ended.

    :raises NotMapped: it is none.
    """
    head, _, document = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if found is None:
        raise NotMapped("the router does not speak HTTP")
    if re.search(rb"(?i)\r\ntransfer-encoding:\s*chunked", head):
        document = _join_chunks(document)
    return int(found[1]), document


def _join_chunks(document: bytes) -> bytes:
    joined, rest = b"", document
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not re.fullmatch(rb"[0-9a-fA-F]{1,6}", size.partition(b";")[0].strip()):
            raise NotMapped("the router does not speak HTTP")
        length = int(size.partition(b";")[0], 16)
        if not length:
            return joined
        joined, rest = joined + rest[:length], rest[length + 2 :]
