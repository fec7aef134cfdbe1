"""Warnings show when they have lasted, and not while another explains them; on a clock that the test turns."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.observe.health import Health, Severity, Warnable


def kind(code: str, delay_s: float = 0.0, *silenced_by: str, severity: Severity = Severity.WARNING) -> Warnable:
    return Warnable(
        code=code, severity=severity, text=f"{code} is so", hint="mend it", delay_s=delay_s, silenced_by=silenced_by
    )


def codes(health: Health, now_s: float) -> list[str]:
    return [warning.kind.code for warning in health.shown(now_s)]


def test_a_warning_shows_after_its_delay_and_goes_at_once() -> None:
    health = Health([kind("a", 10.0)])
    health.report("a", "x", 5.0)
    assert codes(health, 14.9) == []
    assert health.next_change_s(5.0) == 15.0
    health.report("a", "y", 14.9)
    (warning,) = health.shown(15.0)
    assert (warning.text, warning.since_s) == ("a is so: y", 5.0)
    assert health.next_change_s(15.0) == math.inf
    health.report("a", None, 16.0)
    assert codes(health, 16.0) == []
    health.report("a", "", 17.0)
    assert codes(health, 20.0) == []
    assert health.shown(27.0)[0].text == "a is so"


def test_what_another_explains_is_not_told_even_before_that_shows() -> None:
    health = Health([kind("cause", 10.0), kind("effect", 0.0, "cause"), kind("far", 0.0, "effect"), kind("other")])
    for code in ("far", "effect", "cause", "other"):
        health.report(code, "", 0.0)
    assert codes(health, 0.0) == ["other"]
    assert codes(health, 10.0) == ["cause", "other"]
    health.report("cause", None, 11.0)
    assert codes(health, 11.0) == ["effect", "other"]


def test_the_worst_and_oldest_come_first() -> None:
    health = Health(
        [kind("n", severity=Severity.NOTE), kind("w2"), kind("w1"), kind("e", severity=Severity.ERROR), kind("well")]
    )
    for now_s, code in enumerate(("n", "w1", "w2", "e")):
        health.report(code, "", float(now_s))
    health.report("well", None, 0.0)
    assert codes(health, 9.0) == ["e", "w1", "w2", "n"]


def test_a_turn_tells_once_what_appeared_and_what_is_gone() -> None:
    health = Health([kind("a"), kind("b", 5.0)])
    health.report("a", "", 0.0)
    health.report("b", "", 0.0)
    first = health.turn(0.0)
    assert ([w.kind.code for w in first.appeared], first.gone) == (["a"], ())
    assert health.turn(1.0) == type(first)()
    health.report("a", None, 5.0)
    second = health.turn(5.0)
    assert ([w.kind.code for w in second.appeared], [w.kind.code for w in second.gone]) == (["b"], ["a"])


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ([kind("a"), kind("a")], "declared twice"),
        ([kind("a", 0.0, "b")], "not declared"),
        ([kind("a", 0.0, "b"), kind("b", 0.0, "a")], "silence each other"),
        ([kind("a", 0.0, "a")], "silence each other"),
    ],
)
def test_declarations_that_make_no_sense_are_refused(kinds: list[Warnable], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Health(kinds)


def test_what_is_not_declared_cannot_be_reported() -> None:
    with pytest.raises(KeyError):
        Health([kind("a")]).report("b", "", 0.0)


KINDS = [kind("a", 3.0), kind("b", 0.0, "a"), kind("c", 7.0, "b"), kind("d", 1.0)]
STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.text(max_size=3)), st.integers(0, 5)), max_size=30
)


@given(STEPS)
def test_what_shows_is_what_the_simplest_model_says(steps: list[tuple[str, str | None, int]]) -> None:
    health, now_s, since, told = Health(KINDS), 0, dict[str, int](), set[str]()
    for code, detail, wait in steps:
        now_s += wait
        health.report(code, detail, float(now_s))
        if detail is None:
            since.pop(code, None)
        else:
            since.setdefault(code, now_s)
        expected = {
            each.code
            for each in KINDS
            if each.code in since
            and now_s - since[each.code] >= each.delay_s
            and not set(since) & set({"b": "a", "c": "ba"}.get(each.code, ""))
        }
        assert set(codes(health, float(now_s))) == expected
        turn = health.turn(float(now_s))
        assert {w.kind.code for w in turn.appeared} == expected - told
        assert {w.kind.code for w in turn.gone} == told - expected
        told = expected
        upcoming = health.next_change_s(float(now_s))
        assert upcoming > now_s
        if upcoming < math.inf:
            assert set(codes(health, upcoming)) > expected
            assert set(codes(health, upcoming - 0.5)) == expected
