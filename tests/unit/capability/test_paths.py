from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.capability.paths import all_implied, any_implies, implies

PATHS = st.text(alphabet="/ab", max_size=8)


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        ("/dms", "/dms", True),
        ("/dms", "/dms/node", True),
        ("/", "/anything", True),
        ("/", "no slash", True),
        ("/dms", "/dmsx", False),
        ("/dms/node", "/dms", False),
        ("/a/", "/a", False),
        ("/a", "/a/", True),
        ("/a/", "/a/b", False),
        ("nunet", "nunet/hello", True),
        ("/A", "/a", False),
        ("", "", True),
        ("", "/", False),
        ("", "/a", False),
    ],
)
def test_a_path_implies_itself_and_what_lies_below(held: str, wanted: str, expected: bool) -> None:
    assert implies(held, wanted) is expected
    assert any_implies(frozenset({held}), wanted) is expected


@given(st.lists(PATHS, max_size=5), PATHS)
def test_sets_answer_like_one_path_at_a_time(held: list[str], wanted: str) -> None:
    assert any_implies(frozenset(held), wanted) == any_implies(held, wanted) == any(implies(p, wanted) for p in held)


@given(PATHS, PATHS, PATHS)
def test_implication_is_transitive(a: str, b: str, c: str) -> None:
    if implies(a, b) and implies(b, c):
        assert implies(a, c)


def test_all_of_nothing_is_implied() -> None:
    assert all_implied((), ())
    assert not all_implied((), ["/a"])
    assert all_implied(frozenset({"/a", "/b"}), ["/a/x", "/b"])
    assert not all_implied(frozenset({"/a", "/b"}), ["/a/x", "/c"])
