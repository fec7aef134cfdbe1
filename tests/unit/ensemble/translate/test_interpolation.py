"""Variables of Compose become placeholders, or their values of now."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ensemble.documents import HERE

from dms.ensemble.placeholders import Placeholders
from dms.ensemble.translate.interpolation import kept, resolved

ENV = {"A": "one", "B": "two"}
PIECES = st.sampled_from(
    ["$", "$$", "{", "}", "$A", "${A}", "${C}", "${C:-x}", "${C-y}", "${A:+z}", "${C:-${B}}", "a", " ", ":-", "|"]
)


@pytest.mark.parametrize(
    ("text", "placeholders", "value"),
    [
        ("plain", "plain", "plain"),
        ("$A", "${A:-}", "one"),
        ("x${A}y", "x${A:-}y", "xoney"),
        ("${C}", "${C:-}", ""),
        ("${C:-d}", "${C:-d}", "d"),
        ("${C-d}", "${C:-d}", "d"),
        ("${A:?must}", "${A}", "one"),
        ("${A:+other}", "other", "other"),
        ("${C:+other}", "", ""),
        ("${C:-${B}}", "${C:-${B:-}}", "two"),
        ("$$A", "$A", "$A"),
        ("$${A}", "$${A}", "${A}"),
        ("$$$A", "$one", "$one"),
        ("5$", "5$", "5$"),
    ],
)
def test_forms(text: str, placeholders: str, value: str) -> None:
    assert kept(text, ENV) == placeholders
    assert resolved(text, ENV) == value


@given(st.lists(PIECES, max_size=8).map("".join))
def test_what_is_kept_means_the_same_when_it_is_deployed(text: str) -> None:
    assert Placeholders(HERE, ENV).resolve(kept(text, ENV)) == resolved(text, ENV)
