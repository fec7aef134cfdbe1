"""When a provider counts as dead, and what must never make it so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.orchestrator.supervision.suspicion import (
    LAG_S,
    LEAST_FAILURES,
    MAX_SCORE,
    MAX_SUSPICION_S,
    MIN_SUSPICION_S,
    LocalHealth,
    Suspicion,
)


def suspected(denials: int = 0, failures: int = LEAST_FAILURES) -> Suspicion:
    suspicion = Suspicion(since_s=0.0)
    for _ in range(failures):
        suspicion.failed(is_connected=False)
    for number in range(denials):
        suspicion.denied(f"peer {number}")
    return suspicion


def test_alone_it_takes_longest_and_each_who_agrees_shortens_it() -> None:
    health = LocalHealth()
    waits = [suspected(denials).timeout_s(health) for denials in range(5)]
    assert waits[0] == MAX_SUSPICION_S
    assert waits[3] == waits[4] == pytest.approx(MIN_SUSPICION_S)
    assert waits[0] > waits[1] > waits[2] > waits[3]


def test_it_is_dead_when_the_suspicion_has_lasted() -> None:
    health = LocalHealth()
    assert not suspected().is_dead(MAX_SUSPICION_S - 0.1, health)
    assert suspected().is_dead(MAX_SUSPICION_S, health)
    assert not suspected(failures=1).is_dead(100, health), "once may be bad luck"


def test_as_long_as_the_connection_holds_it_is_not_dead() -> None:
    suspicion = suspected()
    suspicion.failed(is_connected=True)
    assert not suspicion.is_dead(1000, LocalHealth())
    suspicion.failed(is_connected=False)
    assert suspicion.is_dead(1000, LocalHealth())


def test_who_is_slow_itself_waits_longer() -> None:
    health = LocalHealth()
    health.lagged(4 * LAG_S)
    assert (health.score, suspected().timeout_s(health)) == (4, 5 * MAX_SUSPICION_S)
    health.misjudged()
    for _ in range(10):
        health.reached()
    assert (health.score, health.multiplier) == (0, 1)


@settings(max_examples=100)
@given(
    lags=st.lists(st.floats(0.0, 30.0), min_size=1, max_size=20),
    ran_s=st.floats(0.0, MIN_SUSPICION_S - 0.01),
    denials=st.integers(0, 5),
)
def test_however_long_we_did_not_run_that_time_speaks_against_nobody(
    lags: list[float], ran_s: float, denials: int
) -> None:
    health, suspicion, now_s = LocalHealth(), suspected(denials), ran_s
    for lag_s in lags:
        now_s += lag_s
        suspicion.slept(lag_s)
        health.lagged(lag_s)
    assert not suspicion.is_dead(now_s - 1e-6, health)
    assert 0 <= health.score <= MAX_SCORE
