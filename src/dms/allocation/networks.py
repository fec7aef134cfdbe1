"""What an allocation needs of the private networks of its machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from dms.executor.protocol import PROTOCOLS, Member
from dms.types.ids import AllocationID, EnsembleID


class Networks(Protocol):
    """The private networks of this machine."""

    def gateway_for(self, ensemble: EnsembleID, allocation: AllocationID) -> str:
        """Who resolves names for an allocation; empty where it has no address of its own."""
        ...

    def member_for(self, ensemble: EnsembleID, allocation: AllocationID) -> Member | None:
        """What it is in its network; ``None`` where it has no address of its own."""
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
        """Give it its address in a network namespace, or to the guest ``behind`` a device there; its private ports are reached
        at the public ones, too, also from outside unless its backend sees to that (by these protocols: ``published``).

        :raises DMSError: that cannot be done.
        """
        ...

    @property
    def lacks(self) -> str:
        """Why nobody here has an address of his own; empty where that can be."""
        ...

    def has_proxy(self, ensemble: EnsembleID, allocation: AllocationID) -> bool:
        """Whether an allocation reaches the other members through a proxy."""
        ...

    async def open_proxy(
        self, ensemble: EnsembleID, allocation: AllocationID, address: str, port: int = 0
    ) -> tuple[str, ...]:
        """The environment that tells it of that; ``address``: where it reaches this machine, ``port``: where that was before.

        :raises DMSError: there is none.
        """
        ...

    def not_joined(self, allocation: AllocationID, reason: str) -> None:
        """It should have one, and has none."""
        ...
