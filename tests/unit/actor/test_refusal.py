"""Who is told why it was refused, what it is told, and how often."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.actor.conftest import Two
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.errors import (
    InvocationTimeout,
    MessageExpired,
    RateLimited,
    RemoteError,
    RemoteExpired,
    RemoteNotAuthorized,
    RemoteRateLimited,
    RemoteUnknownBehaviour,
    UnknownBehaviour,
)
from dms.actor.gate import Gate, GateOptions
from dms.actor.handle import protocol_of
from dms.actor.rates import Rate, Rates
from dms.actor.refusal import ASK_HINT, Refusal, is_told, read_refusal, refusal_of
from dms.actor.security import SecurityContext
from dms.actor.standing import Standing
from dms.capability.errors import BadToken, NotAuthorized
from dms.identity.ids import did_of
from dms.testing.actors import World, key_of, security_of, wall_clock_ns
from dms.types import gojson

PING, SECRET = "/public/ping", "/dms/node/secret"


async def yes(_message: Message[Any]) -> bool:
    return True


async def acquainted(two: Two) -> None:
    two.b.on(PING, yes)
    two.b.on(SECRET, yes)
    assert await two.a.invoke(two.b.handle, PING, None, bool)


async def test_a_member_that_was_let_in_before_is_told_why_it_is_denied_now(
    autojump_clock: MockClock, two: Two
) -> None:
    await acquainted(two)
    began_s = trio.current_time()
    with pytest.raises(RemoteNotAuthorized, match=f"may not invoke {SECRET}") as caught:
        await two.a.invoke(two.b.handle, SECRET, None, bool)
    assert trio.current_time() - began_s < 1, "at once, not after the time-out"
    assert caught.value.hint == ASK_HINT
    assert set(caught.value.decision) == {"rule", "message"}, "the rest is for those whom a root sent"


async def test_one_whose_authority_comes_from_a_root_sees_the_whole_decision(
    autojump_clock: MockClock, two: Two
) -> None:
    two.b.on(PING, yes)
    two.b.on(SECRET, yes)
    two.b.security.capabilities.add_roots([two.world.organisation.did])
    assert await two.a.invoke(two.b.handle, PING, None, bool)
    with pytest.raises(RemoteNotAuthorized) as caught:
        await two.a.invoke(two.b.handle, SECRET, None, bool)
    assert caught.value.decision["considered"]
    assert caught.value.decision["caps"] == [SECRET]
    assert caught.value.hint != ASK_HINT


async def test_strangers_are_told_nothing(autojump_clock: MockClock, two: Two) -> None:
    two.b.on(PING, yes)
    async with two.world.node("stranger", is_member=False) as stranger:
        for behaviour in (PING, SECRET, "/public/nothing"):
            with pytest.raises(InvocationTimeout):
                await stranger.invoke(two.b.handle, behaviour, None, bool, timeout_s=2)
    assert two.b.counters["refusals.told"] == 0


async def test_a_stranger_who_claims_to_be_known_is_told_nothing(autojump_clock: MockClock, two: Two) -> None:
    await acquainted(two)
    async with two.world.node("stranger", is_member=False) as stranger:
        real = stranger.handle
        stranger.handle = type(real)(id=real.id, did=two.a.handle.did, addr=real.addr)
        with pytest.raises(InvocationTimeout):
            await stranger.invoke(two.b.handle, SECRET, None, bool, timeout_s=2)
    assert two.b.counters["refusals.told"] == 0


async def test_an_unknown_behaviour_is_told_as_such(autojump_clock: MockClock, two: Two) -> None:
    await acquainted(two)
    with pytest.raises(RemoteUnknownBehaviour, match="/public/nothing"):
        await two.a.invoke(two.b.handle, "/public/nothing", None, bool)


async def test_a_sender_whose_clock_is_behind_is_told_by_how_much(autojump_clock: MockClock, two: Two) -> None:
    await acquainted(two)
    behind = SecurityContext(
        key_of("late"), two.a.security.capabilities, clock_ns=lambda: wall_clock_ns() - 120 * 10**9
    )
    late = Actor(behind, two.a.network, inbox="late")
    async with trio.open_nursery() as nursery:
        await nursery.start(late.run)
        with pytest.raises(RemoteExpired, match=r"expired 90\.\d s ago"):
            await late.invoke(two.b.handle, PING, None, bool)
        nursery.cancel_scope.cancel()


async def test_who_sends_too_much_is_told_but_only_a_few_times(autojump_clock: MockClock) -> None:
    world, slow = World(), Rate(1.0, 2.0)
    key = key_of("b")
    network = world.network.node(key.ed25519_seed())
    gate = Gate(network.peer_id, GateOptions(rates=Rates(slow, slow, slow, slow), refusal_rate=Rate(0.001, 3.0)))
    b = Actor(security_of(key, world.organisation), network, gate=gate)
    b.on(PING, yes)
    async with world.node("a") as a, network.run(), trio.open_nursery() as nursery:
        await nursery.start(b.run)
        ends: list[str] = []
        for _ in range(8):
            try:
                await a.invoke(b.handle, PING, None, bool, timeout_s=0.1)
                ends.append("answered")
            except RemoteRateLimited:
                ends.append("told")
            except InvocationTimeout:
                ends.append("silence")
        nursery.cancel_scope.cancel()
    assert ends.count("answered") == 2
    assert ends.count("told") == 3
    assert ends.count("silence") == 3


async def test_it_can_be_switched_off(autojump_clock: MockClock, two: Two) -> None:
    await acquainted(two)
    two.b.common.gate.follow(GateOptions(are_refusals_told=False))
    with pytest.raises(InvocationTimeout):
        await two.a.invoke(two.b.handle, SECRET, None, bool, timeout_s=2)


async def test_broadcasts_replays_and_forgeries_are_never_answered(autojump_clock: MockClock, two: Two) -> None:
    await acquainted(two)
    for actor in (two.a, two.b):
        await actor.subscribe("/nunet/hello")
    await trio.sleep(1)
    two.a.on("/public/answers", yes)
    await two.a.publish("/nunet/hello", "/dms/unknown", None, reply_to="/public/answers")
    message = two.a.envelope(two.b.handle, SECRET, None, reply_to="/public/answers")
    forged = two.a._authorise(message).encode().replace(b'"nonce":', b'"nonce":1')
    await two.a.network.send(two.b.network.peer_id, protocol_of("root"), forged)
    await trio.sleep(1)
    assert two.b.counters["refusals.told"] == 0


async def test_a_user_of_a_root_with_a_narrow_delegation_is_told(autojump_clock: MockClock, two: Two) -> None:
    """Its DID was given a require anchor, so it is known although it was never let in."""
    two.b.on(SECRET, yes)
    intern = two.world.user_actor(two.a, "user-2")
    intern_did = did_of(key_of("user").public)
    two.b.security.capabilities.remove_roots([intern_did])
    two.b.grant(intern_did, two.b.handle.did, [two.b.envelope(two.b.handle, PING, None).be])  # type: ignore[list-item]
    async with trio.open_nursery() as nursery:
        await nursery.start(intern.run)
        with pytest.raises(RemoteNotAuthorized):
            await intern.invoke(two.b.handle, SECRET, None, bool)
        nursery.cancel_scope.cancel()


# the payload -----------------------------------------------------------------------------------------------------------


def test_only_some_errors_are_told() -> None:
    assert all(is_told(error) for error in (NotAuthorized(), UnknownBehaviour(), RateLimited(), MessageExpired()))
    assert not is_told(BadToken())


@pytest.mark.parametrize(
    ("error", "remote"),
    [
        (NotAuthorized("no"), RemoteNotAuthorized),
        (UnknownBehaviour("no"), RemoteUnknownBehaviour),
        (RateLimited("no"), RemoteRateLimited),
        (MessageExpired("no"), RemoteExpired),
    ],
)
def test_what_is_told_is_read_again_with_class_and_exit_code(error: Any, remote: type[RemoteError]) -> None:
    payload = gojson.encode(refusal_of(error, Standing.TRUSTED))
    assert list(json.loads(payload)) == ["OK", "Error", "Code", "Hint"]
    read = read_refusal(payload)
    assert type(read) is remote
    assert (read.message, read.exit_code, read.retryable) == ("no", error.exit_code, error.retryable)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b'{"OK":true,"Error":"","Code":"not_authorized","Hint":""}',
        b'{"OK":false,"Error":"no"}',
        b'{"OK":false,"Error":"no","Code":"not_authorized"}',
        b'{"OK":false,"Error":"no","Code":"conflict","Hint":""}',
        b'{"OK":false,"Error":"no","Code":["not_authorized"],"Hint":""}',
        b'{"OK":false,"Error":',
    ],
)
def test_other_replies_are_no_refusals(payload: bytes) -> None:
    assert read_refusal(payload) is None


@given(error=st.text(max_size=2000), hint=st.text(max_size=2000))
def test_texts_of_others_are_bounded_and_printable(error: str, hint: str) -> None:
    payload = gojson.encode(Refusal(ok=False, error=error, code="rate_limited", hint=hint))
    read = read_refusal(payload)
    assert read is not None
    for text in (read.message, read.hint):
        assert len(text) <= 500
        assert text.isprintable()
