"""Health checks: who may ask, and what is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from tests.unit.actor.conftest import Two
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.errors import InvocationTimeout, RemoteNotAuthorized
from dms.actor.handle import Handle
from dms.actor.health import HEALTH_CHECK, REGISTER, HealthReply
from dms.types.errors import BadInput

WELL = HealthReply(ok=True, error="")


async def ask(who: Actor, whom: Handle, behaviour: str = HEALTH_CHECK, payload: object = None) -> HealthReply:
    return await who.invoke(whom, behaviour, payload, HealthReply, timeout_s=20)


async def test_the_supervisor_may_ask_for_as_long_as_the_child_lives(autojump_clock: MockClock, two: Two) -> None:
    orchestrator = await two.a.create_child("orchestrator")
    child = await two.b.create_child("allocation", supervisor=orchestrator.handle)
    for _ in range(5):
        assert await ask(orchestrator, child.handle) == WELL
        await trio.sleep(3600)
    await child.aclose()
    again = await two.b.create_child("allocation", child.security.key)
    with pytest.raises((InvocationTimeout, RemoteNotAuthorized)):
        await ask(orchestrator, again.handle)


async def test_nobody_else_may_ask(autojump_clock: MockClock, two: Two) -> None:
    child = await two.b.create_child("allocation", supervisor=two.b.handle)
    with pytest.raises((InvocationTimeout, RemoteNotAuthorized)):
        await ask(two.a, child.handle)
    assert await ask(two.b, child.handle) == WELL
    with pytest.raises((InvocationTimeout, RemoteNotAuthorized)):
        await ask(two.a, two.b.handle)


async def test_what_is_wrong_is_told_in_one_line(autojump_clock: MockClock, two: Two) -> None:
    child = await two.b.create_child("allocation", supervisor=two.a.handle)

    async def fails() -> str:
        raise BadInput("no such file")

    async def hangs() -> str:
        await trio.sleep(100)
        return ""

    async def ails() -> str:
        return "it answers 500"

    for check, expected in (
        (ails, "it answers 500"),
        (fails, "no such file"),
        (hangs, "the check took longer than 10 s"),
    ):
        child.health.check_with(check)
        assert await ask(two.a, child.handle) == HealthReply(ok=False, error=expected)
    child.health.check_with(None)
    assert await ask(two.a, child.handle) == WELL


async def test_a_supervisor_registers_a_check_where_the_actor_takes_one(autojump_clock: MockClock, two: Two) -> None:
    child = await two.b.create_child("allocation", supervisor=two.a.handle)
    manifest = {"EnsembleID": "e", "HealthCheck": {"type": "http"}}
    refused = await ask(two.a, child.handle, REGISTER, manifest)
    assert refused.error == "this actor takes no health checks"

    async def make(wanted: dict[str, Any]) -> Callable[[], Any]:
        if wanted.get("type") != "http":
            raise BadInput("unknown healthcheck type")

        async def check() -> str:
            return "port closed"

        return check

    child.health.accept(make)
    other = await ask(two.a, child.handle, REGISTER, {"EnsembleID": "e", "HealthCheck": {"type": "x"}})
    assert other == HealthReply(ok=False, error="unknown healthcheck type")
    assert await ask(two.a, child.handle, REGISTER, manifest) == WELL
    assert (await ask(two.a, child.handle)).error == "port closed"
    assert not (await ask(two.a, child.handle, REGISTER, {"HealthCheck": 5})).ok
