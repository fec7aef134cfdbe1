"""Names of a private network: A, AAAA, SRV and PTR, answered on the node of whoever asks (``spec/network.md`` 7.5).

Names are compared without case and trailing dot, with and without ``.internal``. A name that is there but has no record
of the type asked for gets an empty answer, not NXDOMAIN: C libraries that ask for AAAA and A at once would take
NXDOMAIN for both. Names elsewhere are forwarded where the node is set up so; else they are REFUSED, so that the
resolver asks its next server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from dms.subnet.addresses import to_ipv4, to_ipv6
from dms.subnet.errors import InvalidIP, InvalidName

PORT = 53
TTL_S = 5
DOMAIN = "internal"
MAX_QUERY_BYTES = 4096
MAX_ANSWER_BYTES = 1232
"""What passes every path unfragmented (DNS flag day 2020), whatever the asker says that it takes."""
MIN_ANSWER_BYTES = 512
MAX_STREAM_BYTES = 65535
MAX_RECORDS = 65536
MAX_NAME_CHARS = 253 - len(DOMAIN) - 2

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_SERVICE = re.compile(r"(?:_([0-9]{1,5})\.)?_(tcp|udp)\.(.+)")


class Outcome(Enum):
    """What became of a query; the counters have these names."""

    ANSWERED = "answered"
    UNKNOWN = "unknown"
    """No such name here."""
    REFUSED = "refused"
    """A name outside, and nobody to ask."""
    FORWARD = "forward"
    """A name outside: ask the upstream server and hand its answer on."""
    MALFORMED = "malformed"
    """Not a query: there is no answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome, and the bytes to send back where there are any."""

    outcome: Outcome
    data: bytes = b""


def clean_name(name: str) -> str:
    """A name as it is compared.

    :raises InvalidName: DNS cannot carry it.
    """
    text = name.lower().removesuffix(".").removesuffix(f".{DOMAIN}")
    if not text or len(text) > MAX_NAME_CHARS or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise InvalidName(f"invalid name {name[:64]!r}")
    return text


class Zone:
    """The names of one network."""

    def __init__(self, network: IPv4Network, prefix: IPv6Network, *, forwards: bool = False) -> None:
        self._network, self._prefix = network, prefix
        self.forwards = forwards
        """Whether names outside are asked for elsewhere."""
        self._addresses: dict[str, IPv4Address] = {}
        self._names: dict[IPv4Address, dict[str, None]] = {}
        self._ports: dict[str, set[tuple[str, int]]] = {}
        self.by_stream: frozenset[IPv4Address] = frozenset()
        """Reached at their IPv4 addresses only."""

    def add(self, records: Mapping[str, str]) -> None:
        """Add or replace names; none, if one is wrong.

        :raises InvalidName: DNS cannot carry one of them, or there are too many.
        :raises InvalidIP: an address is none.
        """
        cleaned = {clean_name(name): _address(ip) for name, ip in records.items()}
        if len(self._addresses.keys() | cleaned.keys()) > MAX_RECORDS:
            raise InvalidName(f"more than {MAX_RECORDS} names")
        for name, ip in cleaned.items():
            self._forget(name)
            self._addresses[name] = ip
            self._names.setdefault(ip, {})[name] = None

    def remove(self, names: list[str] | tuple[str, ...]) -> None:
        """Remove names, with their ports; unknown ones are ignored.

        :raises InvalidName: DNS cannot carry one of them.
        """
        for name in [clean_name(each) for each in names]:
            self._forget(name)
            self._ports.pop(name, None)

    def set_ports(self, ports: Mapping[str, Iterable[tuple[str, int]]]) -> None:
        """The ports (protocol, number) at which names serve, all of them: ``_<port>._tcp.<name>`` and ``_tcp.<name>`` lead
        there.

        :raises InvalidName: DNS cannot carry one.
        """
        self._ports = {
            clean_name(name): {(proto.lower(), port) for proto, port in each} for name, each in ports.items()
        }

    def lookup(self, name: str) -> IPv4Address | None:
        """The address of a name."""
        try:
            return self._addresses.get(clean_name(name))
        except InvalidName:
            return None

    def records(self) -> dict[str, str]:
        """All names and their addresses."""
        return {name: str(ip) for name, ip in self._addresses.items()}

    def answer(self, query: bytes, *, is_stream: bool = False) -> Reply:
        """What to answer to a query; never raises. ``is_stream``: it came by TCP, where answers of any size fit."""
        if len(query) > MAX_QUERY_BYTES:
            return Reply(Outcome.MALFORMED)
        try:
            asked = dns.message.from_wire(query, ignore_trailing=False)
        except (dns.exception.DNSException, ValueError, IndexError):
            return Reply(Outcome.MALFORMED)
        if asked.flags & dns.flags.QR:
            return Reply(Outcome.MALFORMED)
        reply = dns.message.make_response(asked, recursion_available=self.forwards, our_payload=MAX_ANSWER_BYTES)
        if asked.opcode() != dns.opcode.QUERY or len(asked.question) != 1:
            reply.set_rcode(dns.rcode.NOTIMP if asked.opcode() != dns.opcode.QUERY else dns.rcode.FORMERR)
            return Reply(Outcome.REFUSED, _written(asked, reply, is_stream=is_stream))
        question = asked.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        found = self._find(name, question) if question.rdclass in (dns.rdataclass.IN, dns.rdataclass.ANY) else None
        if found is None and not self._is_ours(name):
            if self.forwards:
                return Reply(Outcome.FORWARD)
            reply.set_rcode(dns.rcode.REFUSED)
            return Reply(Outcome.REFUSED, _written(asked, reply, is_stream=is_stream))
        reply.flags |= dns.flags.AA
        if found is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return Reply(Outcome.UNKNOWN, _written(asked, reply, is_stream=is_stream))
        reply.answer.extend(found)
        return Reply(Outcome.ANSWERED, _written(asked, reply, is_stream=is_stream))

    def _find(self, name: str, question: dns.rrset.RRset) -> list[dns.rrset.RRset] | None:
        """The records of a name that are of the type asked for; nothing if there is no such name."""
        try:
            plain = clean_name(name)
        except InvalidName:
            return None
        kind = question.rdtype
        if plain in self._addresses:
            return self._records(question.name, kind, self._addresses[plain])
        if plain.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._reverse(question.name, kind)
        service = _SERVICE.fullmatch(plain)
        if service is None or service[3] not in self._addresses:
            return None
        wanted = int(service[1]) if service[1] else None
        ports = sorted(p for proto, p in self._ports.get(service[3], ()) if proto == service[2] and wanted in (None, p))
        if not ports:
            return None
        target = f"{service[3]}.{DOMAIN}."
        return _rrset(question.name, kind, dns.rdatatype.SRV, [f"0 0 {port} {target}" for port in ports])

    def _records(
        self, owner: dns.name.Name, kind: dns.rdatatype.RdataType, address: IPv4Address
    ) -> list[dns.rrset.RRset]:
        found = _rrset(owner, kind, dns.rdatatype.A, [str(address)])
        if address in self._network and address not in self.by_stream:
            found += _rrset(owner, kind, dns.rdatatype.AAAA, [str(to_ipv6(self._prefix, address))])
        return found

    def _reverse(self, owner: dns.name.Name, kind: dns.rdatatype.RdataType) -> list[dns.rrset.RRset] | None:
        try:
            text = dns.reversename.to_address(owner)
            address = IPv4Address(text) if "." in text else to_ipv4(self._prefix, IPv6Address(text))
        except (dns.exception.DNSException, ValueError):
            return None
        names = self._names.get(address) if address is not None else None
        if not names:
            return None
        return _rrset(owner, kind, dns.rdatatype.PTR, [f"{name}.{DOMAIN}." for name in names])

    def _is_ours(self, name: str) -> bool:
        """Whether a name that is not there could only have been here."""
        if "." not in name or name.endswith(f".{DOMAIN}"):
            return True
        try:
            text = dns.reversename.to_address(dns.name.from_text(name + "."))
            if "." in text:
                return IPv4Address(text) in self._network
            return IPv6Address(text) in self._prefix
        except (dns.exception.DNSException, ValueError):
            return False

    def _forget(self, name: str) -> None:
        before = self._addresses.pop(name, None)
        if before is None:
            return
        del self._names[before][name]
        if not self._names[before]:
            del self._names[before]


def limit_of(asked: dns.message.Message) -> int:
    """How many bytes an asker takes by UDP."""
    return min(max(asked.payload, MIN_ANSWER_BYTES), MAX_ANSWER_BYTES) if asked.edns >= 0 else MIN_ANSWER_BYTES


def _written(asked: dns.message.Message, reply: dns.message.Message, *, is_stream: bool) -> bytes:
    """In no more bytes than the asker takes; what does not fit is left out, and TC says so."""
    limit = MAX_STREAM_BYTES if is_stream else limit_of(asked)
    try:
        return reply.to_wire(max_size=limit)
    except dns.exception.TooBig:
        reply.answer.clear()
        reply.flags |= dns.flags.TC
        return reply.to_wire(max_size=limit)


def _rrset(
    owner: dns.name.Name, asked: dns.rdatatype.RdataType, kind: dns.rdatatype.RdataType, texts: list[str]
) -> list[dns.rrset.RRset]:
    if asked not in (kind, dns.rdatatype.ANY):
        return []
    return [dns.rrset.from_text_list(owner, TTL_S, dns.rdataclass.IN, kind, texts)]


def _address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise InvalidIP(f"invalid IP address {text[:64]}") from None
