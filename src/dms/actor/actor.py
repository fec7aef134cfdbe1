"""An actor: an inbox, the behaviours behind it, and the messages that it sends (``spec/security.md`` 5.4–5.8).

Every message takes the same path: parse, is it for us and from the host that it names, is there room, signature and
lifetime, seen before, known behaviour, authority, handler. What fails on the way is dropped and counted; whoever is
not authorised gets no answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import trio
from trio import TaskStatus

from dms.actor.behaviour import Behaviour, Behaviours, ErrorReply, Handler, Message
from dms.actor.envelope import DEFAULT_LIFETIME_NS, Envelope, Options, decode_envelope, encode_payload
from dms.actor.errors import (
    ActorExists,
    BadSender,
    InvocationTimeout,
    MessageExpired,
    MissingOption,
    RateLimited,
)
from dms.actor.handle import NOBODY, ROOT_INBOX, Address, Handle, protocol_of
from dms.actor.limiter import Limiter
from dms.actor.replay import ReplayWindow
from dms.actor.security import SecurityContext
from dms.identity.keys import PrivateKey, generate_key
from dms.network.errors import PeerUnreachable
from dms.network.protocol import Network, Verdict
from dms.observe import LimitedLogger, get_logger
from dms.types.errors import DMSError
from dms.types.ids import Capability, PeerID

REPLY_PREFIX = "/dms/actor/replyto/"
SWEEP_INTERVAL_S = 120.0
NS_PER_S = 10**9

R = TypeVar("R")

log = get_logger(__name__)
dropped = LimitedLogger(log)


class Actor:
    """One inbox on this host. The root actor is made here, all others by :meth:`create_child`."""

    def __init__(
        self,
        security: SecurityContext,
        network: Network,
        *,
        inbox: str = ROOT_INBOX,
        limiter: Limiter | None = None,
        replay: ReplayWindow | None = None,
    ) -> None:
        self.security = security
        self.network = network
        self.handle = Handle(id=security.id, did=security.did, addr=Address(host=network.peer_id, inbox=inbox))
        self.children: dict[str, Actor] = {}
        self.counters: Counter[str] = Counter()
        self._behaviours = Behaviours()
        self._limiter = limiter or Limiter(own_host=network.peer_id)
        self._replay = replay or ReplayWindow()
        self._parent: Actor | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._subscriptions: dict[str, int] = {}

    @property
    def inbox(self) -> str:
        """The name under which it receives."""
        return self.handle.addr.inbox

    # life ----------------------------------------------------------------------------------------------------------

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive and dispatch until cancelled or :meth:`stop`; children end with it."""
        protocol = protocol_of(self.inbox)
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.network.handle(protocol, self._on_message)
                try:
                    task_status.started()
                    while True:
                        await trio.sleep(SWEEP_INTERVAL_S)
                        self._behaviours.sweep(self.security.now_ns())
                finally:
                    self.network.unhandle(protocol)
                    self._nursery = None
                    with trio.CancelScope(shield=True):
                        for subscription in self._subscriptions.values():
                            await self.network.unsubscribe(subscription)
                    self._subscriptions.clear()
                    nursery.cancel_scope.cancel()
        if self._parent is not None:
            self._parent.children.pop(self.inbox, None)
        self._ended.set()

    def stop(self) -> None:
        """End :meth:`run`."""
        self._scope.cancel()

    async def aclose(self) -> None:
        """End :meth:`run` and wait for it."""
        self.stop()
        await self._ended.wait()

    def start_soon(self, task: Callable[..., Any], *args: object) -> None:
        """Run something as long as this actor lives; what it raises is logged and hurts nobody else."""
        if self._nursery is None:
            raise RuntimeError(f"actor {self.inbox} does not run")
        self._nursery.start_soon(self._guarded, task, args)

    async def create_child(self, inbox: str, key: PrivateKey | None = None) -> Actor:
        """A running actor with its own key (fresh, unless given) and inbox, and the identity of this one.

        :raises ActorExists: the inbox is taken.
        """
        if inbox in self.children or inbox == self.inbox:
            raise ActorExists(f"actor already exists: {inbox}")
        if self._nursery is None:
            raise RuntimeError(f"actor {self.inbox} does not run")
        security = SecurityContext(key or generate_key(), self.security.capabilities, clock_ns=self.security.now_ns)
        child = Actor(security, self.network, inbox=inbox, limiter=self._limiter, replay=self._replay)
        child._parent = self
        self.children[inbox] = child
        await self._nursery.start(child.run)
        return child

    # behaviours ----------------------------------------------------------------------------------------------------

    def on(
        self,
        name: str,
        handler: Handler,
        *,
        payload: Any = Any,  # the type to decode as; any type is possible
        capabilities: Sequence[Capability] = (),
        topic: str = "",
        expiry_ns: int = 0,
        one_shot: bool = False,
        error_reply: ErrorReply | None = None,
    ) -> None:
        """Answer to ``name``; see :class:`Behaviour`."""
        self._behaviours.add(
            Behaviour(
                name=name,
                handler=handler,
                payload=payload,
                capabilities=tuple(capabilities) or (Capability(name),),
                topic=topic,
                expiry_ns=expiry_ns,
                one_shot=one_shot,
                error_reply=error_reply,
            )
        )

    def off(self, name: str) -> None:
        """Stop answering; unknown names are ignored."""
        self._behaviours.remove(name)

    async def subscribe(self, topic: str) -> None:
        """Receive the broadcasts of a topic; twice is once."""
        if topic in self._subscriptions:
            return
        self._subscriptions[topic] = await self.network.subscribe(topic, self._on_broadcast, self._validator(topic))

    # sending -------------------------------------------------------------------------------------------------------

    def envelope(
        self,
        to: Handle,
        behaviour: str,
        payload: object,
        *,
        lifetime_ns: int = DEFAULT_LIFETIME_NS,
        reply_to: str = "",
        topic: str = "",
    ) -> Envelope:
        """An unsigned message from this actor."""
        return Envelope(
            to=to,
            be=behaviour,
            from_=self.handle,
            nonce=self.security.next_nonce(),
            opt=Options(exp=self.security.now_ns() + lifetime_ns, cont=reply_to, topic=topic),
            msg=encode_payload(payload),
        )

    async def send(
        self, to: Handle, behaviour: str, payload: object, *, timeout_s: float = 30.0, reply_to: str = ""
    ) -> None:
        """Send without waiting for an answer.

        :raises PeerUnreachable: the message could not be delivered before its expiry.
        """
        message = self.envelope(to, behaviour, payload, lifetime_ns=_ns(timeout_s), reply_to=reply_to)
        await self._deliver(self._authorise(message))

    async def invoke(
        self, to: Handle, behaviour: str, payload: object, reply: type[R], *, timeout_s: float = 30.0
    ) -> R:
        """Send, and return the reply's payload as ``reply``.

        :raises InvocationTimeout: no reply in time.
        :raises PeerUnreachable: the message could not be delivered.
        :raises BadJSON: the reply is something else.
        """
        message = self.envelope(to, behaviour, payload, lifetime_ns=_ns(timeout_s))
        cont = f"{REPLY_PREFIX}{message.nonce}"
        message = msgspec.structs.replace(message, opt=msgspec.structs.replace(message.opt, cont=cont))
        answered, answer = trio.Event(), []

        async def take(reply_message: Message[Any]) -> None:
            answer.append(reply_message.envelope)
            answered.set()

        self.on(cont, take, expiry_ns=message.opt.exp, one_shot=True)
        try:
            with trio.move_on_after(timeout_s):
                await self._deliver(self._authorise(message))
                await answered.wait()
        finally:
            self.off(cont)
        if not answer:
            raise InvocationTimeout(f"no reply to {behaviour} from {to.addr.host or to.did} within {timeout_s:g} s")
        envelope: Envelope = answer[0]
        return envelope.payload(reply)

    async def publish(
        self, topic: str, behaviour: str, payload: object, *, timeout_s: float = 30.0, reply_to: str = ""
    ) -> None:
        """Broadcast on a topic; replies go to ``reply_to``, which must be a behaviour of this actor."""
        message = self.envelope(NOBODY, behaviour, payload, lifetime_ns=_ns(timeout_s), reply_to=reply_to, topic=topic)
        signed = self.security.provide_broadcast(message, topic, [Capability(behaviour)])
        await self.network.publish(topic, signed.encode())

    async def reply(self, request: Envelope, payload: object) -> None:
        """Answer a message that asked for it.

        :raises MissingOption: it did not.
        :raises PeerUnreachable: the requester is gone.
        """
        if not request.opt.cont:
            raise MissingOption
        message = Envelope(
            to=request.from_,
            be=request.opt.cont,
            from_=self.handle,
            nonce=self.security.next_nonce(),
            opt=Options(exp=request.opt.exp),
            msg=encode_payload(payload),
        )
        await self._deliver(self._authorise(message))

    def _authorise(self, message: Envelope) -> Envelope:
        cont = message.opt.cont
        return self.security.provide(message, [Capability(message.be)], [Capability(cont)] if cont else [])

    async def _deliver(self, message: Envelope) -> None:
        left_ns = message.opt.exp - self.security.now_ns()
        if left_ns <= 0:
            raise MessageExpired
        to = message.to.addr
        await self.network.send(
            to.host, protocol_of(to.inbox or ROOT_INBOX), message.encode(), timeout_s=left_ns / NS_PER_S
        )

    # receiving -----------------------------------------------------------------------------------------------------

    async def _on_message(self, peer: PeerID, data: bytes) -> None:
        with self._counting_drops(peer):
            message = decode_envelope(data)
            if message.to.id != self.security.id:
                raise BadSender("bad recipient")
            if message.from_.addr.host != peer:
                raise BadSender("bad sender: the message names another host")
            await self._dispatch(peer, message, topic="")

    async def _on_broadcast(self, peer: PeerID, data: bytes) -> None:
        with self._counting_drops(peer):
            message = decode_envelope(data)
            if message.from_.addr.host == self.network.peer_id:
                return
            await self._dispatch(peer, message, topic=message.opt.topic)

    async def _dispatch(self, peer: PeerID, message: Envelope, *, topic: str) -> None:
        host, now_ns = message.from_.addr.host, self.security.now_ns()
        if not self._limiter.allow(host, message.be, topic):
            raise RateLimited
        message.verify(now_ns)
        behaviour = self._behaviours.find(message.be, now_ns)
        if behaviour is None or (topic and behaviour.topic != topic):
            self.counters["dropped.unknown_behaviour"] += 1
            return
        if topic:
            self.security.require_broadcast(message, topic, behaviour.capabilities)
        else:
            self.security.require(message, behaviour.capabilities)
        try:
            # after authority is proven: strangers must not fill the window
            self._replay.admit(message.from_.id, message.nonce, message.opt.exp, now_ns)
            with self._limiter.acquire(host, message.be, topic):
                if behaviour.one_shot:
                    self._behaviours.remove(behaviour.name)
                self.counters["dispatched"] += 1
                await self._handle(behaviour, message)
        finally:
            self.security.discard(message)

    async def _handle(self, behaviour: Behaviour, message: Envelope) -> None:
        try:
            answer = await behaviour.handler(Message(message, message.payload(behaviour.payload)))
        except DMSError as exc:
            log.info("behaviour_failed", behaviour=message.be, sender=str(message.from_.did), error=exc.message)
            answer = behaviour.error_reply(exc.message) if behaviour.error_reply else None
        except Exception as exc:
            log.exception("behaviour_crashed", behaviour=message.be, sender=str(message.from_.did), error=repr(exc))
            answer = behaviour.error_reply("internal error") if behaviour.error_reply else None
        if answer is None or not message.opt.cont:
            return
        try:
            await self.reply(message, answer)
        except (PeerUnreachable, MessageExpired) as exc:
            self.counters["replies.lost"] += 1
            log.info("reply_lost", behaviour=message.be, to=message.from_.addr.host, error=exc.message)

    def _validator(self, topic: str) -> Callable[[PeerID, bytes], Verdict]:
        def validate(peer: PeerID, data: bytes) -> Verdict:
            try:
                message = decode_envelope(data)
                if not message.is_broadcast or message.opt.topic != topic:
                    return Verdict.REJECT
                if not self._limiter.allow(peer, message.be, topic):
                    return Verdict.IGNORE
                message.verify(self.security.now_ns())
            except MessageExpired:
                return Verdict.IGNORE
            except DMSError:
                self.counters["broadcast.rejected"] += 1
                return Verdict.REJECT
            return Verdict.ACCEPT

        return validate

    @contextmanager
    def _counting_drops(self, peer: PeerID) -> Iterator[None]:
        """Whatever a message from outside raises ends here."""
        try:
            yield
        except DMSError as exc:
            self._drop(peer, exc)

    def _drop(self, peer: PeerID, exc: DMSError) -> None:
        self.counters[f"dropped.{exc.code}"] += 1
        dropped.warning(peer, "message_dropped", peer=peer, inbox=self.inbox, reason=exc.message, hint=exc.hint)

    async def _guarded(self, task: Callable[..., Any], args: tuple[object, ...]) -> None:
        try:
            await task(*args)
        except Exception:
            log.exception("actor_task_failed", inbox=self.inbox, task=getattr(task, "__qualname__", str(task)))


def _ns(seconds: float) -> int:
    return math.ceil(seconds * NS_PER_S)
