"""The kernel's part of private networks in memory: devices that are lists, and a firewall that only remembers."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import trio

from dms.subnet.errors import DeviceGone, KernelRefused
from dms.subnet.firewall import BothAddresses, Rules
from dms.subnet.kernel import Interfaces
from dms.subnet.pipes import Pipe
from dms.subnet.segments import VNET_BYTES

CAPACITY = 1000


class MemoryDevice:
    """What was written to it, and what will be read from it: packets without headers of offloads."""

    def __init__(
        self, name: str = "memory", addresses: Interfaces = (), namespace: Path | None = None, guest: str = ""
    ) -> None:
        self.name, self.addresses, self.namespace, self.guest = name, list(addresses), namespace, guest
        self.written: list[bytes] = []
        self.is_full = self.is_closed = False
        self._send, self._receive = trio.open_memory_channel[bytes](CAPACITY)

    async def read(self) -> list[bytes]:
        """The next packet.

        :raises DeviceGone: it was closed.
        """
        try:
            return [await self._receive.receive()]
        except trio.EndOfChannel:
            raise DeviceGone from None

    def write(self, offloads: bytes, packet: bytes) -> bool:
        """Keep it."""
        taken = not (self.is_full or self.is_closed)
        if taken:
            self.written.append(packet)
        return taken

    def come(self, packet: bytes) -> None:
        """Whoever is behind the device sends a packet."""
        self.come_raw(bytes(VNET_BYTES) + packet)

    def come_raw(self, raw: bytes) -> None:
        """The same with its header of offloads."""
        self._send.send_nowait(raw)

    def add_addresses(self, addresses: Interfaces) -> None:
        """Remember them."""
        self.addresses += [one for one in addresses if one not in self.addresses]

    def close(self) -> None:
        """It is gone."""
        self.is_closed = True
        self._send.close()


class MemoryKernel:
    """Of one machine. ``lacks`` is why it can make no devices; ``failing`` names the calls that fail from now on."""

    def __init__(self, *, lacks: str = "", in_use: Iterable[str] = ()) -> None:
        self.lacks = lacks
        self.in_use = tuple(IPv4Network(each) for each in in_use)
        self.devices: list[MemoryDevice] = []
        self.rules: dict[str, Rules] = {}
        self.redirected: dict[Path, tuple[tuple[str, int, int], ...]] = {}
        self.redirected_to: dict[Path, BothAddresses] = {}
        self.removals: list[str] = []
        self.offered: dict[str, IPv4Address] = {}
        self.failing: dict[str, Exception] = {}
        self.diverted: dict[Path | None, MemoryDiverted] = {}
        """Where connections come out, by namespace."""

    def missing(self) -> str:
        """Why there can be no private network."""
        return self.lacks

    def open_devices(self) -> list[MemoryDevice]:
        """Those that were not closed."""
        return [device for device in self.devices if not device.is_closed]

    async def networks_in_use(self) -> tuple[IPv4Network, ...]:
        """As given."""
        return self.in_use

    async def open_device(
        self, name: str, addresses: Interfaces, *, mtu: int, alias: str, namespace: Path | None, guest: str = ""
    ) -> MemoryDevice:
        """Another list.

        :raises KernelRefused: there is such a device in the namespace.
        """
        await self._asked("open_device")
        if any(device.name == name and device.namespace == namespace for device in self.open_devices()):
            raise KernelRefused(f"there is a device {name} already")
        self.devices.append(MemoryDevice(name, addresses, namespace, guest))
        return self.devices[-1]

    async def set_rules(self, rules: Rules) -> None:
        """Remember them."""
        await self._asked("set_rules")
        self.rules[rules.subnet_id] = rules

    async def remove_rules(self, subnet_id: str = "") -> None:
        """Forget them."""
        self.removals.append(subnet_id)
        for one in [subnet_id] if subnet_id else list(self.rules):
            self.rules.pop(one, None)
        await self._asked("remove_rules")

    async def redirect(
        self, namespace: Path, device: str, ports: Iterable[tuple[str, int, int]], own: BothAddresses
    ) -> None:
        """Remember it."""
        await self._asked("redirect")
        self.redirected[namespace] = tuple(ports)
        self.redirected_to[namespace] = own

    async def offer_names(self, device: str, server: IPv4Address) -> None:
        """Remember it."""
        await self._asked("offer_names")
        self.offered[device] = server

    async def _asked(self, call: str) -> None:
        await trio.lowlevel.checkpoint()
        if call in self.failing:
            raise self.failing[call]

    async def listen(self, namespace: Path | None, guest: str = "") -> MemoryDiverted:
        """Where a test lets connections come out."""
        await self._asked("listen")
        self.diverted[namespace] = MemoryDiverted(guest)
        return self.diverted[namespace]

    async def divert(self, namespace: Path, addresses: Iterable[IPv4Address], port: int, guest: str = "") -> None:
        """Remember it."""
        await self._asked("divert")
        self.diverted[namespace].addresses = frozenset(addresses)


class MemoryDiverted:
    """Connections that a test opens as a program in a namespace would."""

    port = 1

    def __init__(self, guest: str = "") -> None:
        self.guest, self.addresses = guest, frozenset[IPv4Address]()
        self._send, self._receive = trio.open_memory_channel[tuple[Pipe, IPv4Address, int]](CAPACITY)

    def come(self, pipe: Pipe, address: str, port: int) -> None:
        """A program opens one."""
        self._send.send_nowait((pipe, IPv4Address(address), port))

    async def accept(self) -> tuple[Pipe, IPv4Address, int]:
        """See :class:`dms.subnet.diverting.Diverted`."""
        return await self._receive.receive()

    def close(self) -> None:
        """It takes no more."""
        self._receive.close()
