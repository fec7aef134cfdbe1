"""Attributes computed once."""

from __future__ import annotations

import pytest

from dms.types.lazy import lazy


class Circle:
    def __init__(self) -> None:
        self.computed = 0

    @lazy
    def area(self) -> int:
        """How large."""
        self.computed += 1
        return 7

    @lazy
    def broken(self) -> int:
        self.computed += 1
        raise ValueError("no")


def test_a_value_is_computed_once_for_each_object() -> None:
    one, two = Circle(), Circle()
    assert [one.area, one.area, two.area] == [7, 7, 7]
    assert [one.computed, two.computed] == [1, 1]


def test_a_failure_is_not_kept() -> None:
    circle = Circle()
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            _ = circle.broken
    assert circle.computed == 2


def test_the_class_shows_its_documentation() -> None:
    assert Circle.area.__doc__ == "How large."
