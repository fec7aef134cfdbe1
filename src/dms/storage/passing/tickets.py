"""Permissions to bring one file: each for one peer, one place, one size, for a while, and for one transfer.

Pure: time and randomness are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dms.storage.errors import AccessRefused, TooLarge, TransferRefused
from dms.types.ids import PeerID

VALID_S = 900.0
MAX_TICKETS, MAX_TICKETS_PER_TENANT = 1024, 64


@dataclass(frozen=True, slots=True)
class Ticket:
    """What was permitted; ``secret`` is known to those who use it only."""

    secret: str = field(repr=False)
    peer: PeerID
    tenant: str
    volume: Path
    label: str
    path: str
    size: int
    version: str
    valid_until_s: float


class Tickets:
    """The permissions of a node, in its memory: after a restart they are asked for again."""

    def __init__(self, new_secret: Callable[[], str]) -> None:
        self._new_secret = new_secret
        self._tickets: dict[str, Ticket] = {}
        self._used: set[str] = set()

    def issue(
        self, *, peer: PeerID, tenant: str, volume: Path, label: str, path: str, size: int, version: str, now_s: float
    ) -> Ticket:
        """Permit one transfer; an earlier permission for the same place ends.

        :raises TransferRefused: it is being used.
        :raises TooLarge: too many are open.
        """
        self._expire(now_s)
        for old in [one for one in self._tickets.values() if (one.volume, one.path) == (volume, path)]:
            if old.secret in self._used:
                raise TransferRefused(f"{path[:80]!r} is being brought already", hint="nunet file list shows how far")
            del self._tickets[old.secret]
        theirs = sum(one.tenant == tenant for one in self._tickets.values())
        if len(self._tickets) >= MAX_TICKETS or theirs >= MAX_TICKETS_PER_TENANT:
            raise TooLarge("too many files are about to come already", hint="wait until some have arrived")
        secret = self._new_secret()
        ticket = Ticket(secret, peer, tenant, volume, label, path, size, version, now_s + VALID_S)
        self._tickets[secret] = ticket
        return ticket

    def redeem(self, secret: str, peer: PeerID, now_s: float) -> Ticket:
        """Begin the transfer that was permitted.

        :raises AccessRefused: nothing was, or to somebody else, or it is over or under way.
        """
        self._expire(now_s)
        ticket = self._tickets.get(secret)
        if ticket is None or ticket.peer != peer:
            raise AccessRefused(
                "no such ticket", hint="ask for another one: they are for one transfer and not for long"
            )
        if secret in self._used:
            raise AccessRefused("this ticket is being used")
        self._used.add(secret)
        return ticket

    def give_back(self, ticket: Ticket, now_s: float) -> None:
        """The transfer broke off: it may be tried again."""
        self._used.discard(ticket.secret)
        self._expire(now_s)

    def consume(self, ticket: Ticket) -> None:
        """The file is there, or will never be."""
        self._used.discard(ticket.secret)
        self._tickets.pop(ticket.secret, None)

    def _expire(self, now_s: float) -> None:
        for ticket in list(self._tickets.values()):
            if ticket.valid_until_s <= now_s and ticket.secret not in self._used:
                del self._tickets[ticket.secret]
