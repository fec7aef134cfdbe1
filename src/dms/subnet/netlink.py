"""The few requests to the kernel's rtnetlink that a private network needs: addresses, links.

Written here instead of taken from a library: four messages, and the one that exists for Python costs a second of import
and a second event loop. Runs in whatever namespace the calling thread is in; blocks for microseconds.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from types import TracebackType
from typing import Self

from dms.subnet.errors import KernelRefused

_HEAD, _LINK, _ADDRESS, _ATTRIBUTE = (struct.Struct(form) for form in ("=LHHLL", "=BxHiLL", "=BBBBL", "=HH"))
_ROUTE = struct.Struct("=BBBBBBBBL")
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE = 16, 17, 18, 20, 22, 24
_REQUEST, _ACK, _DUMP, _CREATE, _EXCL = 0x1, 0x4, 0x300, 0x400, 0x200
_IFF_UP = 1
_IFLA_NAME, _IFLA_MTU, _IFLA_TXQLEN, _IFLA_ALIAS, _IFLA_FAMILIES = 3, 4, 13, 20, 26
_INET_SETTINGS, _FORWARDING, _PROXY_ARP, _SEND_REDIRECTS = 1, 1, 3, 6
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DESTINATION, _RTA_DEVICE = 1, 4
_MAIN_TABLE, _BY_ADMINISTRATOR, _ON_LINK, _UNICAST = 254, 4, 253, 1
_NO_DAD = 0x02
_READ_BYTES = 1 << 20
_REPLY_S = 5.0


@dataclass(frozen=True, slots=True)
class KernelLink:
    """A network device as the kernel lists it."""

    index: int
    name: str
    alias: str
    mtu: int
    is_up: bool


class Netlink:
    """A socket in the namespace of the thread that made it; a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(_REPLY_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self._socket.close()

    def links(self) -> tuple[KernelLink, ...]:
        """All devices of the namespace."""
        found = []
        for body in self._call(_GETLINK, _DUMP, _LINK.pack(0, 0, 0, 0, 0), "list devices"):
            _, _, index, flags, _ = _LINK.unpack_from(body)
            attributes = dict(_attributes(body, _LINK.size))
            (mtu,) = struct.unpack("=L", attributes.get(_IFLA_MTU, bytes(4)))
            name, alias = (attributes.get(key, b"").rstrip(b"\0").decode() for key in (_IFLA_NAME, _IFLA_ALIAS))
            found.append(KernelLink(index, name, alias, mtu, bool(flags & _IFF_UP)))
        return tuple(found)

    def set_up(self, index: int, *, mtu: int, alias: str, queue_packets: int) -> None:
        """Set what a device is like, and switch it on.

        :raises KernelRefused: the kernel does not.
        """
        body = _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP)
        body += _attribute(_IFLA_MTU, struct.pack("=L", mtu)) + _attribute(_IFLA_ALIAS, alias.encode())
        body += _attribute(_IFLA_TXQLEN, struct.pack("=L", queue_packets))
        self._call(_NEWLINK, 0, body, f"set up device {index}")

    def pass_on(self, index: int, *, answers_for_others: bool) -> None:
        """Let IPv4 packets that come in by a device go out by another; who asks on its link for an address that is reached by
        another device is told this one. As the files below ``/proc/sys`` do, which services may not be able to write to.

        :raises KernelRefused: the kernel does not.
        """
        settings = {_FORWARDING: 1, _PROXY_ARP: int(answers_for_others), _SEND_REDIRECTS: 0}
        values = b"".join(_attribute(kind, struct.pack("=L", value)) for kind, value in settings.items())
        family = _attribute(socket.AF_INET, _attribute(_INET_SETTINGS, values))
        body = _LINK.pack(0, 0, index, 0, 0) + _attribute(_IFLA_FAMILIES, family)
        self._call(_NEWLINK, 0, body, f"pass on packets from device {index}")

    def add_address(self, index: int, address: IPv4Interface | IPv6Interface) -> None:
        """Give a device an address, and with it the way to its network; one that it has is left.

        :raises KernelRefused: the kernel does not.
        """
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        packed = address.ip.packed
        body = _ADDRESS.pack(family, address.network.prefixlen, _NO_DAD if address.version == 6 else 0, 0, index)
        body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        self._call(_NEWADDR, _CREATE | _EXCL, body, f"give {address} to device {index}", ignore=errno.EEXIST)

    def add_route(self, index: int, network: IPv4Network | IPv6Network) -> None:
        """Reach a network directly through a device; a way that is there is left.

        :raises KernelRefused: the kernel does not.
        """
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        kinds = (_MAIN_TABLE, _BY_ADMINISTRATOR, _ON_LINK, _UNICAST)
        body = _ROUTE.pack(family, network.prefixlen, 0, 0, *kinds, 0)
        body += _attribute(_RTA_DESTINATION, network.network_address.packed)
        body += _attribute(_RTA_DEVICE, struct.pack("=i", index))
        self._call(_NEWROUTE, _CREATE | _EXCL, body, f"route {network} to device {index}", ignore=errno.EEXIST)

    def addresses(self) -> tuple[IPv4Interface, ...]:
        """All IPv4 addresses of the namespace, with their networks."""
        found = []
        for body in self._call(_GETADDR, _DUMP, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0), "list addresses"):
            family, bits, _, _, _ = _ADDRESS.unpack_from(body)
            attributes = dict(_attributes(body, _ADDRESS.size))
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
            if family == socket.AF_INET and len(packed) == 4:
                found.append(IPv4Interface((packed, bits)))
        return tuple(found)

    def delete_link(self, index: int) -> None:
        """Remove a device; one that is gone is ignored.

        :raises KernelRefused: the kernel does not.
        """
        self._call(_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0), f"remove device {index}", ignore=errno.ENODEV)

    def _call(self, kind: int, flags: int, body: bytes, what: str, *, ignore: int = 0) -> list[bytes]:
        """Ask, and read until the kernel says that it is done."""
        self._sequence += 1
        own_flags = _REQUEST | flags | (0 if flags & _DUMP == _DUMP else _ACK)
        head = _HEAD.pack(_HEAD.size + len(body), kind, own_flags, self._sequence, 0)
        try:
            self._socket.send(head + body)
            return list(self._replies(ignore))
        except OSError as error:
            raise KernelRefused(f"the kernel does not {what}: {error.strerror or error}") from None

    def _replies(self, ignore: int) -> Iterator[bytes]:
        while True:
            data = self._socket.recv(_READ_BYTES)
            at = 0
            while at + _HEAD.size <= len(data):
                length, kind, _, sequence, _ = _HEAD.unpack_from(data, at)
                body = data[at + _HEAD.size : at + length]
                at += (max(length, _HEAD.size) + 3) & ~3
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    if number and number != ignore:
                        raise OSError(number, os.strerror(number))
                    return
                yield body


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(padding)


def _attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
