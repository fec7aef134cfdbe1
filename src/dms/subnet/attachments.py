"""A device of a private network on this machine, and who is behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import trio

from dms.subnet.diverting import Diverted
from dms.subnet.kernel import OpenDevice
from dms.subnet.plane import Port
from dms.subnet.ports import PortMapping


@dataclass(eq=False)
class Attachment:
    """A device, who is behind it, and the task that reads it."""

    device: OpenDevice
    port: Port
    namespace: Path | None
    inode: int = 0
    """Which namespace that was: another one may come to have its path."""
    addresses: set[IPv4Address] = field(default_factory=set)
    published: list[PortMapping] = field(default_factory=list)
    """Ports of this machine that lead in for as long as it is there."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    guest: str = ""
    diverted: Diverted | None = None
    """Where connections come out that no packets can carry."""
    streams: trio.CancelScope = field(default_factory=trio.CancelScope)


def inode_of(namespace: Path | None) -> int:
    """Which namespace a path leads to; 0 for none."""
    try:
        return namespace.stat().st_ino if namespace is not None else 0
    except OSError:
        return 0
