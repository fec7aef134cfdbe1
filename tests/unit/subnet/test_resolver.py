"""What the gateway answers: its own names, those of others as far as it may, and never nothing."""

from __future__ import annotations

from ipaddress import IPv4Network

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
from trio.testing import MockClock

from dms.subnet.addresses import private_prefix
from dms.subnet.dns import MAX_ANSWER_BYTES, MIN_ANSWER_BYTES, Outcome, Zone
from dms.subnet.resolver import FORWARDED_BURST, MAX_FORWARDED_AT_ONCE, MAX_FORWARDED_PER_S, Resolver, Upstream

NETWORK = IPv4Network("10.1.2.0/24")


def resolver(upstream: Upstream | None) -> Resolver:
    zone = Zone(NETWORK, private_prefix("one"), forwards=upstream is not None)
    zone.add({"web.internal": "10.1.2.2"})
    return Resolver(zone, upstream)


def query(name: str = "example.com", kind: str = "A", *, payload: int = 0) -> bytes:
    return dns.message.make_query(name, kind, use_edns=0 if payload else None, payload=payload).to_wire()


def long_answer(question: bytes, records: int) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(question))
    texts = [f"10.0.{number // 256}.{number % 256}" for number in range(records)]
    reply.answer.append(dns.rrset.from_text_list(reply.question[0].name, 60, "IN", "A", texts))
    return reply.to_wire(max_size=65535)


async def test_names_outside_are_asked_for_and_names_here_are_not() -> None:
    asked: list[bytes] = []

    async def upstream(question: bytes) -> bytes:
        asked.append(question)
        return question[:2] + b"\x80\x00" + question[4:]

    r = resolver(upstream)
    assert r.answer(query("web.internal")).outcome is Outcome.ANSWERED
    assert r.answer(query("nobody.internal")).outcome is Outcome.UNKNOWN
    assert r.answer(query("nobody")).outcome is Outcome.UNKNOWN
    outside = query()
    assert r.answer(outside).outcome is Outcome.FORWARD
    assert (await r.ask(outside))[:3] == outside[:2] + b"\x80"
    assert asked == [outside]
    assert (r.queries[Outcome.FORWARD], r.queries[Outcome.UNKNOWN]) == (1, 2)


async def test_without_servers_outside_they_are_refused() -> None:
    reply = resolver(None).answer(query())
    assert reply.outcome is Outcome.REFUSED
    assert dns.message.from_wire(reply.data).rcode() == dns.rcode.REFUSED


async def test_servers_outside_may_change_while_it_answers() -> None:
    async def upstream(question: bytes) -> bytes:
        return question[:2] + b"\x80\x00" + question[4:]

    r = resolver(None)
    r.follow(upstream)
    assert r.answer(query()).outcome is Outcome.FORWARD
    assert await r.ask(query())
    r.follow(None)
    assert r.answer(query()).outcome is Outcome.REFUSED


async def test_that_nobody_answers_is_said() -> None:
    async def silent(_question: bytes) -> bytes:
        return b""

    question = query()
    answer = dns.message.from_wire(await resolver(silent).ask(question))
    assert (answer.rcode(), answer.id) == (dns.rcode.SERVFAIL, dns.message.from_wire(question).id)


@pytest.mark.parametrize(("payload", "limit"), [(0, MIN_ANSWER_BYTES), (700, 700), (4096, MAX_ANSWER_BYTES)])
async def test_an_answer_fits_what_the_asker_takes(payload: int, limit: int) -> None:
    async def upstream(question: bytes) -> bytes:
        return long_answer(question, 100)

    r, question = resolver(upstream), query(payload=payload)
    data = await r.ask(question)
    assert len(data) <= limit
    cut = dns.message.from_wire(data)
    assert cut.flags & dns.flags.TC
    assert not cut.answer
    assert len(await r.ask(question, is_stream=True)) == len(long_answer(question, 100))


async def test_a_member_cannot_flood_the_world_outside(autojump_clock: MockClock) -> None:
    count = 0

    async def upstream(question: bytes) -> bytes:
        nonlocal count
        count += 1
        return long_answer(question, 1)

    r, question = resolver(upstream), query()
    codes = [dns.message.from_wire(await r.ask(question)).rcode() for _ in range(FORWARDED_BURST + 100)]
    assert codes.count(dns.rcode.NOERROR) == count
    assert FORWARDED_BURST <= count < FORWARDED_BURST + 100
    await trio.sleep(1.0)
    before = count
    for _ in range(2 * int(MAX_FORWARDED_PER_S)):
        await r.ask(question)
    assert count - before == pytest.approx(MAX_FORWARDED_PER_S, abs=2)


async def test_only_so_many_wait_for_answers_from_outside(autojump_clock: MockClock) -> None:
    async def slow(question: bytes) -> bytes:
        await trio.sleep(10)
        return long_answer(question, 1)

    r, codes = resolver(slow), list[int]()

    async def ask() -> None:
        codes.append(dns.message.from_wire(await r.ask(query())).rcode())

    async with trio.open_nursery() as nursery:
        for _ in range(MAX_FORWARDED_AT_ONCE + 5):
            nursery.start_soon(ask)
    assert codes.count(dns.rcode.SERVFAIL) == 5
    assert codes.count(dns.rcode.NOERROR) == MAX_FORWARDED_AT_ONCE
