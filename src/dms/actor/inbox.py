"""Receiving: the path of every message from the network to its handler (``spec/security.md`` 5.6).

What is cheap comes first: size and turn, addressee and host, room and rate, lifetime, behaviour, replay; then the signature,
then the chain of capabilities. What fails on the way is dropped and counted, and a known caller may be told why.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from dms.actor.behaviour import Behaviour, Behaviours, Message
from dms.actor.envelope import Envelope, decode_envelope
from dms.actor.errors import BadSender, MessageExpired, RateLimited, UnknownBehaviour
from dms.actor.gate import Gate
from dms.actor.handle import Handle
from dms.actor.rates import Traffic, traffic_of
from dms.actor.refusal import MAX_LATE_NS, is_told, refusal_of
from dms.actor.replay_file import LONG_LIVED_NS
from dms.actor.security import SecurityContext
from dms.actor.standing import Standing, Standings
from dms.capability.admission import Carried
from dms.capability.errors import NotAuthorized
from dms.capability.token import Token
from dms.network.protocol import MAX_LARGE_MESSAGE_BYTES, MAX_MESSAGE_BYTES, Verdict
from dms.observe import LimitedLogger, get_logger
from dms.observe.tracing import Kind, span
from dms.types.errors import DMSError
from dms.types.ids import PeerID
from dms.types.traceparent import parse_traceparent

QUIET: Final = ("/liveness", "/healthcheck")
"""Behaviours that are called for as long as something runs: spans of them would never end a trace."""
SWEEP_INTERVAL_S: Final = 120.0
NS_PER_S: Final = 10**9
FETCHED_METHOD: Final = b"did:prism:"
"""Only such DIDs must be fetched; a text that hides it in escapes is not resolved, and does not verify."""
MAX_VALIDATED: Final = 256

Reply = Callable[[Envelope, object], Awaitable[None]]
Receive = Callable[[PeerID, bytes], Awaitable[None]]

log = get_logger(__name__)
dropped = LimitedLogger(log)


class Inbox:
    """Receives for one actor."""

    def __init__(
        self,
        handle: Handle,
        security: SecurityContext,
        behaviours: Behaviours,
        gate: Gate,
        standings: Standings,
        counters: Counter[str],
        reply: Reply,
    ) -> None:
        self._handle = handle
        self._security = security
        self._behaviours = behaviours
        self._gate = gate
        self._standings = standings
        self._counters = counters
        self._reply = reply
        self.nursery: trio.Nursery | None = None
        """In which messages are handled, while it runs."""
        self._messages = _Door(self, self._receive)
        self._broadcasts = _Door(self, self._receive_broadcast)
        self._validated: OrderedDict[bytes, Envelope] = OrderedDict()

    async def run(self) -> None:
        """Handle what comes, until cancelled."""
        async with trio.open_nursery() as self.nursery:
            try:
                while True:
                    await trio.sleep(SWEEP_INTERVAL_S)
                    self._behaviours.sweep(self._security.now_ns())
            finally:
                # what waits in the queue for this inbox has come too late
                nursery, self.nursery = self.nursery, None
                nursery.cancel_scope.cancel()

    async def on_message(self, peer: PeerID, data: bytes) -> None:
        """The network's handler of our protocol. Messages of our own host wait for room instead of being dropped."""
        while not self._gate.offer(peer, data, self._messages):
            if peer != self._handle.addr.host:
                self._drop(peer, RateLimited("rate limit exceeded: too many messages are waiting"))
                return
            await self._gate.wait_for_room()

    def max_bytes(self, peer: PeerID) -> int:
        """How long a message of this peer may be: strangers send small ones."""
        if self._gate.familiar.knows(peer, trio.current_time()):
            return MAX_LARGE_MESSAGE_BYTES
        return MAX_MESSAGE_BYTES

    async def on_broadcast(self, peer: PeerID, data: bytes) -> None:
        """The network's handler of topics; ``peer`` is who published it."""
        if peer == self._handle.addr.host:
            return
        if not self._gate.offer(peer, data, self._broadcasts):
            self._drop(peer, RateLimited("rate limit exceeded: too many messages are waiting"))

    def validator(self, topic: str) -> Callable[[PeerID, bytes], Verdict]:
        """What gossip asks before it passes a broadcast on; ``peer`` is who passed it to us."""

        def validate(peer: PeerID, data: bytes) -> Verdict:
            try:
                message = decode_envelope(data)
                if not message.is_broadcast or message.opt.topic != topic:
                    return Verdict.REJECT
                if not self._gate.limiter.allow(peer, message.be, topic):
                    return Verdict.IGNORE
                if not self._gate.is_slow_enough(peer, Traffic.RELAYED, trio.current_time()):
                    return Verdict.IGNORE
                message.check_lifetime(self._security.now_ns())
                message.check_signature()
            except MessageExpired:
                return Verdict.IGNORE
            except DMSError:
                self._counters["broadcast.rejected"] += 1
                return Verdict.REJECT
            self._validated[data] = message
            if len(self._validated) > MAX_VALIDATED:
                self._validated.popitem(last=False)
            return Verdict.ACCEPT

        return validate

    # one message ---------------------------------------------------------------------------------------------------

    async def guarded(self, receive: Receive, peer: PeerID, data: bytes) -> None:
        """A message that meets a defect of ours must not end the actor."""
        try:
            await receive(peer, data)
        except Exception:
            self._counters["crashed"] += 1
            log.exception("message_crashed", peer=peer, inbox=self._handle.addr.inbox)

    async def _receive(self, peer: PeerID, data: bytes) -> None:
        try:
            message = decode_envelope(data)
            if message.to.id != self._security.id:
                raise BadSender("bad recipient")
            if message.from_.addr.host != peer:
                raise BadSender("bad sender: the message names another host")
        except DMSError as exc:
            self._drop(peer, exc)
            return
        try:
            found = self._admitted(peer, message, topic="")
            message.check_signature()
        except DMSError as exc:
            self._drop(peer, exc)
            await self._refuse(peer, message, exc)
            return
        await self._dispatch(peer, message, *found, topic="")

    async def _receive_broadcast(self, peer: PeerID, data: bytes) -> None:
        known = self._validated.pop(data, None)
        try:
            message = known or decode_envelope(data)
            if not message.is_broadcast:
                raise BadSender("bad recipient: not a broadcast")
            if message.from_.addr.host != peer:
                # else its replies would go to whom it likes, and a captured one could be published again by anybody
                raise BadSender("bad sender: the message names another host")
            found = self._admitted(peer, message, topic=message.opt.topic)
            if known is None:
                message.check_signature()
        except DMSError as exc:
            self._drop(peer, exc)
            return
        await self._dispatch(peer, message, *found, topic=message.opt.topic)

    def _admitted(self, peer: PeerID, message: Envelope, *, topic: str) -> tuple[Behaviour, int, float]:
        """Everything that costs little; the behaviour, the name of the message in the replay window, and trio's time."""
        now_ns, now_s = self._security.now_ns(), trio.current_time()
        if not self._gate.limiter.allow(peer, message.be, topic):
            raise RateLimited("rate limit exceeded: too much runs at once")
        if not self._gate.is_slow_enough(peer, traffic_of(message.be, topic), now_s):
            raise RateLimited
        message.check_lifetime(now_ns)
        behaviour = self._behaviours.find(message.be, now_ns)
        if behaviour is None or (topic and behaviour.topic != topic):
            raise UnknownBehaviour(f"unknown behaviour: {message.be[:200]}")
        return behaviour, self._gate.replay.check(message.from_.id, message.nonce), now_s

    async def _dispatch(
        self, peer: PeerID, message: Envelope, behaviour: Behaviour, name: int, now_s: float, *, topic: str
    ) -> None:
        held: Carried | None = None
        try:
            if FETCHED_METHOD in message.cap:
                with self._gate.fetches.take(peer):
                    await self._security.resolve(message)
                now_s = trio.current_time()
            held = self._authorise(message, behaviour, topic, now_s)
            self._note(message, behaviour, name, now_s)
            with self._gate.limiter.acquire(peer, message.be, topic):
                if behaviour.one_shot:
                    self._behaviours.use_up(behaviour)
                if message.opt.exp - self._security.now_ns() > LONG_LIVED_NS:
                    await self._gate.sync_replay()
                self._counters["dispatched"] += 1
                await self._handle_message(behaviour, message)
        except DMSError as exc:
            self._drop(peer, exc)
            if behaviour.on_denied is not None and isinstance(exc, NotAuthorized):
                behaviour.on_denied(message, exc)
            if not topic:
                await self._refuse(peer, message, exc)
        finally:
            if held is not None:
                self._security.discard(held)

    def _authorise(self, message: Envelope, behaviour: Behaviour, topic: str, now_s: float) -> Carried | None:
        """Prove the sender's authority; its tokens, if any are held now.

        :raises NotAuthorized: it has none.
        """
        admitted: tuple[Token, Carried] | None = None
        if topic:
            admitted = self._security.require_broadcast(message, topic, behaviour.capabilities)
        elif not behaviour.expects(message.from_):
            admitted = self._security.require(message, behaviour.capabilities)
        if admitted is None:
            return None
        token, held = admitted
        self._standings.note(message.from_.did, token, now_s)
        if not topic:
            self._gate.familiar.note(message.from_.addr.host, now_s)
        return held

    def _note(self, message: Envelope, behaviour: Behaviour, name: int, now_s: float) -> None:
        """Messages of this host, and answers to it, stand to its own account. The expiry of an answer is what our own clock
        said when we asked: counted as the sender's, it would make a machine whose clock ran ahead deaf once that is set right.
        """
        sender = message.from_
        is_ours = sender.addr.host == self._handle.addr.host or (behaviour.one_shot and behaviour.expects(sender))
        self._gate.replay.admit(
            name,
            None if is_ours else sender.did,
            message.opt.exp,
            now_ns=self._security.now_ns(),
            elapsed_ns=int(now_s * NS_PER_S),
            is_answer=behaviour.is_answer,
        )

    async def _handle_message(self, behaviour: Behaviour, message: Envelope) -> None:
        try:
            if message.trace:
                answer = await self._traced(behaviour, message)
            else:
                answer = await behaviour.handler(Message(message, message.payload(behaviour.payload)))
        except DMSError as exc:
            log.info("behaviour_failed", behaviour=message.be, sender=str(message.from_.did), error=exc.message)
            answer = behaviour.error_reply(exc.message) if behaviour.error_reply else None
        except Exception as exc:
            log.exception("behaviour_crashed", behaviour=message.be, sender=str(message.from_.did), error=repr(exc))
            answer = behaviour.error_reply("internal error") if behaviour.error_reply else None
        if answer is not None and message.opt.cont:
            await self._answer(message, answer)

    async def _traced(self, behaviour: Behaviour, message: Envelope) -> object:
        """What is done for a message that belongs to a trace is a span of it. The bytes of ``trace`` are nobody's word."""
        context = parse_traceparent(message.trace)
        sender = message.from_.addr.host
        work = partial(behaviour.handler, Message(message, message.payload(behaviour.payload)))
        if message.be.endswith(QUIET):
            return await work()
        with span(message.be, kind=Kind.SERVER, parent=context, peer=self._handle.addr.host, sender=sender):
            return await work()

    async def _answer(self, message: Envelope, answer: object) -> None:
        try:
            await self._reply(message, answer)
        except DMSError as exc:
            self._counters["replies.lost"] += 1
            log.info("reply_lost", behaviour=message.be, to=message.from_.addr.host, error=exc.message)

    # refusals ------------------------------------------------------------------------------------------------------

    async def _refuse(self, peer: PeerID, message: Envelope, error: DMSError) -> None:
        """Tell a known caller why; the limit comes before the work that it takes to know the caller."""
        if not message.opt.cont or not is_told(error) or not self._gate.may_refuse(peer):
            return
        if isinstance(error, MessageExpired) and message.opt.exp + MAX_LATE_NS < self._security.now_ns():
            return
        try:
            message.check_signature()
        except DMSError:
            return
        standing = self._standings.of(message, trio.current_time())
        if standing is Standing.STRANGER:
            return
        self._counters["refusals.told"] += 1
        await self._answer(message, refusal_of(error, standing))

    def _drop(self, peer: PeerID, exc: DMSError) -> None:
        self._counters[f"dropped.{exc.code}"] += 1
        dropped.warning(
            peer, "message_dropped", peer=peer, inbox=self._handle.addr.inbox, reason=exc.message, hint=exc.hint
        )


class _Door:
    """Where messages or broadcasts enter."""

    __slots__ = ("_inbox", "_receive")

    def __init__(self, inbox: Inbox, receive: Receive) -> None:
        self._inbox = inbox
        self._receive = receive

    @property
    def nursery(self) -> trio.Nursery | None:
        return self._inbox.nursery

    async def receive(self, peer: PeerID, data: bytes) -> None:
        await self._inbox.guarded(self._receive, peer, data)
