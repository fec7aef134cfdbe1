"""Messages verified and dispatched per second, beside bare Ed25519 on the same bytes.

A member of an organisation invokes a behaviour at another member: the envelope carries a chain of capability tokens. Those
are used again for a while, so of the signatures in a message that of the envelope alone is new. Every message is used once.

Four depths, each beside the bare library (PyNaCl) in the same turn: the envelope's own signature; the whole decision
(parse, signature, lifetime, chain of tokens, authority); all that with the actor around it (limits, replay window,
handler, task) over the network in memory; and both ends of the actor layer alone, made, signed, handed over, verified and
dispatched. Everything is in this process and counted in its processor time, so that other programs do not matter; a busy
host does, so the last depth is also given *undisturbed*: the 2nd percentile of what slices of it took, as in `bench/tokens.py`.

Beside that the memory of 100,000 remembered nonces.
"""

from __future__ import annotations

import time
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import trio
from nacl.signing import SigningKey

from bench.networks import Bench
from bench.report import Report
from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.envelope import Envelope, decode_envelope
from dms.actor.gate import Gate, GateOptions
from dms.actor.handle import protocol_of
from dms.actor.rates import Rate, Rates
from dms.actor.replay import ReplayWindow
from dms.capability.token import decode_token_list
from dms.identity.ids import ActorID, did_of, peer_id_of
from dms.network.protocol import MessageHandler, Network
from dms.testing.actors import EPOCH_NS, Organisation, World, key_of, security_of
from dms.types.ids import Capability, PeerID

TURNS = 7
BATCH = 300
SLICES, PERCENTILE = 30, 2
WINDOW = 32
"""Messages under way at once; a node admits more, from one host, only up to its limits."""
BEHAVIOUR = "/dms/deployment/bench"
BOTH_ENDS = "actor: sign, verify and dispatch, no network"
MIN_BOTH_ENDS = 4000
NONCES = 100_000
NO_BOUND = Rate(1e9, 1e9)
LIFETIME_NS = 600 * 10**9
PAYLOAD = {"id": "a" * 32, "values": list(range(20))}


def measure(_bench: Bench) -> Report:
    """See the module."""
    return trio.run(_measure)


