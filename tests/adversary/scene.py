"""Where the attacks happen: nodes that accept the members of one organisation, and everybody's network in memory.

The nodes are real actors with real keys and contexts. The wall clock of each follows trio's and can be moved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from tests.adversary.attacker import NOBODY, ROOT_PROTOCOL, SECOND_NS, Json, Person, token_list

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.gate import Gate
from dms.actor.replay_file import open_window
from dms.actor.security import SecurityContext
from dms.capability.context import CapabilityContext
from dms.capability.token import Token, TokenList, decode_token_list
from dms.identity.ids import DID
from dms.identity.trust import Provider, TrustContext
from dms.testing.actors import EPOCH_NS
from dms.testing.network import MemoryNetwork, VirtualNetwork
from dms.types.ids import PeerID

YEAR_NS = 365 * 86400 * SECOND_NS
MEMBER_CAPS = ("/public", "/broadcast", "/dms/deployment")
TOPIC = "/nunet/hello"
SETTLE_S = 1.0


class Clock:
    """A wall clock that follows trio's, and can be set wrong."""

    def __init__(self) -> None:
        self.offset_ns = 0

    def __call__(self) -> int:
        return EPOCH_NS + int(trio.current_time() * SECOND_NS) + self.offset_ns


class Target:
    """A node under attack, and what reached its handlers: (behaviour, DID of the sender, payload)."""

    def __init__(self, person: Person, actor: Actor, context: CapabilityContext, clock: Clock) -> None:
        self.person = person
        self.actor = actor
        self.context = context
        self.clock = clock
        self.handled: list[tuple[str, str, object]] = []

    def listen(self, behaviour: str, *, topic: str = "", answers: bool = False) -> None:
        """Record what comes in."""

        async def record(message: Message[Any]) -> object:
            self.handled.append((behaviour, message.sender.did.uri, message.payload))
            return {"echo": message.payload} if answers else None

        self.actor.on(behaviour, record, topic=topic)

    @property
    def handle(self) -> Json:
        """Of its root actor."""
        return self.person.handle()


class Wire:
    """A host that sends bytes as they are and keeps what it receives: (sender, bytes)."""

    def __init__(self, person: Person, network: MemoryNetwork) -> None:
        self.person = person
        self.network = network
        self.received: list[tuple[PeerID, bytes]] = []

    async def send(self, target: Target, data: bytes, *, settle: bool = True) -> None:
        """Put bytes into the inbox of a node, and wait until they were dealt with."""
        await self.network.send(target.person.peer, ROOT_PROTOCOL, data)
        if settle:
            await trio.sleep(SETTLE_S)

    async def keep(self, peer: PeerID, data: bytes) -> None:
        """A handler that keeps what comes in."""
        self.received.append((peer, data))


class Scene:
    """An organisation, and nodes that obey its members and one user each."""

    def __init__(self) -> None:
        self.network = VirtualNetwork()
        self.clock = Clock()
        self.organisation = Person("organisation")
        self.user = Person("user")

    @asynccontextmanager
    async def node(
        self, name: str, *, clock: Clock | None = None, directory: Path | None = None
    ) -> AsyncIterator[Target]:
        """A running node; it listens to a public behaviour, to one of the owner's, to deployments and to a broadcast.

        :param directory: where it keeps what must outlast it; without one it forgets everything.
        """
        person, clock = Person(name), clock or self.clock
        known = {node.peer_id: node for node in self.network.nodes}
        network = known.get(person.peer) or self.network.node(person.key.ed25519_seed())
        did = DID(uri=person.did)
        context = CapabilityContext("dms", did, TrustContext(Provider.of_key(person.key)), clock_ns=clock)
        accept = person.token("delegate", self.organisation.did, MEMBER_CAPS, exp=clock() + YEAR_NS, topics=("/nunet",))
        context.add_roots(
            [DID(uri=self.user.did)], require=tokens_of(accept), provide=tokens_of(self.membership(person))
        )
        actor = Actor(
            SecurityContext(person.key, context, clock_ns=clock), network, gate=_gate(network, clock, directory)
        )
        target = Target(person, actor, context, clock)
        target.listen("/public/ping", answers=True)
        target.listen("/public/note")
        target.listen("/publicity/note")
        target.listen("/dms/deployment/request")
        target.listen("/dms/node/secret")
        target.listen("/broadcast/hello", topic=TOPIC)
        async with network.run(), trio.open_nursery() as nursery:
            await nursery.start(actor.run)
            await actor.subscribe(TOPIC)
            yield target
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def wire(self, name: str) -> AsyncIterator[Wire]:
        """A host without an actor."""
        person = Person(name)
        network = self.network.node(person.key.ed25519_seed())
        wire = Wire(person, network)
        async with network.run():
            network.handle(ROOT_PROTOCOL, wire.keep)
            yield wire

    # what members hold ---------------------------------------------------------------------------------------------

    def membership(self, member: Person, caps: tuple[str, ...] = MEMBER_CAPS, **members: Any) -> Json:
        """What the organisation gives to everybody who joins it."""
        members = Json(exp=self.clock() + YEAR_NS, topics=("/nunet",)) | members
        return self.organisation.token("delegate", member.did, caps, **members)

    def invocation(self, member: Person, behaviour: str, **members: Any) -> Json:
        """A token with which a member may invoke something."""
        members = Json(exp=self.exp(), chain=self.membership(member)) | members
        subject = members.pop("subject", member.did)
        return member.token("invoke", subject, members.pop("caps", [behaviour]), **members)

    def request(self, member: Person, to: Json, behaviour: str = "/public/note", **members: Any) -> Json:
        """An envelope, unsigned, that arrives if nothing else is done to it."""
        tokens = members.pop("tokens", None)
        if tokens is None:
            tokens = [self.invocation(member, behaviour)]
        members = {"exp": self.exp()} | members
        return member.message(to, behaviour, tokens, **members)

    def broadcast(
        self, member: Person, behaviour: str = "/broadcast/hello", topic: str = TOPIC, **members: Any
    ) -> Json:
        """A broadcast, unsigned, that arrives if nothing else is done to it."""
        tokens = members.pop("tokens", None)
        if tokens is None:
            chain = self.membership(member)
            tokens = [member.token("broadcast", member.did, [behaviour], topics=[topic], exp=self.exp(), chain=chain)]
        return member.message(NOBODY, behaviour, tokens, topic=topic, **({"exp": self.exp()} | members))

    def exp(self, seconds: float = 30) -> int:
        """So many seconds from now."""
        return self.clock() + int(seconds * SECOND_NS)


def _gate(network: MemoryNetwork, clock: Clock, directory: Path | None) -> Gate:
    """As the application makes it."""
    if directory is None:
        return Gate(network.peer_id)
    elapsed_ns = int(trio.current_time() * SECOND_NS)
    file = open_window(directory / "replay", clock_ns=clock, elapsed_ns=elapsed_ns)
    return Gate(network.peer_id, replay=file.window, sync_replay=file.sync)


def tokens_of(*tokens: Json) -> TokenList:
    """Tokens made by hand as the product's own, for what it is given in files and not by the network."""
    return TokenList(tok=tuple(_token(token) for token in tokens))


def _token(token: Json) -> Token:
    (one,) = decode_token_list(token_list([token])).tok
    assert one is not None
    return one
