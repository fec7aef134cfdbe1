"""The input side of a context: tokens of the messages in hand, and the decisions that rest on them
(``spec/security.md`` 4.3).

:meth:`Admission.decide` is the one place where authority is decided; what it refuses on the way is what explains a
denial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from dms.capability.anchors import Anchors
from dms.capability.decision import Decision, Finding, Question, Rule, allow, deny
from dms.capability.paths import any_implies
from dms.capability.rules import claim_finding
from dms.capability.token import Action, DMSToken, Token, TokenList, decode_token_list
from dms.capability.verification import examine
from dms.identity.ids import DID, NO_DID, ActorID, did_of
from dms.identity.trust import TrustContext
from dms.types.ids import Capability

_MAX_REFUSED_SUBJECTS: Final = 64
_MAX_REFUSED: Final = 16
_NO_SENDER: Final = ""
_IMAGINED_LIFETIME_NS: Final = 30 * 10**9
_NOT_ANCHORED = Finding(Rule.NOT_ANCHORED)
_MALFORMED = Finding(Rule.MALFORMED)
_TOO_MANY = Finding(Rule.TOO_MANY)


class _Message:
    """What could count of what one message brought, by the bytes of each token."""

    __slots__ = ("tokens",)

    def __init__(self, tokens: dict[bytes, Token]) -> None:
        self.tokens = tokens


_Arrival: TypeAlias = tuple[str, bytes]
"""The sender and the token list as it came: nobody can discard what another sender brought."""


class Admission:
    """Tokens of messages from their arrival until they are discarded.

    They are held message by message: what a message brought goes when that message is discarded, whatever else brought
    the same. Of messages that are alike the first to be discarded is the one that came first.
    """

    def __init__(
        self, name: str, anchors: Anchors, trust: TrustContext, clock_ns: Callable[[], int], max_held: int
    ) -> None:
        self._name = name
        self._anchors = anchors
        self._trust = trust
        self._clock_ns = clock_ns
        self._max_held = max_held
        self._messages: dict[_Arrival, list[_Message]] = {}
        self._by_subject: dict[str, dict[_Message, None]] = {}
        self.count = 0
        """Tokens held now."""
        self._refused: dict[DID, list[tuple[Token, Finding | None]]] = {}

    def consume(self, origin: DID, blob: bytes, sender: ActorID | None) -> None:
        """See :meth:`CapabilityContext.consume`."""
        tokens = decode_token_list(blob).tok
        pub = _NO_SENDER if sender is None else sender.pub
        claimed = origin if sender is None else _did_of_pub(pub)
        if self._refused:
            self._refused.pop(claimed, None)
        now_ns, room = self._clock_ns(), self._max_held - self.count
        arrived: dict[bytes, Token] = {}
        for token in tokens:
            if token is None:
                continue
            if not token.is_well_formed:
                self._refuse(claimed, token, _MALFORMED)
            elif token.wire in arrived:
                continue
            elif not self._is_of_use(token, origin, None if sender is None else claimed, now_ns):
                self._refuse(claimed, token, None)
            elif len(arrived) < room or len(arrived) < (room := self._make_room(now_ns)):
                arrived[token.wire] = token
            else:
                self._refuse(claimed, token, _TOO_MANY)
        if arrived:
            self._hold((pub, blob), arrived)

    def decide(self, question: Question) -> Decision:
        """Answer by the tokens in hand: the first that allows it, or why none does."""
        now_ns = self._clock_ns()
        findings: list[tuple[Token | None, Finding]] = []
        decision = self._first_allowing(
            ((token, 0) for token in self._given_to(question.subject.uri)), question, now_ns, findings
        )
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
                imagined.append((_imagined(question, now_ns, token), 1))
            else:
                imagined.append((token, 0))
        if question.caps:
            imagined.append((_imagined(question, now_ns), 1))
        decision = self._first_allowing(imagined, question, now_ns, findings)
        return decision or deny(question, findings, self._name)

    def discard(self, blob: bytes, sender: ActorID | None) -> None:
        """See :meth:`CapabilityContext.discard`."""
        pub = _NO_SENDER if sender is None else sender.pub
        if sender is not None and self._refused:
            self._refused.pop(_did_of_pub(pub), None)
        arrival = (pub, blob)
        messages = self._messages.get(arrival)
        if messages is None:
            return
        message = messages.pop(0)
        if not messages:
            del self._messages[arrival]
        self._forget(message, message.tokens)

    def replies_to(self, target: DID) -> Iterable[Token]:
        """The valid tokens in hand by which ``target`` lets us do something."""
        now_ns = self._clock_ns()
        for token in list(self._given_to(self._anchors.did.uri)):
            if target in token.issuers and examine(token, self._trust, now_ns, self._anchors.revocations) is None:
                yield token

    def drop(self, condition: Callable[[Token], bool]) -> int:
        """Drop the tokens for which ``condition`` holds; how many there were."""
        before = self.count
        for message in [message for messages in self._messages.values() for message in messages]:
            over = {wire: token for wire, token in message.tokens.items() if condition(token)}
            if over:
                message.tokens = {wire: token for wire, token in message.tokens.items() if wire not in over}
                self._forget(message, over)
        return before - self.count

    def _first_allowing(
        self,
        candidates: Iterable[tuple[Token, int]],
        question: Question,
        now_ns: int,
        findings: list[tuple[Token | None, Finding]],
    ) -> Decision | None:
        for token, signed_from in candidates:
            finding = self._finding(token, signed_from, question, now_ns)
            if finding is None:
                return allow(question, token)
            findings.append((token, finding))
        return None

    def _finding(self, token: Token, signed_from: int, question: Question, now_ns: int) -> Finding | None:
        """Why a token does not decide: it says something else, nobody trusted stands behind it, or it is not valid.

        Signatures come last, because most tokens of a message decide nothing; time and revocation count at every use.
        """
        finding = claim_finding(token, question)
        if finding is not None:
            return finding
        anchors = self._anchors
        if not anchors.admit(token, question.anchor, now_ns):
            return _NOT_ANCHORED
        return examine(token, self._trust, now_ns, anchors.revocations, signed_from=signed_from)

    def _is_of_use(self, token: Token, origin: DID, sender: DID | None, now_ns: int) -> bool:
        """Whether it could count for anything here, before any signature is computed."""
        body, own = token.levels[0], self._anchors.did
        if body.act == Action.REVOKE:
            return False
        if sender is not None and body.sub.uri != sender.uri and body.sub.uri != own.uri:
            return False
        return origin.uri == body.iss.uri or origin in token.issuers or self._anchors.admit(token, own, now_ns)

    def _make_room(self, now_ns: int) -> int:
        """For how many tokens there is room without those that are over."""
        self.drop(lambda token: token.expires_before(now_ns))
        return self._max_held - self.count

    def _hold(self, arrival: _Arrival, tokens: dict[bytes, Token]) -> None:
        message = _Message(tokens)
        alike = self._messages.get(arrival)
        if alike is None:
            self._messages[arrival] = [message]
        else:
            alike.append(message)
        self.count += len(tokens)
        for token in tokens.values():
            subject = token.levels[0].sub.uri
            messages = self._by_subject.get(subject)
            if messages is None:
                self._by_subject[subject] = {message: None}
            else:
                messages[message] = None

    def _given_to(self, subject: str) -> Iterator[Token]:
        """The tokens given to ``subject``, each once."""
        messages = self._by_subject.get(subject)
        if messages is None:
            return
        seen: set[bytes] | None = set() if len(messages) > 1 else None
        for message in messages:
            for wire, token in message.tokens.items():
                if token.levels[0].sub.uri != subject:
                    continue
                if seen is not None:
                    if wire in seen:
                        continue
                    seen.add(wire)
                yield token

    def _forget(self, message: _Message, over: dict[bytes, Token]) -> None:
        """Account for the tokens that are ``over``: all of a message that is gone, or what it lost."""
        self.count -= len(over)
        left = set() if over is message.tokens else {token.body.sub.uri for token in message.tokens.values()}
        for token in over.values():
            subject = token.levels[0].sub.uri
            messages = self._by_subject.get(subject)
            if messages is None or subject in left:
                continue
            messages.pop(message, None)
            if not messages:
                del self._by_subject[subject]

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
