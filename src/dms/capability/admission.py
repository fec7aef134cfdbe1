"""The input side of a context: tokens of the messages in hand, and the decisions that rest on them
(``spec/security.md`` 4.3).

:meth:`Admission.decide` is the one place where authority is decided; what it refuses on the way is what explains a
denial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from dms.capability.anchors import Anchors
from dms.capability.decision import Decision, Finding, Question, Rule, allow, deny
from dms.capability.errors import CapabilityError
from dms.capability.paths import any_implies
from dms.capability.rules import claim_finding
from dms.capability.token import Action, DMSToken, Token, TokenList, decode_token_list
from dms.capability.verification import examine
from dms.identity.ids import DID, NO_DID, ActorID, did_of
from dms.identity.trust import TrustContext
from dms.types.ids import Capability

_MAX_REFUSED_SUBJECTS: Final = 64
_MAX_REFUSED: Final = 16
_NO_HOLDER: Final = ""
_MAX_IN_HAND: Final = 1024
"""Messages whose tokens need not be parsed again when they are discarded."""
_IMAGINED_LIFETIME_NS: Final = 30 * 10**9
_NOT_ANCHORED = Finding(Rule.NOT_ANCHORED)
_MALFORMED = Finding(Rule.MALFORMED)
_TOO_MANY = Finding(Rule.TOO_MANY)


@dataclass(slots=True)
class _Held:
    token: Token
    is_verified: bool = False
    """Signatures are computed on first use: most tokens of a message decide nothing."""
    signed_from: int = 0
    holders: dict[str, int] = field(default_factory=dict)
    """How many messages in hand brought it, by sender: nobody can discard what another sender brought."""


class Admission:
    """Tokens of messages, by subject, from their arrival until they are discarded."""

    def __init__(
        self, name: str, anchors: Anchors, trust: TrustContext, clock_ns: Callable[[], int], max_held: int
    ) -> None:
        self._name = name
        self._anchors = anchors
        self._trust = trust
        self._clock_ns = clock_ns
        self._max_held = max_held
        self._in_hand: dict[bytes, tuple[Token, ...]] = {}
        self._held: dict[DID, dict[bytes, _Held]] = {}
        self.count = 0
        """Tokens held now."""
        self._refused: dict[DID, list[tuple[Token, Finding | None]]] = {}

    def consume(self, origin: DID, blob: bytes, sender: ActorID | None) -> None:
        """See :meth:`CapabilityContext.consume`."""
        tokens = decode_token_list(blob).tokens
        if len(self._in_hand) >= _MAX_IN_HAND:
            del self._in_hand[next(iter(self._in_hand))]
        self._in_hand[blob] = tokens
        claimed = origin if sender is None else _did_of_pub(sender.pub)
        self._refused.pop(claimed, None)
        now_ns = self._clock_ns()
        for token in tokens:
            if not token.is_well_formed:
                self._refuse(claimed, token, _MALFORMED)
            elif not self._is_of_use(token, origin, None if sender is None else claimed, now_ns):
                self._refuse(claimed, token, None)
            elif not self._hold(token, sender):
                self._refuse(claimed, token, _TOO_MANY)

    def decide(self, question: Question) -> Decision:
        """Answer by the tokens in hand: the first that allows it, or why none does."""
        now_ns = self._clock_ns()
        findings: list[tuple[Token | None, Finding]] = []
        decision = self._first_allowing(self._held.get(question.subject, {}).values(), question, now_ns, findings)
        if decision is not None:
            return decision
        for token, refused in self._refused.get(question.subject, ()):
            findings.append((token, refused or claim_finding(token, question) or _NOT_ANCHORED))
        return deny(question, findings, self._name)

    def explain(self, question: Question, tokens: TokenList, now_ns: int | None) -> Decision:
        """The answer if a message had brought ``tokens`` and what its sender could make of them; changes nothing."""
        now_ns = self._clock_ns() if now_ns is None else now_ns
        findings: list[tuple[Token | None, Finding]] = []
        imagined = []
        for token in tokens.tokens:
            if not token.is_well_formed:
                findings.append((token, _MALFORMED))
            elif token.body.act == Action.DELEGATE and token.body.sub == question.subject:
                imagined.append(_Held(_imagined(question, now_ns, token), signed_from=1))
            else:
                imagined.append(_Held(token))
        if question.caps:
            imagined.append(_Held(_imagined(question, now_ns), signed_from=1))
        decision = self._first_allowing(imagined, question, now_ns, findings)
        return decision or deny(question, findings, self._name)

    def discard(self, blob: bytes, sender: ActorID | None) -> None:
        """See :meth:`CapabilityContext.discard`."""
        tokens = self._in_hand.pop(blob, None)
        if tokens is None:
            try:
                tokens = decode_token_list(blob).tokens
            except CapabilityError:
                return
        holder = _NO_HOLDER if sender is None else sender.pub
        if sender is not None:
            self._refused.pop(_did_of_pub(sender.pub), None)
        for token in tokens:
            held = self._held.get(token.dms.sub) if token.dms else None
            if not held or not token.is_well_formed or (entry := held.get(token.wire)) is None:
                continue
            if holder not in entry.holders:
                continue
            entry.holders[holder] -= 1
            if not entry.holders[holder]:
                del entry.holders[holder]
            if not entry.holders:
                self._forget(token)

    def replies_to(self, target: DID) -> Iterable[Token]:
        """The valid tokens in hand by which ``target`` lets us do something."""
        now_ns = self._clock_ns()
        for held in list(self._held.get(self._anchors.did, {}).values()):
            if target in held.token.issuers and self._validity_finding(held, now_ns) is None:
                yield held.token

    def drop(self, condition: Callable[[Token], bool]) -> int:
        """Drop the tokens for which ``condition`` holds; how many there were."""
        doomed = [h.token for held in self._held.values() for h in held.values() if condition(h.token)]
        for token in doomed:
            self._forget(token)
        return len(doomed)

    def _first_allowing(
        self,
        candidates: Iterable[_Held],
        question: Question,
        now_ns: int,
        findings: list[tuple[Token | None, Finding]],
    ) -> Decision | None:
        for held in candidates:
            finding = self._finding(held, question, now_ns)
            if finding is None:
                return allow(question, held.token)
            findings.append((held.token, finding))
        return None

    def _finding(self, held: _Held, question: Question, now_ns: int) -> Finding | None:
        """Why a token does not decide: it says something else, nobody trusted stands behind it, or it is not valid."""
        token = held.token
        finding = claim_finding(token, question)
        if finding is not None:
            return finding
        if not self._anchors.admit(token, question.anchor, now_ns):
            return _NOT_ANCHORED
        return self._validity_finding(held, now_ns)

    def _validity_finding(self, held: _Held, now_ns: int) -> Finding | None:
        """What is wrong with it now; time and revocation are looked at on every use."""
        token, revocations = held.token, self._anchors.revocations
        if held.is_verified and not token.expires_before(now_ns) and not revocations.covers(token):
            return None
        finding = examine(token, self._trust, now_ns, revocations, signed_from=held.signed_from)
        held.is_verified = finding is None
        return finding

    def _is_of_use(self, token: Token, origin: DID, sender: DID | None, now_ns: int) -> bool:
        """Whether it could count for anything here, before any signature is computed."""
        body, own = token.body, self._anchors.did
        if body.act == Action.REVOKE or (sender is not None and body.sub not in (own, sender)):
            return False
        return origin in token.issuers or self._anchors.admit(token, own, now_ns)

    def _hold(self, token: Token, sender: ActorID | None) -> bool:
        subject = token.body.sub
        entry = self._held.get(subject, {}).get(token.wire)
        if entry is None:
            if self.count >= self._max_held:
                now_ns = self._clock_ns()
                self.drop(lambda token: token.expires_before(now_ns))
            if self.count >= self._max_held:
                return False
            entry = _Held(token)
            self._held.setdefault(subject, {})[token.wire] = entry
            self.count += 1
        holder = _NO_HOLDER if sender is None else sender.pub
        entry.holders[holder] = entry.holders.get(holder, 0) + 1
        return True

    def _forget(self, token: Token) -> None:
        subject = token.body.sub
        held = self._held[subject]
        del held[token.wire]
        self.count -= 1
        if not held:
            del self._held[subject]

    def _refuse(self, claimed: DID, token: Token, finding: Finding | None) -> None:
        """Keep what is not admitted until the message is discarded, to explain a denial that follows from it."""
        refused = self._refused.get(claimed)
        if refused is None:
            if len(self._refused) >= _MAX_REFUSED_SUBJECTS:
                del self._refused[next(iter(self._refused))]
            refused = self._refused[claimed] = []
        if len(refused) < _MAX_REFUSED:
            refused.append((token, finding))


def ask(
    action: str,
    anchor: DID,
    subject: ActorID | DID,
    audience: ActorID | DID,
    caps: Sequence[Capability],
    topic: str,
    origin: DID,
) -> Question:
    """The question about the keys of actors, or about DIDs."""
    return Question(action, _did(subject), _did(audience), caps, topic, origin, anchor)


def _did(who: ActorID | DID) -> DID:
    return who if isinstance(who, DID) else _did_of_pub(who.pub)


@lru_cache(maxsize=4096)
def _did_of_pub(pub: str) -> DID:
    return did_of(ActorID(pub=pub).public_key())


def _imagined(question: Question, now_ns: int, parent: Token | None = None) -> Token:
    """What the subject would put into a message, not signed; of several capabilities those that ``parent`` covers."""
    expiry_ns, caps = now_ns + _IMAGINED_LIFETIME_NS, tuple(question.caps)
    if parent is not None:
        expiry_ns = min(expiry_ns, parent.earliest_expiry_ns)
        caps = tuple(cap for cap in caps if any_implies(parent.body.caps, cap)) or caps
    is_broadcast = question.action == Action.BROADCAST
    return Token(
        dms=DMSToken(
            act=question.action,
            iss=question.subject,
            sub=question.subject,
            aud=NO_DID if is_broadcast else question.audience,
            topic=(question.topic,) if is_broadcast else (),
            cap=caps,
            nonce=None,
            exp=expiry_ns,
            chain=parent,
        )
    )
