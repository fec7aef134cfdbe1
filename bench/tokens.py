"""Chains of capability tokens judged per second, beside bare Ed25519 on the same bytes.

A member of an organisation, by two delegations, invokes a behaviour. Its message carries the chained token and the
self-signed one; the receiver parses the list, verifies what decides, and answers. *Cold*: every delegation is seen for
the first time, so three signatures are verified. *Memoised*: the delegations were seen before and only the last token
is new, so one is. *Repeated*: the very same tokens again, as actors send them that talk often, so none is.

Measured and bound take turns in slices of a few messages, and each slice is counted in processor time. Where other
programs use the same caches and cores, most slices are slowed down, and Python more than arithmetic; what the code costs
is what a slice takes that nothing disturbed. So every figure is given twice: the median, and *undisturbed*, the
2nd percentile of what the slices took; ratios likewise, of measured and bound alike. Goals are judged undisturbed.

The bound is the same call of the same library on the same bytes as the node makes, without anything around it. Only
Ed25519 keys; keys are decoded once and then known, as they are in a node. The collector of cyclic garbage runs as always.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

import nacl.bindings
import psutil

from bench.networks import Bench
from bench.report import Report
from dms.capability.context import CapabilityContext
from dms.capability.token import Action, Token, TokenList, decode_token, decode_token_list, encode_token_list
from dms.identity.ids import public_key_of_did
from dms.testing.parties import NOW_NS, Party, StoppedClock
from dms.types.ids import Capability

TURNS = 60
BATCH = 50
SLICE = 5
UNDISTURBED = 50
"""One in so many slices is at least as quick."""
REVOCATIONS = 10_000
CAPS = ("/dms/deployment", "/public")
BEHAVIOUR = Capability("/dms/deployment/request")
LIFETIME_NS = 30 * 10**9

THREE, COLD = "three signatures, bare", "cold: two new delegations"
ONE, MEMOISED, REPEATED = "one signature, bare", "memoised: one new token", "repeated: nothing new"

T = TypeVar("T")

MIN_COLD, MIN_COLD_RATIO = 3000.0, 0.5
MIN_MEMOISED, MIN_MEMOISED_RATIO = 8000.0, 0.6


def measure(_bench: Bench) -> Report:
    """See the module."""
    report = Report("tokens", "what does judging a chain of delegations cost, above the signatures?")
    world = _World()
    costs_s: dict[str, list[float]] = defaultdict(list)
    world.judge_all(world.cold_messages())
    for _ in range(TURNS):
        cold, delegated, repeated = world.cold_messages(), world.delegation(), world.repeated()
        memoised = [world.message(delegated) for _ in range(BATCH)]
        world.judge(world.message(delegated))
        three, one = _signed(cold), [statements[:1] for statements in _signed(memoised)]
        for begin in range(0, BATCH, SLICE):
            part = slice(begin, begin + SLICE)
            costs_s[THREE].append(_cost_s(_verify, three[part]))
            costs_s[COLD].append(_cost_s(world.judge, cold[part]))
            costs_s[ONE].append(_cost_s(_verify, one[part]))
            costs_s[MEMOISED].append(_cost_s(world.judge, memoised[part]))
            costs_s[REPEATED].append(_cost_s(world.judge, repeated[part]))
    undisturbed = {name: 1 / _low(costs) for name, costs in costs_s.items()}
    for name, costs in costs_s.items():
        report.single(f"{name}, per CPU second", 1 / statistics.median(costs), "/s")
        report.single(f"{name}, undisturbed", undisturbed[name], "/s")
    ratios = {}
    for name, bound in ((COLD, THREE), (MEMOISED, ONE), (REPEATED, ONE)):
        report.ratio(f"{name} / {bound}", costs_s[bound], costs_s[name])
        ratios[name] = report.ratio(f"{name} / {bound}, undisturbed", [undisturbed[name]], [undisturbed[bound]])
    report.single("size of the token list", len(cold[0]), "B")
    _measure_revocations(report)
    report.goal_at_least(f"{COLD}, undisturbed", undisturbed[COLD], MIN_COLD, "/s")
    report.goal_at_least(f"{COLD} / {THREE}, undisturbed", ratios[COLD], MIN_COLD_RATIO, "×")
    report.goal_at_least(f"{MEMOISED}, undisturbed", undisturbed[MEMOISED], MIN_MEMOISED, "/s")
    report.goal_at_least(f"{MEMOISED} / {ONE}, undisturbed", ratios[MEMOISED], MIN_MEMOISED_RATIO, "×")
    return report


class _World:
    """A node that trusts an organisation for some behaviours, and a member of it."""

    def __init__(self) -> None:
        self.clock = StoppedClock()
        self.node, self.peer, self.user, self.org = (
            Party(name, clock=self.clock) for name in ("node", "peer", "user", "org")
        )
        self.node.context.add_roots(require=TokenList.of(self.node.issue(self.org, *CAPS)))
        self.peer.context.add_roots(provide=TokenList.of(self.delegation()))

    def delegation(self) -> Token:
        """Of the organisation to a user, of the user to the peer."""
        return self.user.issue(self.peer, *CAPS, parent=self.org.issue(self.user, *CAPS))

    def message(self, delegated: Token) -> bytes:
        """The token list of a message that rests on ``delegated``."""
        expiry_ns, node = NOW_NS + LIFETIME_NS, self.node.did
        tokens = (
            self.peer.issue(self.peer, BEHAVIOUR, act=Action.INVOKE, audience=node, expiry_ns=expiry_ns, parent=parent)
            for parent in (delegated, None)
        )
        return encode_token_list(TokenList.of(*tokens))

    def cold_messages(self) -> list[bytes]:
        """Messages of which each rests on delegations of its own."""
        return [self.message(self.delegation()) for _ in range(BATCH)]

    def repeated(self) -> list[bytes]:
        """What the peer's context puts into one message after the other, twice seen already."""
        blobs = [
            self.peer.context.provide(self.node.did, self.peer.id, self.node.id, NOW_NS + LIFETIME_NS, [BEHAVIOUR])
            for _ in range(BATCH + 2)
        ]
        self.judge_all(blobs[:2])
        return blobs[2:]

    def judge(self, blob: bytes) -> None:
        """Parse, verify, authorise, forget."""
        context, peer = self.node.context, self.peer
        carried = context.consume(peer.did, blob, sender=peer.id)
        context.require(self.node.did, peer.id, self.node.id, [BEHAVIOUR], origin=peer.did)
        context.discard(carried)

    def judge_all(self, blobs: Sequence[bytes]) -> None:
        """Each of them."""
        for blob in blobs:
            self.judge(blob)


