from __future__ import annotations

from collections import Counter

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from dms.ensemble.config import EnsembleConfig, LocationConstraints
from dms.orchestrator.errors import QueueFull
from dms.orchestrator.lifecycle.events import AwaitTurn, Begun, BidsCollected, CollectBids, Finish
from dms.orchestrator.lifecycle.machine import NS_PER_S, begin, resume, step
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.orchestrator.scheduling.queueing import (
    HOLD_S,
    MAX_GIVES_WAY,
    MAX_QUEUED,
    MAX_QUEUED_BY_OWNER,
    PAUSE_S,
    Line,
    Turnstile,
    check_room,
    hopeless,
    is_queued,
    stamped,
)
from dms.orchestrator.scheduling.terms import Terms
from dms.testing.nodes import ensemble
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import CPU, Location, Resources

CONFIG = ensemble({"n1": {"a": "task"}})
MINUTE_NS = 60 * NS_PER_S
START_NS = 1_800_000_000 * NS_PER_S


def named(name: str) -> EnsembleID:
    return EnsembleID(name)


def queueing(queue_ns: int = 10 * MINUTE_NS) -> DeploymentState:
    state = begin(named("e"), CONFIG, now_ns=START_NS, deadline_ns=START_NS + 2 * MINUTE_NS + queue_ns)
    return msgspec.structs.replace(state, terms=Terms(queue_until_ns=START_NS + queue_ns))


# the machine ----------------------------------------------------------------------------------------------------------


def test_without_capacity_it_waits_for_its_turn_and_says_why() -> None:
    state, instructions = step(queueing(), CONFIG, Begun(at_ns=START_NS))
    assert instructions == (AwaitTurn(), CollectBids(1))

    state, instructions = step(state, CONFIG, BidsCollected(at_ns=START_NS + 5 * NS_PER_S, round=1, bids=()))

    assert instructions == (AwaitTurn(), CollectBids(2))
    assert (state.phase, state.queued_ns, state.error) == (Phase.PREPARING, START_NS + 5 * NS_PER_S, "no bids for n1")
    assert is_queued(state)


def test_it_waits_since_the_first_time_and_fails_when_its_time_is_over() -> None:
    state, _ = step(queueing(), CONFIG, Begun(at_ns=START_NS))
    for number in range(1, 5):
        at_ns = START_NS + number * 2 * MINUTE_NS
        state, _ = step(state, CONFIG, BidsCollected(at_ns=at_ns, round=number, bids=()))
        assert state.queued_ns == START_NS + 2 * MINUTE_NS

    state, instructions = step(state, CONFIG, BidsCollected(at_ns=START_NS + 10 * MINUTE_NS, round=5, bids=()))

    assert state.phase is Phase.FAILED
    assert state.error == "failed to create deployment: it waited 480 s in the queue: no bids for n1"
    assert Finish() in instructions


def test_after_a_restart_it_waits_on_with_its_reason() -> None:
    state, _ = step(queueing(), CONFIG, Begun(at_ns=START_NS))
    state, _ = step(state, CONFIG, BidsCollected(at_ns=START_NS + MINUTE_NS, round=1, bids=()))

    after, instructions = resume(state, START_NS + 3 * MINUTE_NS)

    assert (after.queued_ns, after.error) == (START_NS + MINUTE_NS, "no bids for n1")
    assert instructions[0] == AwaitTurn()


def test_after_a_restart_beyond_its_time_it_fails() -> None:
    state, _ = step(queueing(), CONFIG, Begun(at_ns=START_NS))
    state, _ = step(state, CONFIG, BidsCollected(at_ns=START_NS + MINUTE_NS, round=1, bids=()))

    after, _ = resume(state, START_NS + 60 * MINUTE_NS)

    assert after.phase is Phase.FAILED


def test_who_does_not_ask_for_the_queue_is_never_in_it() -> None:
    state = begin(named("e"), CONFIG, now_ns=START_NS, deadline_ns=START_NS + MINUTE_NS)
    state, instructions = step(state, CONFIG, Begun(at_ns=START_NS))
    assert instructions == (CollectBids(1),)

    state, instructions = step(state, CONFIG, BidsCollected(at_ns=START_NS + 5 * NS_PER_S, round=1, bids=()))

    assert instructions == (CollectBids(2),)
    assert not is_queued(state)


