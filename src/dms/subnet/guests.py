"""Members with a kernel of their own: a microVM behind a TAP device in a network namespace.

The address is that of the guest, and not of the namespace, which passes packets on: between the network's device, on which
all others are, and the TAP device, on which it answers for them. Everything is gone with the namespace.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from pathlib import Path

from dms.subnet.errors import KernelRefused
from dms.subnet.netlink import Netlink

HOST, ROUTER6 = IPv4Address("169.254.0.1"), IPv6Address("fe80::1")
"""The namespace on the link between it and a guest. As the first it looks for the guest, and connects to it; the second is the
guest's way to others."""

_OWN = (ip_interface(f"{HOST}/32"), ip_interface(f"{ROUTER6}/64"))
_SYSCTL = Path("/proc/sys/net")
_WANTED = {
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/{guest}/accept_ra": "0",
    "ipv4/neigh/{guest}/proxy_delay": "0",
}
"""Without the first there is no IPv6, without the last an answer takes up to a second; neither can be had in another way."""


def lead_to_guest(index: int, guest: str, addresses: Sequence[IPv4Interface | IPv6Interface]) -> None:
    """In the namespace of the calling thread: have packets for these addresses go to the device ``guest``, and those for the
    rest of their networks to the device with the index.

    :raises KernelRefused: there is no such device, or the namespace cannot pass packets on.
    """
    try:
        guest_index = socket.if_nametoindex(guest)
    except OSError as error:
        raise KernelRefused(f"there is no device {guest}: {error.strerror}") from None
    for name, value in _WANTED.items():
        with suppress(OSError):
            (_SYSCTL / name.format(guest=guest)).write_text(value)
    has_v6 = (_SYSCTL / "ipv6/conf" / guest).exists()
    with Netlink() as netlink:
        netlink.pass_on(guest_index, answers_for_others=True)
        netlink.pass_on(index, answers_for_others=False)
        for own in _OWN:
            if own.version == 4 or has_v6:
                netlink.add_address(guest_index, own)
        for address in addresses:
            if address.version == 4 or has_v6:
                netlink.add_route(guest_index, ip_interface(address.ip).network)
                netlink.add_route(index, address.network)