def _signed(blobs: Sequence[bytes]) -> list[list[tuple[bytes, bytes]]]:
    """For each message, the signed statements of its chain and their keys."""
    return [
        [
            (level.sig + level.signed_bytes(), public_key_of_did(level.iss).raw)
            for level in decode_token_list(blob).tokens[0].levels
        ]
        for blob in blobs
    ]


def _verify(statements: list[tuple[bytes, bytes]]) -> None:
    for signed, key in statements:
        nacl.bindings.crypto_sign_open(signed, key)


def _cost_s(action: Callable[[T], object], items: Sequence[T]) -> float:
    """Processor time for one item."""
    started = time.process_time()
    for item in items:
        action(item)
    return (time.process_time() - started) / len(items)


def _low(costs_s: Sequence[float]) -> float:
    return sorted(costs_s)[len(costs_s) // UNDISTURBED]


def _measure_revocations(report: Report) -> None:
    """Memory of a context with many revocations, by the allocator and by the system."""
    issuers = [Party(f"issuer {number}") for number in range(REVOCATIONS // 200)]
    subject = Party("subject")
    blobs = [issuer.context.revoke(issuer.issue(subject, *CAPS)).json for issuer in issuers for _ in range(200)]
    context = CapabilityContext("node", subject.did, subject.trust, clock_ns=StoppedClock())
    gc.collect()
    process, started = psutil.Process(os.getpid()), time.process_time()
    before = process.memory_info().rss
    for blob in blobs:
        context.add_roots(revoke=TokenList.of(decode_token(blob)))
    cpu_s = time.process_time() - started
    gc.collect()
    report.single(f"{REVOCATIONS} revocations, resident memory", (process.memory_info().rss - before) / 2**20, "MiB")
    report.single("revocations taken in one by one, per CPU second", REVOCATIONS / cpu_s, "/s")
    again = CapabilityContext("node", subject.did, subject.trust, clock_ns=StoppedClock())
    tracemalloc.start()
    again.restore(TokenList.of(*(decode_token(blob) for blob in blobs)))
    gc.collect()
    report.single(f"{REVOCATIONS} revocations, allocated", tracemalloc.get_traced_memory()[0] / 2**20, "MiB")
    tracemalloc.stop()
