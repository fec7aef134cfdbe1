"""Other people's clocks, and our own when it is set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dms.node.clocks import (
    PUBLIC_TIME,
    REMEMBERED_S,
    ClockSample,
    JumpWatch,
    PeerTime,
    TimeBehaviour,
    ask_peers,
    behind_s,
)
from dms.testing.actors import World, wall_clock_ns
from dms.types.ids import PeerID


def sample(ahead_s: float, rtt_s: float = 0.1, name: str = "p") -> ClockSample:
    return ClockSample(PeerID(name), ahead_s, rtt_s)


@pytest.mark.parametrize(
    ("ahead", "behind"),
    [
        ([], None),
        ([60.0], None),  # which of two is wrong?
        ([60.0, 61.0], 60.5),
        ([-60.0, -61.0, -60.5], -60.5),
        ([0.01, -0.02, 3600.0], 0.0),  # one of theirs is
        ([0.0, 60.0, -60.0, 900.0], None),  # nobody agrees
        ([0.04, 0.04, 0.04], 0.0),  # less than asking takes
    ],
)
def test_our_clock_is_blamed_when_most_others_agree_against_it(ahead: list[float], behind: float | None) -> None:
    assert behind_s([sample(each) for each in ahead]) == behind


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=9), st.floats(-1e5, 1e5))
def test_liars_in_the_minority_move_nothing_far(lies: list[float], truth: float) -> None:
    honest = [sample(truth)] * (len(lies) + 1)
    found = behind_s([*honest, *(sample(lie) for lie in lies)])
    assert found is not None
    assert found == pytest.approx(truth, abs=0.06)


async def test_peers_tell_the_time_and_those_that_do_not_answer_are_left_out(autojump_clock: MockClock) -> None:
    world = World(seed=1, delay_s=0.05)
    async with world.node("alice") as alice, world.node("bob") as bob, world.node("carol") as carol:
        TimeBehaviour(bob).register()
        del carol
        (found,) = await ask_peers(alice, [bob.network.peer_id, PeerID("12D3KooWnobody")])
        assert found.peer == bob.network.peer_id
        assert found.ahead_s == pytest.approx(0.0, abs=found.rtt_s / 2 + 0.001)
        assert 0.1 <= found.rtt_s < 0.5
        from dms.actor.handle import handle_of_peer

        reply = await alice.invoke(handle_of_peer(bob.network.peer_id), PUBLIC_TIME, None, PeerTime)
        assert abs(reply.time_ns - wall_clock_ns()) < 10**9


def test_a_clock_that_is_set_is_noticed_and_remembered_for_a_while() -> None:
    watch = JumpWatch()
    assert not watch.look(1000.0, 1.0)
    assert not watch.look(1010.5, 11.0)
    assert watch.detail(11.0) is None
    assert watch.look(4620.5, 21.0)
    assert watch.detail(21.0) == "by +3600.0 s"
    assert not watch.look(4630.5, 31.0)
    assert watch.detail(21.0 + REMEMBERED_S) == "by +3600.0 s"
    assert watch.detail(21.1 + REMEMBERED_S) is None
    assert watch.look(4000.0, 41.0)
    assert watch.detail(41.0) == "by -640.5 s"
