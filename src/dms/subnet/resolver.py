"""What the gateway answers to questions for names: its own at once, those of others by asking outside.

It is no open resolver: only members on this machine reach it. How much of the outside world they ask is bounded, so that
none of them makes this machine a source of floods.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import trio

from dms.subnet.budgets import RateBudget
from dms.subnet.dns import Outcome, Reply, Zone, limit_of

MAX_FORWARDED_AT_ONCE = 64
MAX_FORWARDED_PER_S = 100.0
FORWARDED_BURST = 500

Upstream = Callable[[bytes], Awaitable[bytes]]
"""Asks a server outside; empty when there is no answer."""


class Resolver:
    """Of one network on one node. ``queries`` counts by outcome."""

    def __init__(self, zone: Zone, upstream: Upstream | None) -> None:
        self.zone = zone
        self.queries = dict.fromkeys(Outcome, 0)
        self._upstream = upstream
        self._at_once = trio.CapacityLimiter(MAX_FORWARDED_AT_ONCE)
        self._rate = RateBudget(MAX_FORWARDED_PER_S, FORWARDED_BURST)

    def follow(self, upstream: Upstream | None) -> None:
        """Ask another one outside from now on, or nobody."""
        self._upstream, self.zone.forwards = upstream, upstream is not None

    def answer(self, query: bytes, *, is_stream: bool = False) -> Reply:
        """What is known here; :attr:`~Outcome.FORWARD`: :meth:`ask` for it. ``is_stream``: answers of any size fit."""
        reply = self.zone.answer(query, is_stream=is_stream)
        self.queries[reply.outcome] += 1
        return reply

    async def ask(self, query: bytes, *, is_stream: bool = False) -> bytes:
        """The answer from outside; that there is none, where that is so, as silence would have the asker wait."""
        found = b""
        if self._rate.spend(trio.current_time()):
            try:
                self._at_once.acquire_nowait()
            except trio.WouldBlock:
                return _failed(query)
            try:
                found = await self._upstream(query) if self._upstream is not None else b""
            finally:
                self._at_once.release()
        if not found:
            return _failed(query)
        return found if is_stream else fitted(query, found)


def fitted(query: bytes, answer: bytes) -> bytes:
    """An answer in no more bytes than the asker takes: cut, and marked so, he asks again by TCP."""
    try:
        asked = dns.message.from_wire(query)
        if len(answer) <= limit_of(asked):
            return answer
        reply = dns.message.make_response(asked)
    except (dns.exception.DNSException, ValueError):
        return b""
    reply.flags |= dns.flags.TC | dns.flags.RA
    return reply.to_wire()


def _failed(query: bytes) -> bytes:
    try:
        reply = dns.message.make_response(dns.message.from_wire(query))
    except (dns.exception.DNSException, ValueError):
        return b""
    reply.set_rcode(dns.rcode.SERVFAIL)
    return reply.to_wire()
