"""What makes packets of private networks flow, or streams instead: the seam to the kernel and to proxies."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from dms.executor.protocol import PROTOCOLS
from dms.node.memberships import Membership
from dms.subnet.connecting import Reach
from dms.subnet.errors import SubnetNotFound
from dms.subnet.messages import (
    MemberReport,
    NetworkReport,
)
from dms.types.ids import AllocationID, EnsembleID, PeerID


class Engine(Protocol):
    """What makes packets flow."""

    @property
    def mode(self) -> str:
        """``kernel``: packets reach the members; ``user``: programs forward streams to them; ``off``: neither."""
        ...

    @property
    def lacks(self) -> str:
        """Why it is not ``kernel``; empty where it is."""
        ...

    async def apply(self, membership: Membership) -> str:
        """Make it so: create the network, or change it to this. Why this machine itself cannot take part, if it was to.

        :raises DMSError: it cannot be, as when another network has its addresses.
        """
        ...

    async def remove(self, ensemble: EnsembleID) -> None:
        """Leave nothing of it; an unknown one is ignored."""
        ...

    async def join(
        self,
        ensemble: EnsembleID,
        allocation: AllocationID,
        namespace: Path,
        ports: Iterable[tuple[str, int, int]],
        *,
        behind: str = "",
        published: Collection[str] = PROTOCOLS,
    ) -> None:
        """Give an allocation its address, in the network namespace in which it runs or is about to, or to the guest ``behind`` a
        device there. ``ports`` (protocol, public, private): other members reach the private port at the public one, too; unless
        by a protocol of ``published``, who comes to this machine's public port is led there as well.

        :raises DMSError: it has none, or the kernel refuses.
        """
        ...

    def reach_with(self, reach: Reach) -> None:
        """How connections are made with members that no packets reach."""
        ...

    def report(self, membership: Membership, own: PeerID) -> NetworkReport:
        """What is known and what passed; ``own`` is this machine."""
        ...


class Proxying(Protocol):
    """Ways to the members for allocations without a device (:mod:`dms.node.proxies`)."""

    async def open(
        self, ensemble: EnsembleID, allocation: AllocationID, address: str, port: int = 0
    ) -> tuple[str, ...]:
        """The environment that tells an allocation of its proxy."""
        ...

    def close(self, allocation: AllocationID) -> None:
        """It runs no more."""
        ...


class UserSpace:
    """No packets: names and addresses are known, and streams are forwarded to whoever asks for them."""

    def __init__(self, lacks: str = "this machine makes no devices", *, takes_part: bool = True) -> None:
        """``takes_part``: whether streams lead to its allocations and from them; else these have their public ports only."""
        self.lacks = lacks
        self.mode = "user" if takes_part else "off"

    async def apply(self, membership: Membership) -> str:
        """Nothing has to be made."""
        return self.lacks if membership.own else ""

    async def remove(self, ensemble: EnsembleID) -> None:
        """Nor taken away."""

    async def join(
        self,
        ensemble: EnsembleID,
        allocation: AllocationID,
        namespace: Path,
        ports: Iterable[tuple[str, int, int]],
        *,
        behind: str = "",
        published: Collection[str] = PROTOCOLS,
    ) -> None:
        """Nobody is asked to."""
        raise SubnetNotFound(self.lacks)

    def reach_with(self, reach: Reach) -> None:
        """Nothing is diverted here: allocations are told of a proxy."""

    def report(self, membership: Membership, own: PeerID) -> NetworkReport:
        """What was told."""
        names = {address: name for name, address in membership.records.items()}
        peers = dict.fromkeys(membership.table.values())
        return NetworkReport(
            mode=self.mode,
            cidr=membership.cidr,
            members=tuple(
                MemberReport(
                    peer=peer,
                    addresses=(addresses := tuple(ip for ip, other in membership.table.items() if other == peer)),
                    names=tuple(names[ip] for ip in addresses if ip in names),
                    is_own=peer == own,
                )
                for peer in peers
            ),
        )
