"""An actor: an inbox, the behaviours behind it, and the messages that it sends (``spec/security.md`` 5.4–5.8).

What arrives goes through :mod:`dms.actor.inbox`; what is sent is made, authorised and signed here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
import trio
from trio import TaskStatus

from dms.actor.behaviour import Behaviour, Behaviours, ErrorReply, Handler, Message, OnDenied
from dms.actor.children import Children
from dms.actor.envelope import DEFAULT_LIFETIME_NS, Envelope, Options, encode_payload
from dms.actor.errors import ActorExists, InvocationTimeout, MessageExpired, MissingOption
from dms.actor.gate import Gate
from dms.actor.grants import LIFETIME_S, Grant, Grants
from dms.actor.handle import NOBODY, ROOT_INBOX, Address, Handle, protocol_of
from dms.actor.health import GRANT_LIFETIME_S, HEALTH_CAP, HEALTH_CHECK, REGISTER, Health, Registration, health_error
from dms.actor.inbox import Inbox
from dms.actor.refusal import Refusal, read_refusal
from dms.actor.security import GRANT_DEPTH, SecurityContext
from dms.actor.standing import Standings
from dms.actor.supervision import Restart
from dms.identity.ids import DID, did_of
from dms.identity.keys import PrivateKey, generate_key
from dms.network.protocol import Network
from dms.observe import EventBus, get_logger
from dms.observe.tracing import current_traceparent
from dms.types.ids import Capability

REPLY_PREFIX = "/dms/actor/replyto/"
LATE_REPLY_S = 30.0
"""How long a refusal that comes after the request's expiry may be under way: its receiver's clock is behind ours."""
NS_PER_S = 10**9

R = TypeVar("R")
Body = Callable[["Actor"], Awaitable[None]]
"""What an actor does beside answering. Its return is the actor's end, what it raises the actor's failure."""

log = get_logger(__name__)


class _Common:
    """What a root actor shares with its children."""

    def __init__(self, gate: Gate, security: SecurityContext) -> None:
        self.gate = gate
        self.events = EventBus(now=lambda: security.now_ns() / NS_PER_S)
        self.grants = Grants(security)
        self.standings = Standings(security.capabilities)


class Actor:
    """One inbox on this host. The root actor is made here, all others by :meth:`create_child`.

    :param gate: what bounds the messages to this actor and its children.
    :param children: how its children are supervised.
    """

    def __init__(
        self,
        security: SecurityContext,
        network: Network,
        *,
        inbox: str = ROOT_INBOX,
        gate: Gate | None = None,
        children: Children | None = None,
        parent: Actor | None = None,
    ) -> None:
        self.security = security
        self.network = network
        self.handle = Handle(id=security.id, did=security.did, addr=Address(host=network.peer_id, inbox=inbox))
        self.children = Children() if children is None else children
        self.health = Health()
        self.counters: Counter[str] = Counter()
        self._parent = parent
        self._body: Body | None = None
        self._behaviours = Behaviours()
        self.common: _Common = parent.common if parent else _Common(gate or Gate(network.peer_id), security)
        self._inbox = Inbox(
            self.handle,
            security,
            self._behaviours,
            self.common.gate,
            self.common.standings,
            self.counters,
            self._reply_to,
        )
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._subscriptions: dict[str, int] = {}

    @property
    def events(self) -> EventBus:
        """Where this node tells what happens."""
        return self.common.events

    @property
    def inbox(self) -> str:
        """The name under which it receives."""
        return self.handle.addr.inbox

    # life ----------------------------------------------------------------------------------------------------------

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive and dispatch until cancelled or :meth:`stop`; children end with it. Behaviours and grants outlast a run."""
        protocol = protocol_of(self.inbox)
        self.network.handle(protocol, self._inbox.on_message, max_bytes=self._inbox.max_bytes)
        try:
            with trio.CancelScope() as self._scope:
                async with trio.open_nursery() as self._nursery:
                    if self._parent is None:
                        self._nursery.start_soon(self.common.gate.run)
                        self._nursery.start_soon(self.common.grants.keep)
                    task_status.started()
                    self._nursery.start_soon(self._inbox.run)
                    await self._act()
                    self._nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            self.network.unhandle(protocol)
            with trio.CancelScope(shield=True):
                for subscription in self._subscriptions.values():
                    await self.network.unsubscribe(subscription)
            self._subscriptions.clear()
            if self._parent is None:
                self.finish()

    async def _act(self) -> None:
        if self._body is None:
            await trio.sleep_forever()
        else:
            await self._body(self)

    def cancel(self) -> None:
        """End this run; whoever runs it may run it again."""
        self._scope.cancel()

    def stop(self) -> None:
        """End it for good."""
        if self._parent is not None:
            self._parent.children.stop(self.inbox)
        self.cancel()

    def finish(self) -> None:
        """It runs no more: take back what it granted. Called by whoever ran it."""
        self.common.grants.withdraw_all(self.inbox)
        self._ended.set()

    async def aclose(self) -> None:
        """End it for good and wait for that."""
        self.stop()
        await self._ended.wait()

    def start_soon(self, task: Callable[..., Any], *args: object) -> None:
        """Run something as long as this actor lives; what it raises is logged and hurts nobody else."""
        if self._nursery is None:
            raise RuntimeError(f"actor {self.inbox} does not run")
        self._nursery.start_soon(self._guarded, task, args)

    async def create_child(
        self,
        inbox: str,
        key: PrivateKey | None = None,
        *,
        supervisor: Handle | None = None,
        body: Body | None = None,
        restart: Restart = Restart.TRANSIENT,
    ) -> Actor:
        """A running actor with its own key (fresh, unless given) and inbox, and the identity of this one; see
        :meth:`prepare_child` and :meth:`start_child`.

        :raises ActorExists: the inbox is taken.
        """
        child = self.prepare_child(inbox, key)
        await self.start_child(child, supervisor=supervisor, body=body, restart=restart)
        return child

    def prepare_child(self, inbox: str, key: PrivateKey | None = None) -> Actor:
        """A child that does not run yet, so that its behaviours can be set up before it receives.

        :raises ActorExists: the inbox is taken.
        """
        if inbox in self.children or inbox == self.inbox:
            raise ActorExists(f"actor already exists: {inbox}")
        security = SecurityContext(key or generate_key(), self.security.capabilities, clock_ns=self.security.now_ns)
        child = Actor(security, self.network, inbox=inbox, parent=self)
        child.answer_for_health()
        return child

    async def start_child(
        self,
        child: Actor,
        *,
        supervisor: Handle | None = None,
        body: Body | None = None,
        restart: Restart = Restart.TRANSIENT,
    ) -> None:
        """Run a child; when it fails it is run again, as :mod:`dms.actor.supervision` says.

        :param supervisor: who may ask for its health.
        :param body: what it does beside answering. With it fail all tasks of the actor, and are not started again but by it.
        :raises ActorExists: the inbox is taken.
        """
        if self._nursery is None:
            raise RuntimeError(f"actor {self.inbox} does not run")
        child._body = body
        await self.children.start(self._nursery, child, restart)
        if supervisor is not None and supervisor.id != child.handle.id:
            own = did_of(child.security.id.public_key())
            try:
                child.grant(supervisor.did, own, [HEALTH_CAP], lifetime_s=GRANT_LIFETIME_S, depth=0)
            except BaseException:
                child.stop()
                raise

    # what others may do here ---------------------------------------------------------------------------------------

    def grant(
        self,
        subject: DID,
        audience: DID,
        caps: Sequence[Capability],
        *,
        lifetime_s: float = LIFETIME_S,
        depth: int = GRANT_DEPTH,
    ) -> Grant:
        """Let ``subject`` use ``caps`` at ``audience`` until this actor ends or :meth:`withdraw`; twice is once.

        :raises DMSError: it cannot be signed.
        """
        grant = Grant(subject, audience, tuple(caps), lifetime_s, depth)
        self.common.grants.give(self.inbox, grant)
        return grant

    def withdraw(self, grant: Grant) -> None:
        """Take a grant back at once."""
        self.common.grants.withdraw(self.inbox, grant)

    def answer_for_health(self) -> None:
        """Answer to health checks; children do from the start."""
        self.on(HEALTH_CHECK, self.health.on_check, error_reply=health_error)
        self.on(REGISTER, self.health.on_register, payload=Registration, error_reply=health_error)

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
        is_answer: bool = False,
        error_reply: ErrorReply | None = None,
        expected: Handle | None = None,
        on_denied: OnDenied | None = None,
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
                is_answer=is_answer,
                error_reply=error_reply,
                expected=expected,
                on_denied=on_denied,
            )
        )

    def off(self, name: str) -> None:
        """Stop answering; unknown names are ignored."""
        self._behaviours.remove(name)

    async def subscribe(self, topic: str) -> None:
        """Receive the broadcasts of a topic; twice is once."""
        if topic in self._subscriptions:
            return
        validator = self._inbox.validator(topic)
        self._subscriptions[topic] = await self.network.subscribe(topic, self._inbox.on_broadcast, validator)

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
            trace=current_traceparent(),
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

        :raises RemoteError: the other side tells that it refused the message, and why.
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

        self.on(cont, take, expiry_ns=message.opt.exp, one_shot=True, expected=to)
        try:
            with trio.move_on_after(timeout_s):
                await self._deliver(self._authorise(message))
                await answered.wait()
        finally:
            self.off(cont)
        if not answer:
            raise InvocationTimeout(f"no reply to {behaviour} from {to.addr.host or to.did} within {timeout_s:g} s")
        envelope: Envelope = answer[0]
        refusal = read_refusal(envelope.msg)
        if refusal is not None:
            raise refusal
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
        :raises MessageExpired: it is too late.
        :raises PeerUnreachable: the requester is gone.
        """
        if not request.opt.cont:
            raise MissingOption
        await self._deliver(self._authorise(self._answer(request, payload)))

    async def _reply_to(self, request: Envelope, payload: object) -> None:
        """The same for the inbox, whose refusals go to those as well whose clock is behind ours."""
        if not isinstance(payload, Refusal):
            await self.reply(request, payload)
            return
        message = self._authorise(self._answer(request, payload))
        left_s = (message.opt.exp - self.security.now_ns()) / NS_PER_S
        await self._send(message, left_s if left_s > 0 else LATE_REPLY_S)

    def _answer(self, request: Envelope, payload: object) -> Envelope:
        return Envelope(
            to=request.from_,
            be=request.opt.cont,
            from_=self.handle,
            nonce=self.security.next_nonce(),
            opt=Options(exp=request.opt.exp),
            msg=encode_payload(payload),
        )

    def _authorise(self, message: Envelope) -> Envelope:
        cont = message.opt.cont
        return self.security.provide(message, [Capability(message.be)], [Capability(cont)] if cont else [])

    async def _deliver(self, message: Envelope) -> None:
        left_ns = message.opt.exp - self.security.now_ns()
        if left_ns <= 0:
            raise MessageExpired
        await self._send(message, left_ns / NS_PER_S)

    async def _send(self, message: Envelope, timeout_s: float) -> None:
        to = message.to.addr
        self.common.gate.familiar.note(to.host, trio.current_time())
        await self.network.send(to.host, protocol_of(to.inbox or ROOT_INBOX), message.encode(), timeout_s=timeout_s)

    async def _guarded(self, task: Callable[..., Any], args: tuple[object, ...]) -> None:
        try:
            await task(*args)
        except Exception:
            log.exception("actor_task_failed", inbox=self.inbox, task=getattr(task, "__qualname__", str(task)))


def _ns(seconds: float) -> int:
    return math.ceil(seconds * NS_PER_S)
