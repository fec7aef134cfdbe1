"""The network of a machine as its runner makes it: TAP devices of the host, and a namespace of the machine's own.

As member of a private network a machine has a TAP device in a network namespace in which nothing else is but its runner.
The namespace is there for as long as the runner, also while no daemon is; with the runner it is gone, with all that was
made in it. The daemon makes its own device beside the TAP device, and lets packets pass between the two. Nothing of the
host is touched.

Standard library only, and little of it: this is part of the start of every machine.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEVICE = "guest0"
"""The TAP device of a member, in its namespace."""

_TUN = "/dev/net/tun"
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_UP = 0x0002, 0x1000, 0x4000, 0x1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFMTU = 0x8913, 0x8914, 0x8922
_CLONE_NEWNET = 0x40000000
_OWN_NAMESPACE = "/proc/self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


class Private:
    """The part of ``job.json`` about a private network."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.mtu: int = raw["mtu"]
        self.is_lent: bool = raw["is_lent"]
        """The machine opens its TAP device by its name, and so runs in the namespace itself; else it is given it open."""
        self.is_inside: bool = raw["is_inside"]
        """Whether the machine runs in the namespace; one that binds ports of the host cannot."""
        self.lease: dict[str, Any] | None = raw["lease"]
        """What the guest is told when it asks for its address; ``None``: it knows it."""


def open_tap(name: str) -> int:
    """A descriptor of an existing TAP device.

    :raises OSError: there is none of that name, or it is not ours.
    """
    if not os.path.exists(f"/sys/class/net/{name}"):  # noqa: PTH110
        raise OSError(f"there is no TAP device {name}")
    return _attach(name)


def lend_tap(name: str, user: tuple[int, int, list[int]] | None) -> None:
    """Let the machine's user open a TAP device by its name."""
    fd = open_tap(name)
    try:
        if user is not None:
            fcntl.ioctl(fd, _TUNSETOWNER, user[0])
    finally:
        os.close(fd)


def make_namespace() -> int:
    """Go into a new network namespace; returns a descriptor of the one that was left.

    :raises OSError: this user may not.
    """
    home = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        os.close(home)
        raise OSError(number, f"no network namespace can be made: {os.strerror(number)}")
    return home


def enter_namespace(fd: int) -> None:
    """Go into another one.

    :raises OSError: this user may not.
    """
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"the host's network namespace cannot be entered: {os.strerror(number)}")


def make_tap(private: Private, user: tuple[int, int, list[int]] | None) -> int:
    """Make the device in the namespace where we are, up; returns its descriptor, or -1 where the machine opens it by its name.

    :raises OSError: the kernel does not.
    """
    fd = _attach(DEVICE)
    if private.is_lent:
        if user is not None:
            fcntl.ioctl(fd, _TUNSETOWNER, user[0])
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
        os.close(fd)
        fd = -1
    without = f"/proc/sys/net/ipv6/conf/{DEVICE}/addr_gen_mode"
    if os.path.exists(without):  # noqa: PTH110
        with open(without, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("1")  # no address but those that it is given
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFMTU, struct.pack("16si20x", DEVICE.encode(), private.mtu))
    switch_on(DEVICE)
    return fd


def switch_on(name: str) -> None:
    """A device of the namespace where we are.

    :raises OSError: there is none, or the kernel does not.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        (flags,) = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s24x", name.encode())), 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))


def _attach(name: str) -> int:
    fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    except BaseException:
        os.close(fd)
        raise
    return fd
