"""Whole actors on the virtual network: nodes of one organisation that trust each other, and a user who rules them.

The wall clock follows trio's, so that expiry and time-outs agree under a virtual clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from dms.actor.actor import Actor
from dms.actor.security import SecurityContext
from dms.capability.context import CapabilityContext
from dms.capability.token import Action, TokenList
from dms.identity.ids import DID, NO_DID, did_of
from dms.identity.keys import KeyType, PrivateKey
from dms.identity.trust import Provider, TrustContext
from dms.network.protocol import Network
from dms.testing.network import VirtualNetwork
from dms.types.ids import Capability

EPOCH_NS = 1_700_000_000 * 10**9
YEAR_NS = 365 * 86400 * 10**9
MEMBER_CAPS = tuple(Capability(path) for path in ("/public", "/broadcast", "/dms/deployment", "/dms/cap/revoke"))
MEMBER_TOPICS = ("/nunet",)


def wall_clock_ns() -> int:
    """UNIX nanoseconds that advance with trio's clock."""
    return EPOCH_NS + int(trio.current_time() * 10**9)


def key_of(name: str) -> PrivateKey:
    """The same name is always the same key."""
    return PrivateKey(KeyType.ED25519, hashlib.sha256(name.encode()).digest())


class Organisation:
    """Grants membership: who holds its token may say hello, broadcast and deploy at whoever accepts the organisation."""

    def __init__(self, name: str = "organisation") -> None:
        self.key = key_of(name)
        self.did = did_of(self.key.public)

    def membership(self, member: DID, expiry_ns: int) -> TokenList:
        """A token for one member."""
        context = CapabilityContext("org", self.did, TrustContext(Provider.of_key(self.key)), clock_ns=wall_clock_ns)
        return context.grant(Action.DELEGATE, member, NO_DID, MEMBER_TOPICS, expiry_ns, 0, MEMBER_CAPS)

    def acceptance(self, context: CapabilityContext, expiry_ns: int) -> TokenList:
        """What a node anchors to accept everybody whom the organisation made a member."""
        return context.grant(Action.DELEGATE, self.did, NO_DID, MEMBER_TOPICS, expiry_ns, 0, MEMBER_CAPS)


def security_of(
    key: PrivateKey,
    organisation: Organisation | None,
    *,
    root: DID = NO_DID,
    clock_ns: Callable[[], int] = wall_clock_ns,
) -> SecurityContext:
    """The security context of a node: a member of the organisation, ruled by ``root``."""
    did = did_of(key.public)
    context = CapabilityContext("dms", did, TrustContext(Provider.of_key(key)), clock_ns=clock_ns)
    expiry_ns = clock_ns() + YEAR_NS
    if organisation is not None:
        context.add_roots(
            (), organisation.acceptance(context, expiry_ns), organisation.membership(did, expiry_ns), TokenList()
        )
    if root:
        context.add_roots((root,), TokenList(), TokenList(), TokenList())
    return SecurityContext(key, context, clock_ns=clock_ns)


class World:
    """A virtual network with actors on it."""

    def __init__(self, seed: int = 0, *, delay_s: float = 0.005, loss: float = 0.0) -> None:
        self.network = VirtualNetwork(seed, delay_s=delay_s, loss=loss)
        self.organisation = Organisation()
        self.user = key_of("user")

    @asynccontextmanager
    async def node(self, name: str, *, is_member: bool = True) -> AsyncIterator[Actor]:
        """A running root actor with its own network, ruled by the user."""
        key = key_of(name)
        network: Network = self.network.node(key.ed25519_seed())
        organisation = self.organisation if is_member else None
        security = security_of(key, organisation, root=did_of(self.user.public))
        actor = Actor(security, network)
        async with network.run(), trio.open_nursery() as nursery:
            await nursery.start(actor.run)
            yield actor
            nursery.cancel_scope.cancel()

    def user_actor(self, host: Actor, inbox: str = "user-1") -> Actor:
        """The user at one node, with a fresh key and the node's address."""
        context = CapabilityContext(
            "user", did_of(self.user.public), TrustContext(Provider.of_key(self.user)), clock_ns=wall_clock_ns
        )
        session = key_of(f"{inbox}@{host.network.peer_id}")
        return Actor(SecurityContext(session, context, clock_ns=wall_clock_ns), host.network, inbox=inbox)
