"""The network interfaces, as far as they lead out of the machine or name it."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import msgspec
import psutil

from dms.hardware import sysfs

BITS_PER_MBIT = 1_000_000
MAX_INTERFACES = 256
"""A host of many containers has an interface for each."""


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """One network interface."""

    name: str
    kind: str
    """``loopback``, ``ethernet``, ``wireless`` or ``virtual``."""
    is_up: bool
    speed_bps: int = 0
    """As negotiated with the other end; 0: not known, as of virtual ones."""
    mtu: int = 0
    hardware_address: str = ""
    addresses: tuple[str, ...] = ()
    """With the length of the prefix, such as ``192.0.2.7/24``."""


def read_interfaces(root: Path) -> tuple[Interface, ...]:
    """All interfaces of this network namespace; those that are hardware first."""
    states, addresses = psutil.net_if_stats(), psutil.net_if_addrs()
    found = []
    for name in sorted(states)[:MAX_INTERFACES]:
        state, own = states[name], addresses.get(name, ())
        found.append(
            Interface(
                name=name,
                kind=_kind(root / "sys/class/net" / name, name),
                is_up=state.isup,
                speed_bps=max(state.speed, 0) * BITS_PER_MBIT if state.speed < 65535 else 0,  # -1 of 16 bits
                mtu=state.mtu,
                hardware_address=next((a.address for a in own if a.family == psutil.AF_LINK), ""),
                addresses=tuple(
                    _with_prefix(a.address, a.netmask) for a in own if a.family in (socket.AF_INET, socket.AF_INET6)
                ),
            )
        )
    order = ("ethernet", "wireless", "virtual", "loopback")
    return tuple(sorted(found, key=lambda interface: (order.index(interface.kind), interface.name)))


def _kind(directory: Path, name: str) -> str:
    if name == "lo" or sysfs.text(directory / "type") == "772":  # ARPHRD_LOOPBACK
        return "loopback"
    if (directory / "wireless").is_dir() or (directory / "phy80211").exists():
        return "wireless"
    return "ethernet" if (directory / "device").exists() else "virtual"


def _with_prefix(address: str, mask: str | None) -> str:
    address = address.partition("%")[0]
    if not mask:
        return address
    try:
        bits = int(ipaddress.ip_address(mask))
    except ValueError:
        return address
    return f"{address}/{bits.bit_count()}"
