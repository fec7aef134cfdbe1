"""The key of an actor joined to the context of its node: what is attached, what is let in, what is forgotten."""

from __future__ import annotations

import msgspec
import pytest
import trio
from tests.unit.actor.conftest import Two
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.envelope import Envelope
from dms.actor.errors import BadSender, InvalidMessage
from dms.actor.handle import NOBODY
from dms.actor.security import SecurityContext
from dms.capability.errors import NotAuthorized
from dms.testing.actors import key_of
from dms.types.ids import Capability

PING, SECRET = Capability("/public/ping"), Capability("/dms/node/secret")
TOPIC = "/nunet/hello"
HELLO = Capability("/broadcast/hello")


def request(sender: Actor, receiver: Actor, cap: Capability = PING) -> Envelope:
    return sender.security.provide(sender.envelope(receiver.handle, cap, None), [cap])


def broadcast(sender: Actor) -> Envelope:
    message = sender.envelope(NOBODY, HELLO, None, topic=TOPIC)
    return sender.security.provide_broadcast(message, TOPIC, [HELLO])


async def test_nonces_begin_with_the_clock_and_never_repeat(autojump_clock: MockClock, two: Two) -> None:
    """So a process that starts again does not use those of its earlier life."""
    security = SecurityContext(key_of("n"), two.a.security.capabilities, clock_ns=lambda: 1000)
    assert [security.next_nonce() for _ in range(3)] == [1001, 1002, 1003]


async def test_what_is_attached_lets_the_sender_in_for_what_it_asks_and_nothing_else(
    autojump_clock: MockClock, two: Two
) -> None:
    message = request(two.a, two.b)
    admitted = two.b.security.require(message, [PING])
    assert admitted is not None
    assert two.b.security.capabilities.ephemeral_count > 0
    two.b.security.discard(admitted[1])
    assert two.b.security.capabilities.ephemeral_count == 0
    with pytest.raises(NotAuthorized) as caught:
        two.b.security.require(message, [SECRET])
    assert caught.value.decision is not None
    assert two.b.security.capabilities.ephemeral_count == 0, "what is denied leaves nothing behind"


async def test_an_identity_that_neither_is_the_key_nor_issued_the_token_is_refused(
    autojump_clock: MockClock, two: Two
) -> None:
    message = request(two.a, two.b)
    claimed = msgspec.structs.replace(message, from_=msgspec.structs.replace(message.from_, did=two.b.handle.did))
    with pytest.raises(NotAuthorized):
        two.b.security.require(claimed, [PING])
    assert two.b.security.capabilities.ephemeral_count == 0


async def test_what_we_send_to_ourselves_needs_no_token(autojump_clock: MockClock, two: Two) -> None:
    message = request(two.a, two.a, SECRET)
    assert message.cap == b""
    assert two.a.security.require(message, [SECRET]) is None
    message.check_signature()


async def test_only_the_key_of_the_sender_signs(autojump_clock: MockClock, two: Two) -> None:
    with pytest.raises(BadSender):
        two.b.security.provide(two.a.envelope(two.b.handle, PING, None), [PING])


async def test_a_broadcast_is_one_on_its_topic(autojump_clock: MockClock, two: Two) -> None:
    message = broadcast(two.a)
    _, carried = two.b.security.require_broadcast(message, TOPIC, [HELLO])
    two.b.security.discard(carried)
    for topic in ("/nunet/else", ""):
        with pytest.raises(InvalidMessage):
            two.b.security.require_broadcast(message, topic, [HELLO])
    with pytest.raises(InvalidMessage):
        two.a.security.provide_broadcast(two.a.envelope(two.b.handle, HELLO, None, topic=TOPIC), TOPIC, [HELLO])
    with pytest.raises(InvalidMessage):
        two.a.security.provide_broadcast(two.a.envelope(NOBODY, HELLO, None, topic=TOPIC), "/nunet/else", [HELLO])
    with pytest.raises(NotAuthorized):
        two.b.security.require_broadcast(message, TOPIC, [SECRET])


async def test_a_reply_path_is_granted_to_whom_we_ask_and_to_nobody_else(autojump_clock: MockClock, two: Two) -> None:
    back = Capability("/dms/actor/replyto/7")
    message = two.a.security.provide(two.a.envelope(two.b.handle, PING, None, reply_to=back), [PING], [back])
    async with two.world.node("c") as c:
        for sender, is_allowed in ((two.b, True), (c, False)):
            sender.security.capabilities.consume(message.from_.did, message.cap, sender=message.from_.id)
            answer = sender.security.provide(sender.envelope(two.a.handle, back, None), [back])
            if is_allowed:
                admitted = two.a.security.require(answer, [back])
                assert admitted is not None
                two.a.security.discard(admitted[1])
                continue
            with pytest.raises(NotAuthorized):
                two.a.security.require(answer, [back])


async def test_a_dynamic_grant_holds_until_it_is_withdrawn_or_over(autojump_clock: MockClock, two: Two) -> None:
    security = two.b.security
    actor = await two.a.create_child("orchestrator")
    with pytest.raises(NotAuthorized):
        security.require(request(actor, two.b, SECRET), [SECRET])
    tokens = security.grant(two.a.handle.did, two.b.handle.did, [SECRET], 3600 * 10**9)
    admitted = security.require(request(actor, two.b, SECRET), [SECRET])
    assert admitted is not None
    security.discard(admitted[1])
    security.withdraw(tokens)
    with pytest.raises(NotAuthorized):
        security.require(request(actor, two.b, SECRET), [SECRET])
    security.restore(tokens)
    admitted = security.require(request(actor, two.b, SECRET), [SECRET])
    assert admitted is not None
    security.discard(admitted[1])
    await trio.sleep(3601)
    with pytest.raises(NotAuthorized):
        security.require(request(actor, two.b, SECRET), [SECRET])
