"""Dynamic grants: as long as somebody wants them, renewed at half life, gone at once after that."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from tests.unit.actor.conftest import Two
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.errors import InvocationTimeout, RemoteNotAuthorized
from dms.actor.grants import LIFETIME_S
from dms.types.ids import Capability

CAPS = [Capability("/dms/ensemble/x")]
BEHAVIOUR = "/dms/ensemble/x/logs"


async def yes(_message: Message[Any]) -> bool:
    return True


def anchors(actor: Actor) -> int:
    return len(actor.security.capabilities.list_roots()[1])


async def is_let_in(two: Two, who: Actor) -> bool:
    try:
        return await who.invoke(two.b.handle, BEHAVIOUR, None, bool, timeout_s=1)
    except (InvocationTimeout, RemoteNotAuthorized):
        return False


async def test_a_grant_lasts_as_long_as_its_owner(autojump_clock: MockClock, two: Two) -> None:
    two.b.on(BEHAVIOUR, yes)
    orchestrator = await two.a.create_child("orchestrator")
    assert not await is_let_in(two, orchestrator)
    owner = await two.b.create_child("allocation")
    before = anchors(two.b)
    owner.grant(two.a.handle.did, two.b.handle.did, CAPS)
    for _ in range(12):
        assert await is_let_in(two, orchestrator)
        await trio.sleep(LIFETIME_S / 3)
    assert anchors(two.b) == before + 1, "those that were renewed are gone"
    await owner.aclose()
    assert anchors(two.b) == before
    assert not await is_let_in(two, orchestrator)


async def test_it_is_renewed_long_before_it_ends(autojump_clock: MockClock, two: Two) -> None:
    two.b.grant(two.a.handle.did, two.b.handle.did, CAPS, lifetime_s=100)
    await trio.sleep(0.5)
    for _ in range(20):
        (token,) = (t for t in two.b.security.capabilities.list_roots()[1].tokens if t.body.cap == tuple(CAPS))
        assert token.body.exp - two.b.security.now_ns() > 49 * 10**9
        await trio.sleep(13)


async def test_what_two_want_is_kept_until_the_second_has_ended(autojump_clock: MockClock, two: Two) -> None:
    two.b.on(BEHAVIOUR, yes)
    before = anchors(two.b)
    owners = [await two.b.create_child(name) for name in ("one", "two")]
    for owner in owners:
        owner.grant(two.a.handle.did, two.b.handle.did, CAPS)
        await trio.sleep(10)
    assert anchors(two.b) == before + 1
    await owners[1].aclose()
    assert await is_let_in(two, two.a)
    await owners[0].aclose()
    assert anchors(two.b) == before
    assert not await is_let_in(two, two.a)


async def test_what_a_wider_grant_covered_is_put_back_when_that_is_withdrawn(
    autojump_clock: MockClock, two: Two
) -> None:
    two.b.on(BEHAVIOUR, yes)
    two.b.grant(two.a.handle.did, two.b.handle.did, CAPS)
    wide = two.b.grant(two.a.handle.did, two.b.handle.did, [Capability("/dms")], lifetime_s=9999)
    two.b.withdraw(wide)
    two.b.withdraw(wide)
    assert await is_let_in(two, two.a)


async def test_a_grant_opens_nothing_else(autojump_clock: MockClock, two: Two) -> None:
    two.b.on("/dms/ensemble/y/logs", yes)
    two.b.grant(two.a.handle.did, two.b.handle.did, CAPS)
    with pytest.raises((InvocationTimeout, RemoteNotAuthorized)):
        await two.a.invoke(two.b.handle, "/dms/ensemble/y/logs", None, bool, timeout_s=1)
