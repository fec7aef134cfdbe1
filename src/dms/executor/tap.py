"""TAP devices: how the network of a microVM meets the host's (``spec/platform.md`` 2.4).

Made and addressed by the kernel's own calls; only the rules that let packets through are set with ``iptables``.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dms.executor.errors import TapExists, TapFailed, TapNotFound, TapRefused
from dms.types.errors import BadInput

MAX_NAME_CHARS = 15
_TUN, _SYS, _FORWARDING = Path("/dev/net/tun"), Path("/sys/class/net"), Path("/proc/sys/net/ipv4/ip_forward")
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER = 0x400454CA, 0x400454CB, 0x400454CC
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_UP = 0x0002, 0x1000, 0x4000, 0x1
_SIOCGIFADDR, _SIOCSIFADDR, _SIOCGIFNETMASK, _SIOCSIFNETMASK = 0x8915, 0x8916, 0x891B, 0x891C
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914


@dataclass(frozen=True, slots=True)
class Tap:
    """One device; ``address`` with the length of its prefix, empty when it has none."""

    name: str
    address: str
    is_up: bool


def create_tap(name: str, cidr: str, *, main_interface: str = "", owner: int | None = None) -> Tap:
    """Make a device that stays, with an address, up. With ``main_interface``, what comes from the device may leave
    through that one, and answers may come back. ``owner`` is a user who may then use it.

    :raises BadInput: the name or the address cannot be.
    :raises TapExists: there is a device of this name.
    :raises TapNotFound: there is no ``main_interface``.
    :raises TapRefused: this user may not.
    :raises TapFailed: packets cannot be passed on; the device is removed again.
    """
    interface = _checked(name, cidr)
    if _exists(name):
        raise TapExists(f"there is a network device {name} already")
    if main_interface and not _exists(main_interface):
        raise TapNotFound(f"there is no network device {main_interface}")
    if main_interface and _FORWARDING.read_text().strip() != "1":
        raise TapFailed("this machine does not pass packets on", hint="sysctl -w net.ipv4.ip_forward=1")
    with _attached(name) as fd:
        if owner is not None:
            fcntl.ioctl(fd, _TUNSETOWNER, owner)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    try:
        _set_address(name, interface)
        if main_interface:
            _rules("-A", name, main_interface)
    except BaseException:
        remove_tap(name, main_interface=main_interface)
        raise
    return Tap(name, str(interface), is_up=True)


def remove_tap(name: str, *, main_interface: str = "") -> None:
    """Remove a device, and the rules that were made with it.

    :raises TapNotFound: there is no TAP device of this name.
    :raises TapRefused: this user may not, or a machine uses it.
    """
    if not _is_tap(name):
        raise TapNotFound(f"there is no TAP device {name}")
    if main_interface:
        with suppress(TapFailed):  # they are gone already
            _rules("-D", name, main_interface)
    with _attached(name) as fd:
        fcntl.ioctl(fd, _TUNSETPERSIST, 0)


def list_taps() -> tuple[Tap, ...]:
    """All TAP devices, by name."""
    return tuple(
        Tap(name, _address(name), _is_up(name))
        for name in sorted(path.name for path in _SYS.iterdir())
        if _is_tap(name)
    )


def _checked(name: str, cidr: str) -> ipaddress.IPv4Interface:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or len(name) > MAX_NAME_CHARS or name in (".", ".."):
        raise BadInput(f'"{name[:64]}" is not the name of a network device', hint="at most 15 letters and digits")
    try:
        interface = ipaddress.IPv4Interface(cidr)
    except ValueError:
        raise BadInput(f'"{cidr[:64]}" is not an address with a prefix', hint="write 10.20.0.1/24") from None
    if "/" not in cidr or interface.network.prefixlen > 30:
        raise BadInput(f'"{cidr[:64]}" leaves no address for a machine', hint="write 10.20.0.1/24")
    return interface


@contextmanager
def _attached(name: str) -> Iterator[int]:
    """A descriptor of the device, which is made if it is not there."""
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise TapRefused(f"{_TUN} cannot be opened: {exc.strerror}") from None
    try:
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
        fcntl.ioctl(fd, _TUNSETIFF, request)
        yield fd
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            raise TapRefused(f"a machine uses {name}", hint="stop the machine first") from None
        raise TapRefused(f"the system refused: {exc.strerror}") from None
    finally:
        os.close(fd)


def _set_address(name: str, interface: ipaddress.IPv4Interface) -> None:
    with _socket() as sock:
        try:
            for call, address in ((_SIOCSIFADDR, interface.ip), (_SIOCSIFNETMASK, interface.netmask)):
                packed = struct.pack("16sHH4s8x", name.encode(), socket.AF_INET, 0, address.packed)
                fcntl.ioctl(sock, call, packed)
            (flags,) = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, _named(name)), 16)
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags | _IFF_UP))
        except OSError as exc:
            raise TapRefused(f"{name} cannot be given its address: {exc.strerror}") from None


def _address(name: str) -> str:
    with _socket() as sock:
        try:
            address = fcntl.ioctl(sock, _SIOCGIFADDR, _named(name))[20:24]
            mask = fcntl.ioctl(sock, _SIOCGIFNETMASK, _named(name))[20:24]
        except OSError:
            return ""
    return str(ipaddress.IPv4Interface(f"{ipaddress.IPv4Address(address)}/{ipaddress.IPv4Address(mask)}"))


def _is_up(name: str) -> bool:
    try:
        return bool(int((_SYS / name / "flags").read_text(), 16) & _IFF_UP)
    except (OSError, ValueError):
        return False


def _is_tap(name: str) -> bool:
    try:
        return bool(int((_SYS / name / "tun_flags").read_text(), 16) & _IFF_TAP)
    except (OSError, ValueError):
        return False


def _exists(name: str) -> bool:
    return (_SYS / name).exists()


def _rules(action: str, tap: str, main: str) -> None:
    """Let the device's packets out through the main interface, and their answers back."""
    program = shutil.which("iptables")
    if program is None:
        raise TapFailed("there is no iptables, which lets packets through", hint="apt-get install iptables")
    back = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"]
    for rule in (["-i", main, "-o", tap, *back], ["-i", tap, "-o", main, "-j", "ACCEPT"]):
        done = subprocess.run([program, action, "FORWARD", *rule], capture_output=True, check=False, text=True)
        if done.returncode:
            raise TapFailed(f"iptables refused: {done.stderr.strip()[:200]}")


def _named(name: str) -> bytes:
    return struct.pack("16s24x", name.encode())


def _socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
