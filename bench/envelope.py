"""Messages verified and dispatched per second, beside bare Ed25519 on the same bytes.

A member of an organisation invokes a behaviour at another member: the envelope carries a chain of capability tokens,
so one message costs several verifications. Every message is signed beforehand and used once.

Three depths, each beside the bare library (PyNaCl) in the same turn: the envelope's own signature; the whole decision
(parse, signature, lifetime, chain of tokens, authority); and all that with the actor around it (limits, replay window,
handler, task) over the network in memory. Everything is in this process and counted in its processor time, so that
other programs do not matter.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import trio
from nacl.signing import SigningKey

from bench.networks import Bench
from bench.report import Report
from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.envelope import Envelope, decode_envelope
from dms.actor.handle import protocol_of
from dms.capability.token import Action, decode_token_list
from dms.testing.actors import World
from dms.types.ids import Capability

TURNS = 7
BATCH = 300
WINDOW = 32
"""Messages under way at once; a node admits more, from one host, only up to its limits."""
BEHAVIOUR = "/dms/deployment/bench"
LIFETIME_NS = 600 * 10**9
PAYLOAD = {"id": "a" * 32, "values": list(range(20))}


def measure(_bench: Bench) -> Report:
    """See the module."""
    return trio.run(_measure)


async def _measure() -> Report:
    report = Report("envelope", "what does verifying authority cost, above the signatures?")
    world = World(delay_s=0.0)
    rates: dict[str, list[float]] = defaultdict(list)
    async with world.node("sender") as sender, world.node("receiver") as receiver:
        inbox = _Inbox()
        receiver.on(BEHAVIOUR, inbox.take)
        sample = _signed(sender, receiver)
        signatures, fresh = _signatures(sample)
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
            if turn:
                for name, rate in found.items():
                    rates[name].append(rate)
    if receiver.counters["dispatched"] != (TURNS + 1) * BATCH:
        raise RuntimeError(f"messages were lost: {dict(receiver.counters)}")
    for name, values in rates.items():
        report.median(f"{name}, per CPU second", values, "/s")
    report.single("signatures in one message: envelope and tokens", signatures, "")
    report.single("of these new to the receiver in every message", fresh, "")
    report.single("size of one message", len(body), "B")
    sign, verify = rates["bare Ed25519: sign"], rates["bare Ed25519: verify"]
    decide, dispatch = rates["envelope: parse, verify and authorise"], rates["actor: verify and dispatch"]
    ideal = [rate / fresh for rate in verify]
    report.ratio("dispatch / bare verify", dispatch, verify)
    report.ratio("dispatch / bare verify of as many new signatures", dispatch, ideal)
    report.ratio("decision / bare verify of as many new signatures", decide, ideal)
    report.ratio("envelope's own signature / bare verify", rates["envelope: verify its own signature"], verify)
    report.ratio("make, authorise and sign / bare sign", rates["envelope: make, authorise and sign"], sign)
    return report


class _Inbox:
    """Counts what is handled, and lets the sender keep few messages under way."""

    def __init__(self) -> None:
        self.room = trio.Semaphore(WINDOW)

    async def take(self, _message: Message[Any]) -> None:
        self.room.release()


def _signed(sender: Actor, receiver: Actor) -> Envelope:
    message = sender.envelope(receiver.handle, BEHAVIOUR, PAYLOAD, lifetime_ns=LIFETIME_NS)
    return sender.security.provide(message, [Capability(BEHAVIOUR)])


def _decide_next(receiver: Actor, messages: Iterator[bytes]) -> None:
    message = decode_envelope(next(messages))
    message.verify(receiver.security.now_ns())
    receiver.security.require(message, [Capability(BEHAVIOUR)])
    receiver.security.discard(message)


async def _dispatch(sender: Actor, receiver: Actor, inbox: _Inbox, messages: list[bytes]) -> float:
    protocol, host = protocol_of(receiver.inbox), receiver.network.peer_id
    started = time.process_time()
    for data in messages:
        await inbox.room.acquire()
        await sender.network.send(host, protocol, data)
    for _ in range(WINDOW):
        await inbox.room.acquire()
    cpu_s = time.process_time() - started
    for _ in range(WINDOW):
        inbox.room.release()
    return len(messages) / cpu_s


def _rate(action: Callable[[], object]) -> float:
    started = time.process_time()
    for _ in range(BATCH):
        action()
    return BATCH / (time.process_time() - started)


def _signatures(message: Envelope) -> tuple[int, int]:
    """Of the envelope and of all tokens in it; and without those that a receiver remembers: delegations seen before."""
    levels = [level for token in decode_token_list(message.cap).tokens for level in token.levels]
    return 1 + len(levels), 1 + sum(level.act != Action.DELEGATE for level in levels)
