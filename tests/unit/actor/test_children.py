"""The children of an actor: found while they live, forgotten afterwards, whatever happens while they start or stop."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from tests.unit.actor.conftest import Two
from trio.abc import Instrument
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.children import Children
from dms.actor.errors import ActorExists
from dms.actor.supervision import Backoff, Intensity, Restart, Strategy, Supervision
from dms.capability.errors import NotAuthorized
from dms.testing.actors import World, key_of, security_of

ONCE = Intensity(max_restarts=1, period_s=60)
AT_ONCE = Backoff(first_s=0.1, factor=1)


async def test_a_child_is_found_by_its_inbox_until_it_has_ended(autojump_clock: MockClock, two: Two) -> None:
    children = two.a.children
    child = await two.a.create_child("one")
    assert (children.get("one"), "one" in children, len(children), children.names()) == (child, True, 1, ("one",))
    assert list(children) == [child]
    with pytest.raises(ActorExists):
        await two.a.create_child("one")
    assert children.get("one") is child
    await child.aclose()
    assert (children.get("one"), "one" in children, len(children)) == (None, False, 0)
    assert await children.wait_gone("one") is None
    await two.a.create_child("one")


async def test_a_child_that_is_stopped_before_it_could_begin_does_not_run(autojump_clock: MockClock, two: Two) -> None:
    """Its keeper has not had its turn yet: the stop must not be forgotten until then."""
    child, runs = two.a.prepare_child("one"), list[str]()

    async def body(actor: Actor) -> None:
        runs.append(actor.inbox)
        await trio.sleep_forever()

    class StopsItAtOnce(Instrument):
        """Before any task that was just made has a turn, whatever their order."""

        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            if "one" in two.a.children:
                child.stop()

    stopper = StopsItAtOnce()
    trio.lowlevel.add_instrument(stopper)
    try:
        await two.a.start_child(child, body=body)
        with trio.fail_after(5):
            await child.aclose()
    finally:
        trio.lowlevel.remove_instrument(stopper)
    assert "one" not in two.a.children
    assert runs == []


async def test_one_whose_starter_gives_up_leaves_nothing_behind(autojump_clock: MockClock, two: Two) -> None:
    child = two.a.prepare_child("one")
    with trio.CancelScope() as scope:
        scope.cancel()
        await two.a.start_child(child)
    assert "one" not in two.a.children
    await two.a.create_child("one", child.security.key)


async def test_a_parent_on_its_way_out_starts_no_child_and_keeps_no_name(autojump_clock: MockClock, two: Two) -> None:
    children = Children()
    async with trio.open_nursery() as nursery:
        pass
    child = two.a.prepare_child("late")
    with pytest.raises(RuntimeError):
        await children.start(nursery, child, Restart.TRANSIENT)
    assert "late" not in children


async def test_a_child_whose_supervisor_cannot_be_let_in_does_not_run(autojump_clock: MockClock, two: Two) -> None:
    child = two.a.prepare_child("one")

    def refuse(*_args: object, **_options: object) -> None:
        raise NotAuthorized

    child.grant = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(NotAuthorized):
        await two.a.start_child(child, supervisor=two.b.handle)
    await trio.testing.wait_all_tasks_blocked()
    assert "one" not in two.a.children


async def fail(_actor: Actor) -> None:
    await trio.sleep(1)
    raise ZeroDivisionError


async def endure(_actor: Actor) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("strategy", "left"), [(Strategy.ONE_FOR_ONE, ("other",)), (Strategy.ONE_FOR_ALL, ()), (Strategy.REST_FOR_ONE, ())]
)
async def test_whoever_waits_hears_why_a_child_was_given_up_and_its_group_ends_with_it(
    autojump_clock: MockClock, strategy: Strategy, left: tuple[str, ...]
) -> None:
    world, key = World(), key_of("root")
    network = world.network.node(key.ed25519_seed())
    children = Children(Supervision(strategy, intensity=ONCE, backoff=AT_ONCE))
    root = Actor(security_of(key, None), network, children=children)
    async with network.run(), trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.create_child("flawed", body=fail)
        await root.create_child("other", body=endure)
        failure = await children.wait_gone("flawed")
        assert isinstance(failure, ExceptionGroup)
        assert failure.subgroup(ZeroDivisionError) is not None
        await trio.sleep(1)
        assert children.names() == left
        nursery.cancel_scope.cancel()