def test_peers_that_broke_a_bid_are_asked_again_after_a_turn_without_any() -> None:
    state, _ = step(queueing(), CONFIG, Begun(at_ns=START_NS))
    state = msgspec.structs.replace(state, failures={"peer": 2})

    state, _ = step(state, CONFIG, BidsCollected(at_ns=START_NS + MINUTE_NS, round=1, bids=()))

    assert state.failures == {}


def test_the_end_counts_from_the_first_time_it_ran() -> None:
    terms = Terms(queue_until_ns=START_NS + MINUTE_NS, run_for_ns=MINUTE_NS)
    state = msgspec.structs.replace(queueing(), phase=Phase.RUNNING, terms=terms, queued_ns=START_NS)

    running = stamped(state, START_NS + 5)
    later = stamped(running, START_NS + 99)

    assert (running.ends_ns, running.queued_ns) == (START_NS + 5 + MINUTE_NS, 0)
    assert later is running


# hopeless -------------------------------------------------------------------------------------------------------------


def changed(**changes: object) -> EnsembleConfig:
    node = msgspec.structs.replace(CONFIG.v1.nodes["n1"], **changes)
    return msgspec.structs.replace(CONFIG, v1=msgspec.structs.replace(CONFIG.v1, nodes={"n1": node}))


def places(*accept: Location, reject: tuple[Location, ...] = ()) -> EnsembleConfig:
    return changed(location=LocationConstraints(accept=accept, reject=reject))


GERMANY, BERLIN, EUROPE = Location(country="DE"), Location(country="DE", city="Berlin"), Location(continent="EU")


@pytest.mark.parametrize(
    "config",
    [
        places(GERMANY, reject=(GERMANY,)),
        places(BERLIN, reject=(Location(country="de"),)),
        places(BERLIN, GERMANY, reject=(Location(city="Berlin"), GERMANY)),
        places(reject=(Location(),)),
    ],
)
def test_places_that_exclude_each_other_are_hopeless(config: EnsembleConfig) -> None:
    assert "n1" in hopeless(config)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        places(GERMANY, reject=(BERLIN,)),
        places(GERMANY, reject=(EUROPE,)),  # who is in Germany and does not say that it is in Europe may host it
        places(GERMANY, EUROPE, reject=(GERMANY,)),
        places(reject=(GERMANY, EUROPE)),
    ],
)
def test_what_somebody_could_offer_is_not_hopeless(config: EnsembleConfig) -> None:
    assert hopeless(config) == ""


def test_a_pinned_peer_that_is_excluded_is_hopeless() -> None:
    config = changed(peer="12D3KooWBpeer")
    excluding = msgspec.structs.replace(config.v1, exclude_peers=(PeerID("12D3KooWBpeer"),))

    assert hopeless(config) == ""
    assert "exclude_peers" in hopeless(msgspec.structs.replace(config, v1=excluding))


# bounds ---------------------------------------------------------------------------------------------------------------


def test_only_so_many_wait_of_one_user_and_of_all() -> None:
    mine = [msgspec.structs.replace(queueing(), owner="me")] * (MAX_QUEUED_BY_OWNER - 1)
    check_room(mine, "me")
    with pytest.raises(QueueFull, match="of yours"):
        check_room([*mine, mine[0]], "me")
    check_room([*mine, mine[0]], "you")
    running = [msgspec.structs.replace(state, phase=Phase.RUNNING) for state in mine]
    check_room([*mine, *running], "me")
    with pytest.raises(QueueFull, match="at this node"):
        check_room([msgspec.structs.replace(queueing(), owner=str(n)) for n in range(MAX_QUEUED)], "me")


# whose turn -----------------------------------------------------------------------------------------------------------


def turns(line: Line, waiting: list[EnsembleID], count: int, now_s: float = 0.0) -> list[str]:
    order = []
    for _ in range(count):
        chosen, again_s = line.next(dict.fromkeys(waiting), now_s)
        while chosen is None:
            now_s = again_s
            chosen, again_s = line.next(dict.fromkeys(waiting), now_s)
        line.took(chosen, now_s)
        order.append(str(chosen))
    return order


