"""MicroVMs as members of private networks: what their runners, their guests and the daemon have to know of it."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

from dms.executor.initrd import Card
from dms.executor.protocol import ExecutionRequest, Member

_CAPABILITIES = (12, 21)
"""For devices, and for namespaces: CAP_NET_ADMIN and CAP_SYS_ADMIN, by their bits (capabilities(7))."""


def may_make_networks() -> bool:
    """Whether a process that we start may make network namespaces and devices."""
    held = "CapBnd:" if os.geteuid() == 0 else "CapAmb:"  # what a program that we start gets
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    bits = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith(held)), 0)
    return all(bits >> bit & 1 for bit in _CAPABILITIES)


def member_of(request: ExecutionRequest, *, is_possible: bool) -> Member | None:
    """What a machine is to be in a private network; ``None``: it is in none."""
    return request.member if request.join is not None and is_possible and may_make_networks() else None


def mac_of(execution_id: str, prefix: tuple[int, int], what: str = "") -> str:
    """The hardware address of a network card, which stays that of its execution."""
    number = zlib.crc32(f"{execution_id}{what}".encode())
    return ":".join(f"{byte:02x}" for byte in (*prefix, *number.to_bytes(4, "big")))


def card_of(member: Member, mac: str) -> Card:
    """What our agent gives to the guest's card."""
    return Card(
        mac,
        str(member.address),
        dns=str(member.gateway),
        mtu=member.mtu,
        ipv6=f"{member.ipv6.ip}/128",
        network6=str(member.ipv6.network),
        router6=str(member.router6),
        host=str(member.host),
    )


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
