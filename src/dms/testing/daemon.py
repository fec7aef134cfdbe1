"""A daemon for clients to talk to, in a thread of its own: the real REST server and real actors over the network twin.

What its behaviours answer is scripted; HTTP, signatures and capabilities are the product's own. A second node is on the
same network, so that broadcasts have somebody to answer them.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from trio.testing import memory_stream_pair

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.security import SecurityContext
from dms.api.bridge import Bridge
from dms.api.server import bind, run_server
from dms.capability.context import CapabilityContext
from dms.capability.store import context_path, save_context
from dms.cli.behaviours import KNOWN
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey, generate_key
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext
from dms.node.errors import NoTicket
from dms.node.health import WarningInfo
from dms.subnet.errors import NotConnected
from dms.subnet.pipes import Pipe, TrioPipe
from dms.testing.network import VirtualNetwork
from dms.types.ids import PeerID

PASSPHRASE = "correct horse"  # noqa: S105  of keys that live as long as a test
CONTEXT = "user"
UNKNOWN_BEHAVIOUR = "/dms/node/custom"
"""A behaviour that the command line has no flags for."""
CHEAP_SCRYPT_N = 2
START_TIMEOUT_S = 30.0


@dataclass
class ScriptedDaemon:
    """A running node. ``answers`` maps a behaviour to what makes the reply's payload out of the request's; a behaviour
    without an answer is silent. ``user_dir`` holds the context ``user`` that the node obeys, ``stranger_dir`` one that it
    does not know; both open with ``passphrase``.
    """

    port: int
    peer_id: PeerID
    did: DID
    other_did: DID
    user_dir: Path
    stranger_dir: Path
    passphrase: str = PASSPHRASE
    answers: dict[str, Callable[[Any], object]] = field(default_factory=dict)  # JSON in, JSON out
    requests: list[tuple[str, Any]] = field(default_factory=list)
    warnings: list[WarningInfo] = field(default_factory=list)
    """What is wrong with it."""
    ports: dict[int, Callable[[bytes], bytes]] = field(default_factory=dict)
    """What listens at a port of whatever allocation: it answers all that it was told, at the end of that."""

    def payloads_of(self, behaviour: str) -> list[Any]:
        """The payloads that a behaviour was called with."""
        return [payload for name, payload in self.requests if name == behaviour]

    def reset(self) -> None:
        """Forget what was scripted and asked."""
        self.answers.clear()
        self.requests.clear()
        self.warnings.clear()
        self.ports.clear()


@contextmanager
def scripted_daemon(directory: Path) -> Iterator[ScriptedDaemon]:
    """Run one; keys and contexts are made in ``directory``."""
    user = make_person(directory / "user")
    make_person(directory / "stranger")
    started: list[tuple[ScriptedDaemon, trio.CancelScope, trio.lowlevel.TrioToken]] = []
    ready = threading.Event()

    async def run() -> None:
        world = VirtualNetwork(delay_s=0.0)
        (here, network), (there, other_network) = (_actor(world, seed, user) for seed in (b"h" * 32, b"t" * 32))
        listener = bind("127.0.0.1", 0)
        daemon = ScriptedDaemon(
            port=listener.getsockname()[1],
            peer_id=network.peer_id,
            did=here.security.did,
            other_did=there.security.did,
            user_dir=directory / "user",
            stranger_dir=directory / "stranger",
        )
        async with network.run(), other_network.run(), trio.open_nursery() as nursery:
            for actor in (here, there):
                await nursery.start(actor.run)
                for topic in sorted({behaviour.topic for behaviour in KNOWN if behaviour.topic}):
                    await actor.subscribe(topic)
                _script(actor, daemon)
            bridge = Bridge(
                network, here.security, here.handle, lambda: tuple(daemon.warnings), partial(_open, nursery, daemon)
            )
            await nursery.start(run_server, bridge, listener)
            started.append((daemon, nursery.cancel_scope, trio.lowlevel.current_trio_token()))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(run,), name="scripted daemon")
    thread.start()
    if not ready.wait(START_TIMEOUT_S):
        raise RuntimeError("the daemon did not start")
    daemon, scope, token = started[0]
    try:
        yield daemon
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join()


async def _open(nursery: trio.Nursery, daemon: ScriptedDaemon, ticket: str, port: int) -> Pipe:
    """A connection for the ticket ``right`` with a port that is played."""
    if ticket != "right":
        raise NoTicket
    if port not in daemon.ports:
        raise NotConnected(f"port {port} is not reached: Connection refused", hint="does something listen there?")
    ours, theirs = memory_stream_pair()

    async def play() -> None:
        async with theirs:
            heard = b"".join([bytes(data) async for data in theirs])
            await theirs.send_all(daemon.ports[port](heard))

    nursery.start_soon(play)
    return TrioPipe(ours)


def make_person(user_dir: Path, name: str = CONTEXT) -> DID:
    """A key that opens fast, and an empty context."""
    key = generate_key()
    Keystore(user_dir / "key", scrypt_n=CHEAP_SCRYPT_N).save(name, key, PASSPHRASE)
    did = did_of(key.public)
    context = CapabilityContext(name, did, TrustContext(Provider.of_key(key)))
    save_context(context, context_path(user_dir / "cap", name))
    return did


def _actor(world: VirtualNetwork, seed: bytes, root: DID) -> tuple[Actor, Any]:  # the twin of the network
    key = PrivateKey(KeyType.ED25519, seed)
    context = CapabilityContext("dms", did_of(key.public), TrustContext(Provider.of_key(key)))
    context.add_roots([root])
    network = world.node(seed)
    return Actor(SecurityContext(key, context), network), network


def _script(actor: Actor, daemon: ScriptedDaemon) -> None:
    def handler(name: str) -> Callable[[Message[Any]], Awaitable[object]]:
        async def handle(message: Message[Any]) -> object:
            daemon.requests.append((name, message.payload))
            answer = daemon.answers.get(name)
            return None if answer is None else answer(message.payload)

        return handle

    for behaviour in KNOWN:
        actor.on(behaviour.name, handler(behaviour.name), topic=behaviour.topic)
    actor.on(UNKNOWN_BEHAVIOUR, handler(UNKNOWN_BEHAVIOUR))
