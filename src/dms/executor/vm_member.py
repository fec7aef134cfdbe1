"""MicroVMs as members of private networks: what their runners, their guests and the daemon have to know of it."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from dms.executor.initrd import Card
from dms.executor.protocol import ExecutionRequest, Member
from dms.executor.vm_network import make_namespace

_CAPABILITIES = (12, 21)
"""For devices, and for namespaces: CAP_NET_ADMIN and CAP_SYS_ADMIN, by their bits (capabilities(7))."""


@cache
def may_make_networks() -> bool:
    """Whether a process that we start may make network namespaces and devices. Tried once, in a thread that ends with what it
    made: rights say little where a service is fenced in besides."""
    held = "CapBnd:" if os.geteuid() == 0 else "CapAmb:"  # what a program that we start gets
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    bits = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith(held)), 0)
    if not all(bits >> bit & 1 for bit in _CAPABILITIES):
        return False
    could: list[bool] = []

    def attempt() -> None:
        try:
            os.close(make_namespace())
        except OSError:
            return
        could.append(True)

    thread = Thread(target=attempt, name="network namespace")
    thread.start()
    thread.join()
    return bool(could)


def member_of(request: ExecutionRequest, obstacle: str) -> Member | None:
    """What a machine is to be in a private network; ``None``: it is in none."""
    return request.member if request.join is not None and not obstacle else None


def mac_of(execution_id: str, prefix: tuple[int, int], what: str = "") -> str:
    """The hardware address of a network card, which stays that of its execution."""
    number = zlib.crc32(f"{execution_id}{what}".encode())
    return ":".join(f"{byte:02x}" for byte in (*prefix, *number.to_bytes(4, "big")))


def may_route_ipv6() -> bool:
    """Whether a namespace of ours can pass IPv6 packets on, which takes files that may be read-only for a service."""
    try:
        return not os.statvfs("/proc/sys/net/ipv6").f_flag & os.ST_RDONLY
    except OSError:
        return False


def card_of(member: Member, mac: str) -> Card:
    """What our agent gives to the guest's card."""
    card = Card(mac, str(member.address), dns=str(member.gateway), mtu=member.mtu, host=str(member.host))
    if not may_route_ipv6():
        return card  # so that nobody inside waits for answers that cannot come
    six = member.ipv6
    return replace(card, ipv6=f"{six.ip}/128", network6=str(six.network), router6=str(member.router6))


def namespace_of(runner: int) -> Path:
    """The network namespace that a runner holds open, by its process id."""
    return Path(f"/proc/{runner}/ns/net")


def private_job(member: Member, *, is_lent: bool, is_inside: bool, has_agent: bool) -> dict[str, Any]:
    """For the runner, see :class:`dms.executor.vm_network.Private`."""
    lease = {
        "address": str(member.address.ip),
        "mask": str(member.address.netmask),
        "gateway": str(member.gateway),
        "host": str(member.host),
        "mtu": member.mtu,
    }
    return {"mtu": member.mtu, "is_lent": is_lent, "is_inside": is_inside, "lease": None if has_agent else lease}
