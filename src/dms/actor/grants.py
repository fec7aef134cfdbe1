"""Dynamic grants: what an actor lets others do for as long as it lives (``spec/security.md`` 5.9).

A grant is a token to ourselves, put among the require anchors of the node. It lives for an hour, so that one whose owner
crashed is soon worth nothing, and is renewed at half life: one renewed just as it ends would lapse while messages are
under way. When the wall clock is set ahead all are renewed soon after. It is taken back when it is withdrawn, and all of
an actor's are when the actor ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import trio

from dms.actor.security import GRANT_DEPTH, SecurityContext
from dms.capability.token import TokenList
from dms.identity.ids import DID
from dms.observe import get_logger
from dms.types.errors import DMSError
from dms.types.ids import Capability

LIFETIME_S: Final = 3600.0
MIN_RETRY_S: Final = 1.0
LOOK_S: Final = 60.0
"""How often it is looked whether the wall clock was set, and how far it may go from trio's meanwhile."""
MAX_DRIFT_NS: Final = 10**9
NS_PER_S: Final = 10**9

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """``subject`` may use ``caps`` at ``audience``, again and again for ``lifetime_s``; equal grants are one."""

    subject: DID
    audience: DID
    caps: tuple[Capability, ...]
    lifetime_s: float = LIFETIME_S
    depth: int = GRANT_DEPTH


@dataclass(slots=True)
class _Held:
    tokens: TokenList
    renew_at_s: float
    owners: set[str] = field(default_factory=set)


class Grants:
    """The dynamic grants of a process, each with the inboxes of the actors that want it: two allocations of one ensemble give
    their orchestrator the same, and the first to end must not take it from the other. The root actor runs :meth:`keep`.
    """

    def __init__(self, security: SecurityContext) -> None:
        self._security = security
        self._held: dict[Grant, _Held] = {}
        self._changed = trio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, grant: Grant) -> bool:
        return grant in self._held

    def give(self, owner: str, grant: Grant) -> None:
        """Have a grant in force for ``owner`` from now on; again changes nothing.

        :raises DMSError: it cannot be signed.
        """
        if grant not in self._held:
            self._renew(grant)
            self._changed.set()
        self._held[grant].owners.add(owner)

    def withdraw(self, owner: str, grant: Grant) -> None:
        """Take it back at once, unless somebody else wants it too; one that is not held is ignored."""
        held = self._held.get(grant)
        if held is None:
            return
        held.owners.discard(owner)
        if held.owners:
            return
        del self._held[grant]
        self._security.withdraw(held.tokens)
        # a set of anchors keeps no token that another covers: what this one covered must be put back
        for other, kept in self._held.items():
            if other.subject == grant.subject and other.audience == grant.audience:
                self._restore(other, kept)

    def withdraw_all(self, owner: str) -> None:
        """Take back all that only ``owner`` wants."""
        for grant in [grant for grant, held in self._held.items() if owner in held.owners]:
            self.withdraw(owner, grant)

    async def keep(self) -> None:
        """Renew each at half life, until cancelled."""
        while True:
            self._changed = trio.Event()
            next_s = min((held.renew_at_s for held in self._held.values()), default=float("inf"))
            ahead_ns = self._ahead_ns()
            with trio.move_on_at(min(next_s, trio.current_time() + LOOK_S)):
                await self._changed.wait()
            now_s = trio.current_time()
            if self._ahead_ns() - ahead_ns > MAX_DRIFT_NS:  # the clock was set: what was to last has expired by it
                for held in self._held.values():
                    held.renew_at_s = now_s
            for grant in [grant for grant, held in self._held.items() if held.renew_at_s <= now_s]:
                self._try_renew(grant)

    def _ahead_ns(self) -> int:
        return self._security.now_ns() - int(trio.current_time() * NS_PER_S)

    def _restore(self, grant: Grant, held: _Held) -> None:
        try:
            self._security.restore(held.tokens)
        except DMSError:  # expired: the clock was set
            self._try_renew(grant)

    def _try_renew(self, grant: Grant) -> None:
        try:
            self._renew(grant)
        except DMSError as exc:
            log.error("grant_not_renewed", subject=str(grant.subject), caps=grant.caps, error=exc.message)
            self._held[grant].renew_at_s = trio.current_time() + max(MIN_RETRY_S, grant.lifetime_s / 10)

    def _renew(self, grant: Grant) -> None:
        tokens = self._security.grant(
            grant.subject, grant.audience, grant.caps, int(grant.lifetime_s * NS_PER_S), depth=grant.depth
        )
        renew_at_s = trio.current_time() + grant.lifetime_s / 2
        held = self._held.get(grant)
        if held is None:
            self._held[grant] = _Held(tokens, renew_at_s)
            return
        self._security.withdraw(held.tokens)
        held.tokens, held.renew_at_s = tokens, renew_at_s
