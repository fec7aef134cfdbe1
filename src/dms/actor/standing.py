"""Who a caller is to us, beyond whether it may do what it asks for.

A message that is denied rarely carries a chain that shows what else its sender may do: senders attach only what fits the
request. So whoever was let in a while ago is remembered by identity, and so is whether that rested on a root.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from typing import Final

from dms.actor.envelope import Envelope
from dms.capability.context import CapabilityContext
from dms.capability.token import Token, decode_token_list
from dms.capability.verification import verify
from dms.identity.ids import DID, did_of
from dms.types.errors import DMSError

MAX_REMEMBERED: Final = 4096
REMEMBERED_S: Final = 3600.0


class Standing(IntEnum):
    """What a caller is to us."""

    STRANGER = 0
    KNOWN = 1
    """Its chain leads to us or to somebody to whom we lend trust, or it was let in before."""
    TRUSTED = 2
    """Its chain leads to a root."""


class Standings:
    """Those who were let in lately, and the judgement of the others."""

    def __init__(self, capabilities: CapabilityContext) -> None:
        self._capabilities = capabilities
        self._known: OrderedDict[DID, tuple[Standing, float]] = OrderedDict()

    def note(self, caller: DID, token: Token | None, now_s: float) -> None:
        """``caller`` was let in by ``token``."""
        known, until_s = self._known.get(caller, (Standing.STRANGER, 0.0))
        if until_s - now_s > REMEMBERED_S / 2:
            return
        rank = Standing.KNOWN
        if token is not None and not token.issuers.isdisjoint(self._capabilities.list_roots()[0]):
            rank = Standing.TRUSTED
        if rank < known and until_s > now_s:
            return  # a lesser chain neither takes a standing away nor prolongs it
        self._known.pop(caller, None)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.popitem(last=False)
        self._known[caller] = (rank, now_s + REMEMBERED_S)

    def of(self, message: Envelope, now_s: float) -> Standing:
        """The standing of a sender whose signature was checked. Tokens are judged as of the message's own expiry, so that
        one which came too late still shows whose it is.
        """
        try:
            tokens = decode_token_list(message.cap).tokens
            subject = did_of(message.from_.id.public_key())
        except DMSError:
            return Standing.STRANGER
        best = Standing.STRANGER
        for token in tokens:
            if not token.is_well_formed or token.body.sub != subject:
                continue
            if message.from_.did not in (subject, token.body.iss):
                continue
            rank = self._rank(token, message.from_.did, now_s)
            if rank > best and self._is_valid(token, message.opt.exp):
                best = rank
        return best

    def _rank(self, token: Token, caller: DID, now_s: float) -> Standing:
        roots, require, _, _ = self._capabilities.list_roots()
        issuers = token.issuers
        if not issuers.isdisjoint(roots):
            return Standing.TRUSTED
        rank, until_s = self._known.get(caller, (Standing.STRANGER, 0.0))
        if rank and until_s > now_s:
            return rank
        trusted = {self._capabilities.did} | {anchor.body.sub for anchor in require.tokens}
        return Standing.STRANGER if issuers.isdisjoint(trusted) else Standing.KNOWN

    def _is_valid(self, token: Token, now_ns: int) -> bool:
        try:
            verify(token, self._capabilities.trust, now_ns)
        except DMSError:
            return False
        return True
