"""What a private network needs of the kernel, and where it comes from; the twin is :mod:`dms.testing.subnet`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from pathlib import Path
from typing import Protocol

import trio

from dms.subnet.diverting import LOOPBACK, Diverted, DivertedSocket
from dms.subnet.firewall import BothAddresses, Firewall, Rules
from dms.subnet.guests import HOST
from dms.subnet.names_here import offer_names
from dms.subnet.namespaces import run_inside
from dms.subnet.netlink import Netlink
from dms.subnet.plane import Device
from dms.subnet.tun import TunDevice, missing_for_tun, open_tun

Interfaces = Sequence[IPv4Interface | IPv6Interface]


class OpenDevice(Device, Protocol):
    """A device that is ours to end."""

    @property
    def name(self) -> str:
        """As the kernel knows it."""
        ...

    def add_addresses(self, addresses: Interfaces) -> None:
        """Give it more addresses."""
        ...

    def close(self) -> None:
        """Remove it."""
        ...


class Kernel(Protocol):
    """Devices and the firewall of this machine."""

    def missing(self) -> str:
        """Why there can be no private network here; empty when there can."""
        ...

    async def networks_in_use(self) -> tuple[IPv4Network, ...]:
        """Which networks this machine is in, so that none is chosen that hides them."""
        ...

    async def open_device(
        self, name: str, addresses: Interfaces, *, mtu: int, alias: str, namespace: Path | None, guest: str = ""
    ) -> OpenDevice:
        """Make a device, in a namespace or on this machine itself. With ``guest`` the addresses belong to who is behind that
        device of the namespace.

        :raises KernelRefused: the kernel does not.
        :raises NamespaceGone: there is no such namespace.
        """
        ...

    async def set_rules(self, rules: Rules) -> None:
        """Make the firewall so for one network.

        :raises FirewallRefused: it is not to be had.
        """
        ...

    async def remove_rules(self, subnet_id: str = "") -> None:
        """Remove what is there of a network; without one, whatever an earlier process of ours left.

        :raises FirewallRefused: it is not to be had.
        """
        ...

    async def redirect(
        self, namespace: Path, device: str, ports: Iterable[tuple[str, int, int]], own: BothAddresses
    ) -> None:
        """Let public ports (protocol, public, private) of a member inside a namespace, or of a guest in it, lead to its private
        ones.

        :raises FirewallRefused: it is not to be had.
        """
        ...

    async def offer_names(self, device: str, server: IPv4Address) -> None:
        """Have this machine ask a server behind a device for the names of private networks, where that can be done without
        changing anything else; it is so no more when the device is gone."""
        ...

    async def listen(self, namespace: Path | None, guest: str = "") -> Diverted:
        """Where connections come out that are diverted inside a namespace, on their way from the guest behind a device, or on
        this machine itself.

        :raises DMSError: the namespace is gone, or we may not enter it.
        """
        ...

    async def divert(self, namespace: Path, addresses: Iterable[IPv4Address], port: int, guest: str = "") -> None:
        """Lead what programs inside a namespace send by TCP to these addresses, or the guest behind a device, to the port of
        :meth:`listen`, and nothing else.

        :raises FirewallRefused: it is not to be had.
        """
        ...


class LinuxKernel:
    """The real one. ``owner`` tells several nodes on one machine apart; ``namespace`` is where the machine's own devices
    and rules are, in tests."""

    def __init__(self, owner: str, *, namespace: Path | None = None) -> None:
        self._namespace = namespace
        self._firewall = Firewall(owner, namespace=namespace)

    def missing(self) -> str:
        """Why there can be no private network here."""
        return missing_for_tun()

    async def networks_in_use(self) -> tuple[IPv4Network, ...]:
        """Of all addresses of this machine."""

        def read() -> tuple[IPv4Network, ...]:
            with Netlink() as netlink:
                return tuple(address.network for address in netlink.addresses())

        return await trio.to_thread.run_sync(run_inside, self._namespace, read)

    async def open_device(
        self, name: str, addresses: Interfaces, *, mtu: int, alias: str, namespace: Path | None, guest: str = ""
    ) -> TunDevice:
        """A TUN device."""
        where = namespace or self._namespace
        opening = partial(open_tun, name, addresses, mtu=mtu, alias=alias, namespace=where, guest=guest)
        return await trio.to_thread.run_sync(opening)

    async def set_rules(self, rules: Rules) -> None:
        """With iptables."""
        await trio.to_thread.run_sync(self._firewall.apply, rules)

    async def remove_rules(self, subnet_id: str = "") -> None:
        """With iptables."""
        await trio.to_thread.run_sync(self._firewall.remove, subnet_id)

    async def redirect(
        self, namespace: Path, device: str, ports: Iterable[tuple[str, int, int]], own: BothAddresses
    ) -> None:
        """With iptables."""
        await trio.to_thread.run_sync(self._firewall.redirect, namespace, device, tuple(ports), own)

    async def offer_names(self, device: str, server: IPv4Address) -> None:
        """With systemd-resolved."""
        if self._namespace is None:
            await trio.to_thread.run_sync(offer_names, device, server)

    async def listen(self, namespace: Path | None, guest: str = "") -> DivertedSocket:
        """A socket on the loopback of the namespace, or on the device of the guest."""
        return await DivertedSocket.open(namespace or self._namespace, HOST if guest else LOOPBACK)

    async def divert(self, namespace: Path, addresses: Iterable[IPv4Address], port: int, guest: str = "") -> None:
        """With iptables."""
        await trio.to_thread.run_sync(self._firewall.divert, namespace, tuple(addresses), port, guest)
