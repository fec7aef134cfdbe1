from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dms.network.libp2p.connections.trimming import Standing, expendable

PLAIN = Standing(key="", is_protected=False, open_work=0, score=0.0, idle_s=0.0, age_s=1000.0)


def test_the_least_useful_go_first() -> None:
    standings = [
        replace(PLAIN, key="works", open_work=1, score=-5.0),
        replace(PLAIN, key="liked", score=5.0),
        replace(PLAIN, key="idle", idle_s=600.0),
        replace(PLAIN, key="old"),
        replace(PLAIN, key="recent", age_s=100.0),
        replace(PLAIN, key="disliked", score=-1.0),
    ]
    assert expendable(standings, low_water=0, grace_s=20.0) == ["disliked", "idle", "recent", "old", "liked", "works"]
    assert expendable(standings, low_water=4, grace_s=20.0) == ["disliked", "idle"]
    assert expendable(standings, low_water=6, grace_s=20.0) == []


@given(
    st.lists(
        st.builds(
            Standing,
            key=st.integers(),
            is_protected=st.booleans(),
            open_work=st.integers(0, 3),
            score=st.floats(-1e4, 1e4),
            idle_s=st.floats(0, 1e6),
            age_s=st.floats(0, 1e6),
        ),
        max_size=60,
        unique_by=lambda one: one.key,
    ),
    st.integers(0, 60),
)
def test_nobody_protected_or_young_goes_and_no_more_than_needed(standings: list[Standing[int]], low_water: int) -> None:
    gone = set(expendable(standings, low_water=low_water, grace_s=20.0))
    sure = [one for one in standings if one.is_protected or one.age_s < 20.0]
    assert not gone & {one.key for one in sure}
    assert len(standings) - len(gone) == max(min(len(standings), low_water), len(sure)) or not gone
    assert len(standings) - len(gone) >= min(len(standings), low_water)
