"""A problem tells where, what, which value and how to mend it, in one line."""

from __future__ import annotations

from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.problem import MAX_VALUE_CHARS, Problem, shorten


def test_it_leaves_out_what_is_not_known() -> None:
    assert str(Problem("V1.a", "is wrong")) == "V1.a: is wrong"
    assert str(Problem("V1.a", "is wrong", "mend it", file="f")) == "f: V1.a: is wrong (mend it)"
    assert str(Problem("", "is wrong", line=2, column=3)) == "line 2, column 3: is wrong"


def test_the_value_is_named_once() -> None:
    assert str(Problem("p", "must be positive", value="-1")) == "p: must be positive, not '-1'"
    assert str(Problem("p", "'-1' is not good", value="-1")) == "p: '-1' is not good"


def test_values_are_shortened_to_one_line() -> None:
    assert shorten("a\n  b") == "a b"
    assert len(shorten("x" * 1000)) == MAX_VALUE_CHARS


def test_the_error_counts_the_rest() -> None:
    assert str(InvalidEnsemble([Problem("p", "r", "h")])) == "p: r"
    assert InvalidEnsemble([Problem("p", "r", "h")]).hint == "h"
    assert str(InvalidEnsemble([Problem("p", "r")] * 2)) == "p: r (and 1 more problem)"
    assert str(InvalidEnsemble([])) == "invalid ensemble config"