async def _measure() -> Report:
    report = Report("envelope", "what does verifying authority cost, above the signatures?")
    world = World(delay_s=0.0)
    rates: dict[str, list[float]] = defaultdict(list)
    costs_s: list[float] = []
    async with (
        world.node("sender") as sender,
        _node(world, "receiver") as receiver,
        _actor_layer() as layer,
    ):
        inbox = _Inbox()
        receiver.on(BEHAVIOUR, inbox.take)
        sample = _signed(sender, receiver)
        signatures = 1 + sum(len(token.levels) for token in decode_token_list(sample.cap).tokens)
        key = SigningKey(sender.security.key.ed25519_seed())
        body = sample.encode()
        signed = key.sign(body)
        for turn in range(TURNS + 1):
            found = {
                "bare Ed25519: sign": _rate(lambda: key.sign(body)),
                "bare Ed25519: verify": _rate(lambda: key.verify_key.verify(signed)),
                "envelope: verify its own signature": _rate(lambda: sample.verify(receiver.security.now_ns())),
                "envelope: make, authorise and sign": _rate(lambda: _signed(sender, receiver)),
            }
            messages = [_signed(sender, receiver).encode() for _ in range(2 * BATCH)]
            decision = partial(_decide_next, receiver, iter(messages[:BATCH]))
            found["envelope: parse, verify and authorise"] = _rate(decision)
            found["actor: verify and dispatch"] = await _dispatch(sender, receiver, inbox, messages[BATCH:])
            slices = [await layer.exchange() for _ in range(SLICES)]
            found[BOTH_ENDS] = SLICES / sum(slices)
            if turn:
                costs_s += slices
                for name, rate in found.items():
                    rates[name].append(rate)
    if receiver.counters["dispatched"] != (TURNS + 1) * BATCH:
        raise RuntimeError(f"messages were lost: {dict(receiver.counters)}")
    for name, values in rates.items():
        report.median(f"{name}, per CPU second", values, "/s")
    report.single("signatures in one message: envelope and tokens", signatures, "")
    report.single("size of one message", len(body), "B")
    sign, verify = rates["bare Ed25519: sign"], rates["bare Ed25519: verify"]
    decide, dispatch = rates["envelope: parse, verify and authorise"], rates["actor: verify and dispatch"]
    report.ratio("dispatch / bare verify", dispatch, verify)
    report.ratio("decision / bare verify", decide, verify)
    report.ratio("envelope's own signature / bare verify", rates["envelope: verify its own signature"], verify)
    report.ratio("make, authorise and sign / bare sign", rates["envelope: make, authorise and sign"], sign)
    both = [1 / (1 / one + 1 / other) for one, other in zip(sign, verify, strict=True)]
    report.ratio("both ends of the actor layer / bare sign and verify", rates[BOTH_ENDS], both)
    low_s = sorted(costs_s)[len(costs_s) * PERCENTILE // 100]
    report.goal_at_least("both ends of the actor layer, undisturbed", 1 / low_s, MIN_BOTH_ENDS, "/s")
    report.single(f"memory of {NONCES} remembered nonces", _nonce_memory() / 2**20, "MiB")
    return report


@asynccontextmanager
async def _node(world: World, name: str) -> AsyncIterator[Actor]:
    """A node that anybody may send to as fast as it can take it."""
    key = key_of(name)
    network = world.network.node(key.ed25519_seed())
    gate = Gate(network.peer_id, GateOptions(rates=Rates(NO_BOUND, NO_BOUND, NO_BOUND, NO_BOUND)))
    actor = Actor(security_of(key, world.organisation), network, gate=gate)
    async with network.run(), trio.open_nursery() as nursery:
        await nursery.start(actor.run)
        yield actor
        nursery.cancel_scope.cancel()


class _Pipe:
    """The least that an actor needs of a network: what is sent is handed to the other end."""

    def __init__(self, peer_id: PeerID) -> None:
        self.peer_id = peer_id
        self.handlers: dict[str, MessageHandler] = {}
        self.other = self

    def handle(self, protocol: str, handler: MessageHandler) -> None:
        self.handlers[protocol] = handler

    def unhandle(self, protocol: str) -> None:
        self.handlers.pop(protocol, None)

    async def send(self, peer: PeerID, protocol: str, data: bytes, *, timeout_s: float = 30.0) -> None:
        await self.other.handlers[protocol](self.peer_id, data)


class _Layer:
    """Two actors and nothing between them."""

    def __init__(self) -> None:
        organisation = Organisation()
        self.inbox = _Inbox()
        self.actors: list[Actor] = []
        pipes = []
        for name in ("one", "other"):
            key = key_of(name)
            pipe = _Pipe(peer_id_of(key.public))
            gate = Gate(pipe.peer_id, GateOptions(rates=Rates(NO_BOUND, NO_BOUND, NO_BOUND, NO_BOUND)))
            # the clock of the system: that of the twins is slow
            security = security_of(key, organisation, clock_ns=time.time_ns)
            self.actors.append(Actor(security, cast("Network", pipe), gate=gate))
            pipes.append(pipe)
        pipes[0].other, pipes[1].other = pipes[1], pipes[0]
        self.actors[1].on(BEHAVIOUR, self.inbox.take)

    async def exchange(self) -> float:
        """Processor seconds for one of :data:`WINDOW` messages."""
        sender, receiver = self.actors
        started = time.process_time()
        for _ in range(WINDOW):
            await self.inbox.wait_for_room()
            await sender.send(receiver.handle, BEHAVIOUR, PAYLOAD, timeout_s=600)
        await self.inbox.wait_for_all()
        return (time.process_time() - started) / WINDOW


@asynccontextmanager
async def _actor_layer() -> AsyncIterator[_Layer]:
    layer = _Layer()
    async with trio.open_nursery() as nursery:
        for actor in layer.actors:
            await nursery.start(actor.run)
        yield layer
        nursery.cancel_scope.cancel()


def _nonce_memory() -> int:
    """Bytes that a replay window takes for many messages of one sender that all live for half an hour."""
    sender, owner = ActorID.of(key_of("sender").public), did_of(key_of("sender").public)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        window = ReplayWindow(4 * NONCES)
        for number in range(NONCES):
            elapsed_ns = number * 10**7
            name = window.check(sender, EPOCH_NS + number)
            expiry_ns = EPOCH_NS + elapsed_ns + 1800 * 10**9
            window.admit(name, owner, expiry_ns, now_ns=EPOCH_NS + elapsed_ns, elapsed_ns=elapsed_ns)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if len(window) != NONCES:
        raise RuntimeError(f"{len(window)} of {NONCES} nonces are remembered")
    return after - before


class _Inbox:
    """Counts what is handled, and lets the sender keep few messages under way."""

    def __init__(self) -> None:
        self._under_way = 0
        self._progress = trio.Event()

    async def wait_for_room(self) -> None:
        """Count one more message, once few enough are under way. Waits seldom, because each time costs a task switch."""
        if self._under_way == WINDOW:
            await self.wait_for_all()
        self._under_way += 1

    async def wait_for_all(self) -> None:
        """Return when none is under way."""
        if self._under_way:
            self._progress = trio.Event()
            await self._progress.wait()

    async def take(self, _message: Message[Any]) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._progress.set()


def _signed(sender: Actor, receiver: Actor) -> Envelope:
    message = sender.envelope(receiver.handle, BEHAVIOUR, PAYLOAD, lifetime_ns=LIFETIME_NS)
    return sender.security.provide(message, [Capability(BEHAVIOUR)])


def _decide_next(receiver: Actor, messages: Iterator[bytes]) -> None:
    message = decode_envelope(next(messages))
    message.verify(receiver.security.now_ns())
    admitted = receiver.security.require(message, [Capability(BEHAVIOUR)])
    if admitted is None:
        raise RuntimeError("a message of another node needs authority")
    receiver.security.discard(admitted[1])


async def _dispatch(sender: Actor, receiver: Actor, inbox: _Inbox, messages: list[bytes]) -> float:
    protocol, host = protocol_of(receiver.inbox), receiver.network.peer_id
    started = time.process_time()
    for data in messages:
        await inbox.wait_for_room()
        await sender.network.send(host, protocol, data)
    await inbox.wait_for_all()
    return len(messages) / (time.process_time() - started)


def _rate(action: Callable[[], object]) -> float:
    started = time.process_time()
    for _ in range(BATCH):
        action()
    return BATCH / (time.process_time() - started)