def test_users_take_turns_each_users_oldest_first() -> None:
    line = Line()
    for at, (name, owner) in enumerate((("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"))):
        line.join(named(name), owner, at, 0.0)

    assert turns(line, [named(n) for n in ("a1", "a2", "a3", "b1")], 5) == ["a1", "b1", "a2", "a3", "a1"]


def test_nobody_asks_again_before_the_pause_is_over() -> None:
    line = Line()
    line.join(named("a"), "a", 0, 0.0)
    line.took(named("a"), 0.0)

    assert line.next({named("a"): None}, PAUSE_S - 0.1) == (None, PAUSE_S)
    assert line.next({named("a"): None}, PAUSE_S) == (named("a"), PAUSE_S)


def test_who_joins_late_does_not_ask_again_and_again() -> None:
    line = Line()
    line.join(named("old"), "a", 0, 0.0)
    turns(line, [named("old")], 50)
    line.join(named("new"), "b", 1, 1000.0)

    order = turns(line, [named("old"), named("new")], 6, 1000.0)

    assert Counter(order) == {"old": 3, "new": 3}


@given(owners=st.lists(st.integers(0, 3), min_size=1, max_size=12), rounds=st.integers(1, 5))
@settings(max_examples=50)
def test_everybody_has_one_turn_in_each_pass(owners: list[int], rounds: int) -> None:
    line = Line()
    for at, owner in enumerate(owners):
        line.join(named(f"e{at}"), str(owner), at, 0.0)
    everybody = [named(f"e{at}") for at in range(len(owners))]

    order = turns(line, everybody, rounds * len(owners))

    for number in range(rounds):
        assert set(order[number * len(owners) : (number + 1) * len(owners)]) == set(everybody)


async def test_one_holds_the_turn_until_it_leaves(autojump_clock: MockClock) -> None:
    turnstile, order = Turnstile(), list[str]()

    async def ask(name: str, holds_s: float) -> None:
        await turnstile.turn(named(name), name, 0)
        order.append(f"{name} {trio.current_time():g}")
        await trio.sleep(holds_s)
        turnstile.leave(named(name))

    async with trio.open_nursery() as nursery:
        for name, holds_s in (("a", 5.0), ("b", 1000.0), ("c", 1.0)):
            nursery.start_soon(ask, name, holds_s)
            await wait_all_tasks_blocked()

    assert order == ["a 0", "b 5", f"c {5 + HOLD_S:g}"]  # nobody holds it for ever


async def test_one_that_is_cancelled_holds_nobody_up(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    await turnstile.turn(named("a"), "a", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turnstile.turn, named("b"), "b", 1)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    turnstile.leave(named("a"))

    with trio.fail_after(1):
        await turnstile.turn(named("c"), "c", 2)


async def test_what_becomes_free_while_those_before_ask_again_is_not_taken_from_them(
    autojump_clock: MockClock,
) -> None:
    turnstile, peer, other = Turnstile(), PeerID("p"), PeerID("q")
    first, second = named("a"), named("b")
    await turnstile.turn(first, "a", 1)
    await turnstile.turn(second, "b", 2)
    one, two = Resources(cpu=CPU(cores=1)), Resources(cpu=CPU(cores=2))

    assert not turnstile.gives_way(first, {peer: one}), "nobody is before it"
    assert not turnstile.gives_way(second, {}), "nothing was found"
    assert turnstile.gives_way(second, {peer: one})
    assert not turnstile.gives_way(second, {peer: one}), "those before had no use for it"
    assert turnstile.gives_way(second, {peer: one})
    assert turnstile.gives_way(second, {peer: two})
    assert turnstile.gives_way(second, {peer: two, other: one})
    assert not turnstile.gives_way(second, {peer: one, other: one})


async def test_nobody_gives_way_for_ever(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    await turnstile.turn(named("a"), "a", 1)
    await turnstile.turn(named("b"), "b", 2)

    found = [turnstile.gives_way(named("b"), {PeerID("p"): Resources(cpu=CPU(cores=n))}) for n in range(1, 7)]

    assert found == [True] * MAX_GIVES_WAY + [False, True]
