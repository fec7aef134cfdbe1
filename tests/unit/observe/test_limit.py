import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.observe import Counters, LimitedLogger, OncePerPeriod, get_logger


def test_a_key_is_admitted_once_per_period_and_what_was_held_back_is_counted() -> None:
    now = 0.0
    limit = OncePerPeriod(clock=lambda: now)
    assert [limit.admit("a") for _ in range(3)] == [0, None, None]
    assert limit.admit("b") == 0
    now = 1.0
    assert [limit.admit("a"), limit.admit("a"), limit.admit("b")] == [2, None, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.5)), max_size=60))
def test_no_key_is_ever_admitted_twice_within_a_period(steps: list[tuple[int, float]]) -> None:
    now, last, admitted, held_back = 0.0, dict.fromkeys(range(4), -9.0), 0, 0
    limit = OncePerPeriod(clock=lambda: now)
    for key, passed in steps:
        now += passed
        answer = limit.admit(key)
        if answer is not None:
            assert now - last[key] >= 1.0
            last[key] = now
            admitted += 1
            held_back += answer
    assert admitted + held_back <= len(steps)


def test_the_number_of_remembered_keys_is_bounded() -> None:
    limit = OncePerPeriod(max_keys=2, clock=lambda: 0.0)
    assert [limit.admit(key) for key in "abcb"] == [0, 0, 0, None]
    assert limit.admit("a") == 0  # forgotten


def test_a_limited_logger_tells_how_many_lines_it_held_back(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = LimitedLogger(get_logger("dms.test"), clock=lambda: now)
    with caplog.at_level(logging.WARNING):
        assert log.warning("peer1", "bad_envelope", reason="x")
        assert not log.warning("peer1", "bad_envelope", reason="y")
        now = 2.0
        assert log.warning("peer1", "bad_envelope", reason="z")
    fields = [record.__dict__["event_fields"] for record in caplog.records]
    assert fields == [{"reason": "x"}, {"reason": "z", "held_back": 1}]


def test_counters_count() -> None:
    counters = Counters()
    counters.add("b")
    counters.add("a", 3)
    counters.add("b")
    assert counters.get("nothing") == 0
    assert counters.snapshot() == {"a": 3, "b": 2}
    assert list(counters.snapshot()) == ["a", "b"]
