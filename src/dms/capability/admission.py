"""The input side of a context: tokens of the messages in hand, and the decisions that rest on them
(``spec/security.md`` 4.3).

:meth:`Admission.decide` is the one place where authority is decided; what it refuses on the way is what explains a
denial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from dms.capability.anchors import Anchors
from dms.capability.decision import Decision, Finding, Question, Rule, allow, deny
from dms.capability.errors import BadToken
from dms.capability.paths import any_implies
from dms.capability.rules import claim_finding
from dms.capability.token import Action, DMSToken, Listed, Token, TokenList, read_listed, split_token_list
from dms.capability.verification import examine
from dms.identity.ids import DID, NO_DID, ActorID, did_of
from dms.identity.trust import TrustContext
from dms.types.ids import Capability

_MAX_REFUSED_SUBJECTS: Final = 64
_MAX_REFUSED: Final = 16
_NO_SENDER: Final = ""
_IMAGINED_LIFETIME_NS: Final = 30 * 10**9
_MAX_UNREAD: Final = 8
"""Of a longer list only what could count is kept, so that nobody fills the table with what is worth nothing."""
_GARBAGE: Final = Token()
_NOT_ANCHORED = Finding(Rule.NOT_ANCHORED)
_MALFORMED = Finding(Rule.MALFORMED)
_TOO_MANY = Finding(Rule.TOO_MANY)


class Carried(msgspec.Struct, eq=False):
    """What one message brought, held until it is discarded: the tokens that could count, and those that nobody has read
    yet.

    Whether a token could count depends on who sent the message (``sender``, none: unknown) and on whom it claims to come
    from (``origin``).
    """

    origin: DID
    sender: DID | None
    unread: list[Listed]
    """The next one last."""
    tokens: list[Token] = []
    subjects: list[str] = []
    """Under which it is found."""

    @property
    def claimed(self) -> DID:
        """Who answers for it."""
        return self.origin if self.sender is None else self.sender


class Admission:
    """Tokens of messages from their arrival until they are discarded.

    They are held message by message: what a message brought goes when that message is discarded, whatever else brought
    the same.
    """

    def __init__(
        self, name: str, anchors: Anchors, trust: TrustContext, clock_ns: Callable[[], int], max_held: int
    ) -> None:
        self._name = name
        self._anchors = anchors
        self._trust = trust
        self._clock_ns = clock_ns
        self._max_held = max_held
        self._messages: dict[Carried, None] = {}
        self._by_subject: dict[str, dict[Carried, None]] = {}
        self._unread: dict[Carried, None] = {}
        self._count = 0
        """Tokens held now, read or not."""
        self._refused: dict[DID, list[tuple[Token, Finding | None]]] = {}

    @property
    def count(self) -> int:
        """Tokens held that could count."""
        self._read_all()
        return self._count

    def consume(self, origin: DID, blob: bytes, sender: ActorID | None) -> Carried:
        """See :meth:`CapabilityContext.consume`."""
        unread = split_token_list(blob)
        unread.reverse()
        message = Carried(origin, None if sender is None else _did_of_pub(sender.pub), unread)
        if self._refused:
            self._refused.pop(message.claimed, None)
        count = len(unread)
        if not count:
            return message
        if message.sender is not None and count <= _MAX_UNREAD and count <= self._max_held - self._count:
            self._index(message, message.sender.uri)
            self._unread[message] = None
            self._count += count
        else:
            self._read_at_once(message)
            if not message.tokens:
                return message
        self._messages[message] = None
        return message

    def decide(self, question: Question) -> Decision:
        """Answer by the tokens in hand: the first that allows it, or why none does."""
        now_ns = self._clock_ns()
        findings: list[tuple[Token | None, Finding]] = []
        for token in self._given_to(question.subject.uri):
            finding = self._finding(token, 0, question, now_ns)
            if finding is None:
                return allow(question, token)
            findings.append((token, finding))
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
        for candidate, signed_from in imagined:
            finding = self._finding(candidate, signed_from, question, now_ns)
            if finding is None:
                return allow(question, candidate)
            findings.append((candidate, finding))
        return deny(question, findings, self._name)

    def discard(self, message: Carried) -> None:
        """See :meth:`CapabilityContext.discard`."""
        if self._refused and message.sender is not None:
            self._refused.pop(message.sender, None)
        if message not in self._messages:
            return
        del self._messages[message]
        self._count -= len(message.tokens)
        if message.unread:
            self._count -= len(message.unread)
            del self._unread[message]
        for subject in message.subjects:
            found = self._by_subject[subject]
            del found[message]
            if not found:
                del self._by_subject[subject]

    def replies_to(self, target: DID) -> Iterable[Token]:
        """The valid tokens in hand by which ``target`` lets us do something."""
        now_ns = self._clock_ns()
        self._read_all()
        for token in list(self._given_to(self._anchors.did.uri)):
            if target in token.issuers and examine(token, self._trust, now_ns, self._anchors.revocations) is None:
                yield token

    def drop(self, condition: Callable[[Token], bool]) -> int:
        """Drop the tokens for which ``condition`` holds; how many there were."""
        self._read_all()
        before = self._count
        for message in self._messages:
            kept = [token for token in message.tokens if not condition(token)]
            self._count -= len(message.tokens) - len(kept)
            message.tokens = kept
        return before - self._count

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

    def _read_on(self, message: Carried) -> Token | None:
        """Read as far as the next token that could count; none: all is read."""
        unread = message.unread
        while unread:
            token = self._sorted_out(message, unread.pop())
            if not unread:
                del self._unread[message]
            if token is None:
                self._count -= 1
                continue
            message.tokens.append(token)
            subject = token.levels[0].sub.uri
            if subject not in message.subjects:
                self._index(message, subject)
            return token
        return None

    def _read_all(self) -> None:
        for message in list(self._unread):
            while message.unread:
                self._read_on(message)

    def _read_at_once(self, message: Carried) -> None:
        """Read what is too much to be kept unread, and keep that for which there is room."""
        room = self._max_held - self._count
        tokens = message.tokens
        while message.unread:
            token = self._sorted_out(message, message.unread.pop())
            if token is None:
                continue
            if len(tokens) < room or len(tokens) < (room := self._make_room()):
                tokens.append(token)
            else:
                self._refuse(message.claimed, token, _TOO_MANY)
        self._count += len(tokens)
        for subject in {token.levels[0].sub.uri for token in tokens}:
            self._index(message, subject)

    def _sorted_out(self, message: Carried, member: Listed) -> Token | None:
        """A member of the list if it could count for anything here, before any signature is computed."""
        try:
            token = read_listed(member)
        except BadToken:
            token = _GARBAGE
        if token is None:
            return None
        if not token.is_well_formed:
            self._refuse(message.claimed, token, _MALFORMED)
            return None
        for held in message.tokens:
            if held.wire == token.wire:
                return None
        body, sender = token.levels[0], message.sender
        if body.act != Action.REVOKE:
            subject = body.sub.uri
            if sender is None or subject == sender.uri or subject == self._anchors.did.uri:
                origin = message.origin
                if origin.uri == body.iss.uri or origin in token.issuers:
                    return token
                if self._anchors.admit(token, self._anchors.did, self._clock_ns()):
                    return token
        self._refuse(message.claimed, token, None)
        return None

    def _make_room(self) -> int:
        """For how many tokens there is room without those that are over."""
        now_ns = self._clock_ns()
        self.drop(lambda token: token.expires_before(now_ns))
        return self._max_held - self._count

    def _index(self, message: Carried, subject: str) -> None:
        message.subjects.append(subject)
        found = self._by_subject.get(subject)
        if found is None:
            self._by_subject[subject] = {message: None}
        else:
            found[message] = None

    def _given_to(self, subject: str) -> Iterator[Token]:
        """The tokens given to ``subject``, each once."""
        messages = self._by_subject.get(subject)
        if messages is None:
            return
        seen: set[bytes] = set()
        for message in tuple(messages):
            for token in tuple(message.tokens):
                if token.levels[0].sub.uri == subject and (not seen or token.wire not in seen):
                    yield token
                    seen.add(token.wire)
            while (read := self._read_on(message)) is not None:
                if read.levels[0].sub.uri == subject and (not seen or read.wire not in seen):
                    yield read
                    seen.add(read.wire)

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
    if isinstance(subject, ActorID):
        subject = _did_of_pub(subject.pub)
    if isinstance(audience, ActorID):
        audience = _did_of_pub(audience.pub)
    return Question(action, subject, audience, caps, topic, origin, anchor)


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
