"""A TUN device with offloads: the packets of whoever is behind it, up to 64 KiB at a time (``spec/network.md`` 7.3).

It is not persistent: when its descriptor is closed, by us or because the process died, the kernel removes it with its
addresses and routes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import trio

from dms.subnet.errors import DeviceGone, KernelRefused
from dms.subnet.guests import lead_to_guest
from dms.subnet.namespaces import run_inside
from dms.subnet.netlink import Netlink
from dms.subnet.packets import MAX_PACKET_BYTES
from dms.subnet.segments import VNET_BYTES

QUEUE_PACKETS = 1000
READS_AT_ONCE, BYTES_AT_ONCE = 64, 256 * 1024
MAX_NAME_BYTES = 15

_TUN = Path("/dev/net/tun")
_SYSCTL_V6 = Path("/proc/sys/net/ipv6/conf")
_SYSCTL_V4 = Path("/proc/sys/net/ipv4/conf")
_SET_INTERFACE, _SET_OFFLOAD, _SET_VNET_SIZE, _SET_VNET_LITTLE = 0x400454CA, 0x400454D0, 0x400454D8, 0x400454DC
_KIND_TUN, _NO_PI, _VNET_HDR, _EXCL = 0x0001, 0x1000, 0x4000, 0x8000
_OFFLOADS = 0x1 | 0x2 | 0x4 | 0x8
"""Checksums, TCP over IPv4 and IPv6, with congestion marks."""


class TunDevice:
    """An open device."""

    def __init__(self, fd: int, name: str, index: int, namespace: Path | None) -> None:
        self._fd, self.name, self.index, self.namespace = fd, name, index, namespace

    async def read(self) -> list[bytes]:
        """What is there, at least one packet.

        :raises DeviceGone: it was closed, or its namespace ended.
        """
        while True:
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except (trio.ClosedResourceError, OSError, ValueError):
                raise DeviceGone(f"the device {self.name} is closed") from None
            batch = self._read_now()
            if batch:
                return batch

    def _read_now(self) -> list[bytes]:
        batch: list[bytes] = []
        left = BYTES_AT_ONCE
        try:
            while left > 0 and len(batch) < READS_AT_ONCE:
                batch.append(os.read(self._fd, MAX_PACKET_BYTES + VNET_BYTES))
                left -= len(batch[-1])
        except BlockingIOError:
            pass
        except OSError as error:
            if not batch:
                raise DeviceGone(f"the device {self.name} is gone: {error.strerror}") from None
        return batch

    def write(self, offloads: bytes, packet: bytes) -> bool:
        """Hand a packet over; whether it was taken."""
        try:
            os.writev(self._fd, (offloads, packet))
        except OSError:  # full, down, or gone; whoever reads learns which
            return False
        return True

    def add_addresses(self, addresses: Sequence[IPv4Interface | IPv6Interface]) -> None:
        """Give it more addresses. Blocks for microseconds.

        :raises KernelRefused: the kernel does not.
        """
        run_inside(self.namespace, lambda: _give(self.name, self.index, addresses))

    def close(self) -> None:
        """Remove it."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with suppress(RuntimeError):  # outside of trio nobody waits for it
            trio.lowlevel.notify_closing(fd)
        os.close(fd)


def open_tun(
    name: str,
    addresses: Sequence[IPv4Interface | IPv6Interface],
    *,
    mtu: int,
    alias: str,
    namespace: Path | None = None,
    guest: str = "",
) -> TunDevice:
    """Make a device in a namespace, with addresses and up. Blocks for milliseconds.

    With ``guest`` the addresses belong to who is behind that device, see :mod:`~dms.subnet.guests`.

    :raises KernelRefused: this user may not, the kernel has no TUN, or there is such a device.
    :raises NamespaceGone: there is no such namespace.
    """
    return run_inside(namespace, lambda: _open(name, addresses, mtu, alias, namespace, guest))


_CAPABILITIES = {12: "CAP_NET_ADMIN", 19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN"}
"""For devices; to see the namespace of a process that is not ours; to enter it. By their bits (capabilities(7))."""


def missing_for_tun() -> str:
    """Why this process can make no devices; empty when it can."""
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"{_TUN} cannot be opened: {error.strerror}"
    os.close(fd)
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    missing = [name for bit, name in _CAPABILITIES.items() if not effective >> bit & 1]
    return f"the process has no {' and no '.join(missing)}" if missing else ""


def _open(
    name: str,
    addresses: Sequence[IPv4Interface | IPv6Interface],
    mtu: int,
    alias: str,
    namespace: Path | None,
    guest: str,
) -> TunDevice:
    if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise KernelRefused(f"{name!r} cannot be the name of a device")
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KernelRefused(f"{_TUN} cannot be opened: {error.strerror}") from None
    try:
        flags = _KIND_TUN | _NO_PI | _VNET_HDR | _EXCL
        fcntl.ioctl(fd, _SET_INTERFACE, struct.pack("16sH22x", name.encode(), flags))
        fcntl.ioctl(fd, _SET_VNET_SIZE, struct.pack("=i", VNET_BYTES))
        fcntl.ioctl(fd, _SET_VNET_LITTLE, struct.pack("=i", 1))
        fcntl.ioctl(fd, _SET_OFFLOAD, _OFFLOADS)
        index = socket.if_nametoindex(name)
        _prepare(name)
        if namespace is not None:
            _switch_on_loopback()
        with Netlink() as netlink:
            netlink.set_up(index, mtu=mtu, alias=alias, queue_packets=QUEUE_PACKETS)
        if guest:
            lead_to_guest(index, guest, addresses)
        else:
            _give(name, index, addresses)
    except OSError as error:
        os.close(fd)
        taken = error.errno == errno.EBUSY
        raise KernelRefused(
            f"there is a device {name} already" if taken else f"no device {name} can be made: {error.strerror}"
        ) from None
    except BaseException:
        os.close(fd)
        raise
    return TunDevice(fd, name, index, namespace)


def _prepare(name: str) -> None:
    """IPv6 even where a container engine switched it off, and none of the kernel's own announcements."""
    for file, value in (("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_ra", "0")):
        with suppress(OSError):
            (_SYSCTL_V6 / name / file).write_text(value)
    with suppress(OSError):  # so that a mapped port answers on the loopback address, too
        (_SYSCTL_V4 / name / "route_localnet").write_text("1")


def _switch_on_loopback() -> None:
    """What a member sends to itself goes there, over IPv6 too; engines switch that off for containers."""
    with suppress(OSError):
        (_SYSCTL_V6 / "lo/disable_ipv6").write_text("0")


def _give(name: str, index: int, addresses: Sequence[IPv4Interface | IPv6Interface]) -> None:
    has_v6 = (_SYSCTL_V6 / name).exists()
    with Netlink() as netlink:
        for address in addresses:
            if address.version == 4 or has_v6:
                netlink.add_address(index, address)
