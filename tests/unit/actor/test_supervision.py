"""Decisions about children that ended; and the same carried out on the virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from dms.actor.actor import Actor, Body
from dms.actor.children import Children
from dms.actor.errors import ActorExists
from dms.actor.supervision import (
    Backoff,
    Forget,
    GiveUp,
    Intensity,
    Restart,
    StartAgain,
    Strategy,
    Supervision,
)
from dms.network.errors import AlreadyHandled
from dms.testing.actors import World, key_of, security_of

# the decision ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "failed", "expected"),
    [
        (Restart.PERMANENT, True, True),
        (Restart.PERMANENT, False, True),
        (Restart.TRANSIENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TEMPORARY, True, False),
        (Restart.TEMPORARY, False, False),
    ],
)
def test_the_kind_says_which_ends_are_followed_by_a_start(restart: Restart, failed: bool, expected: bool) -> None:
    supervision = Supervision()
    supervision.add("a", restart)
    assert isinstance(supervision.ended("a", failed=failed, now_s=0.0), StartAgain if expected else Forget)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ("b",)),
        (Strategy.ONE_FOR_ALL, ("a", "b", "c")),
        (Strategy.REST_FOR_ONE, ("b", "c")),
    ],
)
def test_the_strategy_says_who_is_started_again(strategy: Strategy, expected: tuple[str, ...]) -> None:
    supervision = Supervision(strategy)
    for name in "abc":
        supervision.add(name, Restart.PERMANENT)
    decision = supervision.ended("b", failed=True, now_s=0.0)
    assert isinstance(decision, StartAgain)
    assert decision.names == expected


def test_waits_grow_up_to_a_bound_and_after_too_many_it_gives_up() -> None:
    supervision = Supervision(intensity=Intensity(4, 100.0), backoff=Backoff(1.0, 3.0, 10.0))
    supervision.add("a", Restart.PERMANENT)
    decisions = [supervision.ended("a", failed=True, now_s=float(n)) for n in range(5)]
    assert [d.delay_s for d in decisions if isinstance(d, StartAgain)] == [1.0, 3.0, 9.0, 10.0]
    assert decisions[-1] == GiveUp(4)


def test_failures_of_long_ago_do_not_count() -> None:
    supervision = Supervision(intensity=Intensity(1, 10.0), backoff=Backoff(1.0))
    supervision.add("a", Restart.PERMANENT)
    for number in range(5):
        assert supervision.ended("a", failed=True, now_s=number * 10.0) == StartAgain(("a",), 1.0)


def test_children_that_do_not_depend_on_each_other_are_counted_one_by_one() -> None:
    for strategy, expected in ((Strategy.ONE_FOR_ONE, StartAgain), (Strategy.ONE_FOR_ALL, GiveUp)):
        supervision = Supervision(strategy, intensity=Intensity(1, 10.0))
        for name in "ab":
            supervision.add(name, Restart.PERMANENT)
        supervision.ended("a", failed=True, now_s=0.0)
        assert isinstance(supervision.ended("b", failed=True, now_s=0.0), expected)


def test_who_comes_back_under_the_same_name_starts_anew() -> None:
    supervision = Supervision(intensity=Intensity(1, 10.0))
    for _ in range(3):
        supervision.add("a", Restart.PERMANENT)
        assert isinstance(supervision.ended("a", failed=True, now_s=0.0), StartAgain)
        supervision.remove("a")


# carried out -----------------------------------------------------------------------------------------------------------


class Group:
    """Children whose every run is written down, and that fail when told to."""

    def __init__(self, root: Actor) -> None:
        self.root = root
        self.runs: list[str] = []
        self.fail: dict[str, trio.Event] = {}

    async def add(self, name: str, restart: Restart = Restart.TRANSIENT) -> Actor:
        self.fail[name] = trio.Event()
        return await self.root.create_child(name, body=self._body(name), restart=restart)

    def _body(self, name: str) -> Body:
        async def body(_actor: Actor) -> None:
            self.runs.append(name)
            await self.fail[name].wait()
            self.fail[name] = trio.Event()
            raise ZeroDivisionError(name)

        return body


def parent(world: World, nursery: trio.Nursery, children: Children) -> Actor:
    key = key_of("root")
    network = world.network.node(key.ed25519_seed())
    return Actor(security_of(key, world.organisation), network, children=children)


async def grouped(nursery: trio.Nursery, strategy: Strategy, **options: object) -> Group:
    world = World()
    root = parent(world, nursery, Children(Supervision(strategy, backoff=Backoff(5.0, 1.0)), **options))  # type: ignore[arg-type]
    network = root.network

    async def run_network(task_status: trio.TaskStatus[None]) -> None:
        async with network.run():
            task_status.started()
            await trio.sleep_forever()

    await nursery.start(run_network)
    await nursery.start(root.run)
    group = Group(root)
    for name in "abc":
        await group.add(name)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(group.runs) == ["a", "b", "c"]
    group.runs.clear()
    return group


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["b"]),
        (Strategy.ONE_FOR_ALL, ["a", "b", "c"]),
        (Strategy.REST_FOR_ONE, ["b", "c"]),
    ],
)
async def test_after_a_failure_the_right_ones_run_again_and_all_receive(
    autojump_clock: MockClock, strategy: Strategy, expected: list[str]
) -> None:
    async with trio.open_nursery() as nursery:
        group = await grouped(nursery, strategy)
        started_s = trio.current_time()
        group.fail["b"].set()
        await trio.sleep(4)
        assert group.runs == []
        await trio.sleep(2)
        assert sorted(group.runs) == expected
        assert trio.current_time() == started_s + 6
        assert sorted(group.root.children.names()) == ["a", "b", "c"]
        for child in group.root.children:
            assert (await group.root.invoke(child.handle, "/dms/actor/healthcheck", None, dict[str, object]))["OK"]
        nursery.cancel_scope.cancel()


async def test_one_that_fails_too_often_is_given_up_told_and_forgotten(autojump_clock: MockClock) -> None:
    told: list[str] = []
    async with trio.open_nursery() as nursery:
        group = await grouped(
            nursery, Strategy.ONE_FOR_ONE, on_given_up=lambda actor, error: told.append(f"{actor.inbox}: {error!r}")
        )
        for _ in range(6):
            group.fail["b"].set()
            await trio.sleep(6)
        assert len(told) == 1
        assert told[0].startswith("b: ExceptionGroup")
        assert sorted(group.root.children.names()) == ["a", "c"]
        await group.add("b")
        nursery.cancel_scope.cancel()


async def test_a_group_that_fails_too_often_takes_its_parent_with_it(autojump_clock: MockClock) -> None:
    async def fail_again_and_again() -> None:
        async with trio.open_nursery() as nursery:
            group = await grouped(nursery, Strategy.ONE_FOR_ALL, is_escalating=True)
            for _ in range(7):
                group.fail["b"].set()
                await trio.sleep(6)

    with pytest.raises(ExceptionGroup) as caught:
        await fail_again_and_again()
    assert "failed 6 times" in str(_innermost(caught.value))


async def test_one_that_is_stopped_while_it_waits_for_its_next_start_is_not_started(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        group = await grouped(nursery, Strategy.ONE_FOR_ONE)
        child = group.root.children.get("b")
        assert child is not None
        group.fail["b"].set()
        await trio.sleep(1)
        with pytest.raises(ActorExists):
            await group.add("b")
        await child.aclose()
        await trio.sleep(10)
        assert group.runs == []
        assert "b" not in group.root.children
        nursery.cancel_scope.cancel()


async def test_a_child_that_cannot_start_tells_who_made_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        group = await grouped(nursery, Strategy.ONE_FOR_ONE)

        async def ignore(_peer: object, _data: bytes) -> None:
            return

        group.root.network.handle("actor/d/messages/0.0.1", ignore)
        with pytest.raises(AlreadyHandled):
            await group.add("d")
        assert "d" not in group.root.children
        nursery.cancel_scope.cancel()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
