import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.resources.errors import InvalidResources
from dms.resources.versions import CONSTRAINTS, MAX_CHARS, Version

texts = st.from_regex(r"v?[0-9]{1,2}(\.[0-9]{1,2}){0,3}(-[a-c0-9]{1,2}(\.[0-9])?)?", fullmatch=True)


@pytest.mark.parametrize(
    ("version", "constraint", "wanted", "result"),
    [
        ("1.2.3", "=", "1.2.3", True),
        ("v1.2", "==", "1.2.0", True),
        ("1.2.3", "", "1.2", True),
        ("1.10", ">", "1.9", True),
        ("2.0-rc1", ">=", "2.0", False),
        ("2.0-rc.10", ">", "2.0-rc.9", True),
        ("2.0-1", "<", "2.0-alpha", True),
        ("2.0+build", "=", "2.0", True),
        ("1.2", "!=", "1.2.0", False),
        ("1.2", "<=", "1.2", True),
        ("1.4.9", "~>", "1.4.2", True),
        ("1.5.0", "~>", "1.4.2", False),
        ("1.9", "~>", "1.4", True),
        ("2.0", "~=", "1.4", False),
        ("1.9", " ^ ", "1.4", True),
        ("2.0", "^", "1.4", False),
    ],
)
def test_versions_satisfy_constraints(version: str, constraint: str, wanted: str, result: bool) -> None:
    assert Version(version).satisfies(constraint, Version(wanted)) is result


@pytest.mark.parametrize("text", ["", "one", "1.", "1..2", "1.2-", "1 2", "1.2.3" * MAX_CHARS, "١.٢"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidResources, match="invalid version"):
        Version(text)


def test_what_is_no_constraint_is_refused() -> None:
    with pytest.raises(InvalidResources, match='invalid constraint "about"'):
        Version("1").satisfies("about", Version("1"))


@settings(max_examples=40)
@given(texts, texts, texts)
def test_versions_are_in_order(a: str, b: str, c: str) -> None:
    x, y, z = Version(a), Version(b), Version(c)
    assert (x < y) + (x == y) + (x > y) == 1
    assert hash(x) == hash(y) or x != y
    if x <= y <= z:
        assert x <= z


@settings(max_examples=40)
@given(texts, texts)
def test_constraints_agree_with_the_order(a: str, b: str) -> None:
    x, y = Version(a), Version(b)
    holds = {constraint: x.satisfies(constraint, y) for constraint in CONSTRAINTS}
    assert holds["="] != holds["!="]
    assert holds[">="] == (holds[">"] or holds["="])
    assert holds["<="] != holds[">"]
    assert not holds["^"] or holds[">="]
    assert not holds["~>"] or holds["^"]


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    with contextlib.suppress(InvalidResources):
        Version(text)
