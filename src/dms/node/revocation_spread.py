"""How revocations reach this node and go on from it (``spec/security.md`` 3.7).

Three ways, one door. Somebody anchors one here, or publishes it on ``/nunet/revocation``, which gossip carries on by its
own means; and what was missed while this node was away is asked for at peers: at a few of those it connects to, then at
one now and then, for as long as it runs. What passes the door is in force at once, for anchors and for tokens that were
admitted already, and is in the file before anybody is told that it was taken up.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import trio

from dms.actor.actor import Actor
from dms.actor.errors import RateLimited
from dms.actor.handle import handle_of_peer, protocol_of
from dms.capability.errors import BadToken, BlobTooBig, CapabilityExpired, TooManyRevocations
from dms.capability.token import Token, TokenList, encode_token_list
from dms.identity.errors import UnresolvedDID
from dms.identity.ids import DID
from dms.node.capability_file import AnchorKeeper
from dms.node.capability_payloads import MissedReply, MissedRequest
from dms.node.revocations import Allowance, Gate, Judgement, Limits, Summary
from dms.observe import LimitedLogger, catalogue, get_logger
from dms.tasks import Fired, Interval, Retry, Scheduler, TaskID
from dms.types.errors import Denied, DMSError, Unavailable
from dms.types.ids import PeerID

MISSED = "/dms/cap/revoke/missed"
ASK_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 10.0
SUMMARY_INTERVAL_S = 1.0
MAX_PAGES = 64
SLICE = 16
"""Signatures verified between two breaths."""

log = get_logger(__name__)
refused = LimitedLogger(log)


@dataclass(frozen=True, slots=True)
class SpreadOptions:
    """Intervals in seconds, and what one peer may bring and ask."""

    ask_delay_s: tuple[float, float] = (0.2, 1.0)
    """After a peer has come."""
    ask_retry_s: tuple[float, ...] = (5.0, 30.0)
    """After it did not answer."""
    newcomers: tuple[float, float] = (3.0, 1 / 20)
    """How many of the peers that come are asked: so many at once, so many per second after that."""
    interval_s: tuple[float, float] = (300.0, 900.0)
    """Between two questions when nobody comes."""
    write_interval_s: float = 1.0
    """Between two writes of what was published: all that comes meanwhile goes into one."""
    write_retry_s: float = 30.0
    brought: tuple[float, float] = (2048.0, 32.0)
    """Revocations that one peer may publish: so many at once, so many per second."""
    asked: tuple[float, float] = (2.0 * MAX_PAGES, 1.0)
    """Pages that one peer may ask for."""
    limits: Limits = field(default_factory=Limits)


class RevocationSpread:
    """Takes up what comes, answers who asks, asks others."""

    def __init__(self, root: Actor, anchors: AnchorKeeper, options: SpreadOptions | None = None) -> None:
        self.counters: Counter[str] = Counter()
        self._root = root
        self._anchors = anchors
        self._options = options = options or SpreadOptions()
        self._gate = Gate(options.limits)
        self._brought = Allowance(*options.brought, trio.current_time)
        self._asked = Allowance(*options.asked, trio.current_time)
        self._newcomers = Allowance(*options.newcomers, trio.current_time)
        self._rng = random.Random(f"revocations of {root.network.peer_id}")  # noqa: S311  only spreads them in time
        self._asking = trio.Lock()
        self._summary_due = float("-inf")
        self._summary: tuple[tuple[Token | None, ...], Summary] = ((), Summary())
        self._batch = _Batch()
        self._tasks: Scheduler | None = None
        self._writing: TaskID | None = None

    def attend(self, tasks: Scheduler) -> None:
        """Write what is published, and ask others now and then: what no other way brought comes like this."""
        self._tasks = tasks
        shortest_s, longest_s = self._options.interval_s
        tasks.add("revocations_ask", self._ask_somebody, Interval(shortest_s, jitter_s=longest_s - shortest_s))
        retry_s = self._options.write_retry_s
        self._writing = tasks.add(
            "revocations_write",
            self._write,
            Fired(gap_s=self._options.write_interval_s),
            retry=Retry(max_retries=sys.maxsize, base_s=retry_s, max_s=retry_s, jitter=0.0),
        )
        tasks.fire(self._writing)  # for what came before this

    # in ------------------------------------------------------------------------------------------------------------

    async def anchor(self, tokens: TokenList, peer: PeerID, sender: DID) -> int:
        """Take up revocations that ``sender`` wants anchored here; how many were new. Durable when this returns.

        :raises DMSError: one of them cannot be, and which rule stands against it; none was.
        """
        context = self._anchors.context
        is_trusted = sender == context.did or sender in context.list_roots()[0]
        if not is_trusted:
            self._charge(peer, tokens)
        chosen, judged = self._choose(tokens.tok, peer, is_trusted=is_trusted)
        for judgement in judged:
            if judgement not in (Judgement.KEEP, Judgement.KNOWN):
                raise _refusal(judgement)
        if chosen:
            await self._resolve(chosen)
            await self._anchors.change(lambda held: held.add_roots(revoke=TokenList.of(*chosen)))
            self._note(chosen, peer)
        return len(chosen)

    async def publish_received(self, tokens: TokenList, peer: PeerID) -> int:
        """Take up revocations that ``peer`` published; how many were new. Durable when this returns.

        :raises RateLimited: it has published too many.
        :raises DMSError: a signature does not fit: nothing after that is looked at.
        """
        self._charge(peer, tokens)
        return await self._take_up(tokens.tok, peer)

    async def _write(self) -> None:
        """Write to the file what was published.

        :raises DMSError: it cannot be written now.
        """
        batch, self._batch = self._batch, _Batch()
        if not batch.tokens:
            batch.tell()
            return
        tokens = TokenList.of(*batch.tokens)
        try:
            await self._anchors.change(lambda held: held.add_roots(revoke=tokens))
        except DMSError as exc:
            log.error("revocations_not_written", count=len(tokens), reason=exc.message, hint=exc.hint)
            self._batch.take_over(batch)
            raise
        batch.tell()

    def _charge(self, peer: PeerID, tokens: TokenList) -> None:
        if not self._brought.take(peer, max(1, len(tokens.tok))):
            self.counters["refused.rate"] += 1
            raise RateLimited(hint="publish fewer revocations at once")

    async def _take_up(self, offered: Sequence[Token | None], peer: PeerID) -> int:
        chosen, judged = self._choose(offered, peer)
        for judgement, count in judged.items():
            if judgement not in (Judgement.KEEP, Judgement.KNOWN, Judgement.EXPIRED):
                refused.warning(
                    (peer, judgement), "revocations_refused", peer=peer, reason=judgement.value, count=count
                )
        if not chosen:
            return 0
        taken: list[Token] = []
        try:
            for start in range(0, len(chosen), SLICE):
                taken += await self._verified(chosen[start : start + SLICE])
        except DMSError as exc:
            self.counters["refused.forged"] += 1
            self._brought.forfeit(peer)
            refused.warning((peer, "forged"), "revocations_refused", peer=peer, reason=exc.message)
            raise
        finally:
            self._note(taken, peer)
            written = self._batch.add(taken)
            if self._tasks is not None and self._writing is not None:
                self._tasks.fire(self._writing)
        with trio.move_on_after(WRITE_TIMEOUT_S) as patience:
            await written.wait()
        if patience.cancelled_caught:
            raise Unavailable("the revocations are in force here, but could not be written to the disk yet")
        return len(taken)

    async def _verified(self, tokens: list[Token]) -> list[Token]:
        """Put them in force; those whose issuer's key cannot be had are left out.

        :raises DMSError: a signature does not fit.
        """
        await trio.lowlevel.checkpoint()
        context = self._anchors.context
        try:
            context.add_roots(revoke=TokenList.of(*tokens))
        except UnresolvedDID:
            if len(tokens) == 1:
                self.counters["refused.unresolved"] += 1
                return []
            await self._resolve(tokens)
            return [one for token in tokens for one in await self._verified([token])]
        return tokens

    async def _resolve(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            if token.body.iss.method != "key":
                await self._anchors.context.resolve(encode_token_list(TokenList.of(token)))

    def _choose(
        self, offered: Iterable[Token | None], peer: PeerID, *, is_trusted: bool = False
    ) -> tuple[list[Token], Counter[Judgement]]:
        context = self._anchors.context
        chosen, judged = self._gate.choose(
            offered,
            peer,
            held=context.list_roots()[3].tokens,
            known=self._known_issuers(),
            now_ns=self._root.security.now_ns(),
            is_trusted=is_trusted,
        )
        for judgement, count in judged.items():
            self.counters[f"judged.{judgement.name.lower()}"] += count
        return chosen, judged

    def _note(self, tokens: list[Token], peer: PeerID) -> None:
        if tokens:
            self._gate.note(tokens, peer, self._known_issuers())
            self.counters["taken up"] += len(tokens)
            log.info("revocations_taken_up", count=len(tokens), peer=peer)
            self._root.events.emit(catalogue.REVOCATIONS_TAKEN, count=len(tokens), peer=peer)

    def _known_issuers(self) -> set[DID]:
        """Who stands in our anchors: their revocations concern us."""
        context = self._anchors.context
        roots, require, provide, _ = context.list_roots()
        known = {context.did, *roots}
        for token in (*require.tokens, *provide.tokens):
            known |= token.issuers
            known.add(token.body.sub)
        return known

    # out -----------------------------------------------------------------------------------------------------------

    def missed(self, request: MissedRequest, peer: PeerID) -> MissedReply:
        """A page of what ``peer`` may lack.

        :raises RateLimited: it asks too often.
        :raises BadInput: its digests are none.
        """
        if not self._asked.take(peer):
            raise RateLimited(hint="ask again later")
        page, after = self.summary().page(request.digests, request.after)
        self.counters["answered"] += 1
        return MissedReply(ok=True, token=TokenList.of(*page), next=after)

    def summary(self) -> Summary:
        """What is in force here, or was a moment ago: of ten thousand it takes a tenth of a second to make, and while
        they change many may ask."""
        if trio.current_time() >= self._summary_due:
            self._summary_due = trio.current_time() + SUMMARY_INTERVAL_S
            tokens = self._anchors.context.list_roots()[3].tok
            if tokens != self._summary[0]:
                self._summary = (tokens, Summary(token for token in tokens if token is not None))
        return self._summary[1]

    # asking --------------------------------------------------------------------------------------------------------

    def on_peer(self, peer: PeerID) -> None:
        """A peer has come: it may know what we missed."""
        if self._speaks(peer) and self._newcomers.take(PeerID("")):
            self._root.start_soon(self._ask_newcomer, peer)

    async def _ask_somebody(self) -> None:
        peers = sorted({found.peer for found in self._root.network.peers() if self._speaks(found.peer)})
        if peers:
            await self.ask(self._rng.choice(peers))

    async def ask(self, peer: PeerID) -> bool:
        """Ask a peer for all that we lack; whether it answered."""
        async with self._asking:  # the second of two who know the same has nothing to tell then
            digests, after, taken = self.summary().digests, b"", 0
            try:
                for _ in range(MAX_PAGES):
                    request = MissedRequest(digests=digests, after=after)
                    reply = await self._root.invoke(
                        handle_of_peer(peer), MISSED, request, MissedReply, timeout_s=ASK_TIMEOUT_S
                    )
                    if not reply.ok:
                        raise Unavailable(reply.error[:200])
                    taken += await self._take_up(reply.token.tok, peer)
                    if reply.next <= after:
                        break
                    after = reply.next
            except DMSError as exc:
                self.counters["asked.failed"] += 1
                log.debug("revocations_not_asked", peer=peer, error=exc.message)
                return isinstance(exc, Denied)
        self.counters["asked"] += 1
        return True

    async def _ask_newcomer(self, peer: PeerID) -> None:
        await trio.sleep(self._rng.uniform(*self._options.ask_delay_s))
        for pause_s in (*self._options.ask_retry_s, 0.0):
            if not self._root.network.is_connected(peer) or await self.ask(peer):
                return
            await trio.sleep(pause_s * self._rng.uniform(1.0, 2.0))

    def _speaks(self, peer: PeerID) -> bool:
        protocol = protocol_of(self._root.inbox)
        return any(found.peer == peer and protocol in found.protocols for found in self._root.network.peers())


class _Batch:
    """Revocations in force that are not in the file yet, and who waits for them to be."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self._waiting: list[trio.Event] = []

    def add(self, tokens: Iterable[Token]) -> trio.Event:
        """Add some; the event of their being written."""
        self.tokens += tokens
        self._waiting.append(trio.Event())
        return self._waiting[-1]

    def take_over(self, earlier: _Batch) -> None:
        """Write those of a batch that failed, too."""
        self.tokens = [*earlier.tokens, *self.tokens]
        self._waiting += earlier._waiting

    def tell(self) -> None:
        """They are written."""
        for event in self._waiting:
            event.set()


def _refusal(judgement: Judgement) -> DMSError:
    match judgement:
        case Judgement.EXPIRED:
            return CapabilityExpired("capability expired: the revoked token is over, so nothing is left to revoke")
        case Judgement.MALFORMED:
            return BadToken("bad token: not a revocation", hint="make one with `nunet cap revoke`")
        case Judgement.TOO_LARGE:
            return BlobTooBig("capability blob too big: a revocation of this size is not kept")
        case _:
            return TooManyRevocations(judgement.value)
