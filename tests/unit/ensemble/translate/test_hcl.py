"""The language of job files becomes a tree with places."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.translate.hcl import LABEL, parse_hcl
from dms.ensemble.tree import Mapping, Sequence, Tree


def plain(tree: Tree) -> Any:
    if isinstance(tree, Mapping):
        return {k: plain(e.value) for k, e in tree.entries.items()}
    return [plain(i) for i in tree.items] if isinstance(tree, Sequence) else tree.value


def parsed(text: str) -> Any:
    return plain(parse_hcl(text, "x.hcl"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-2.5", -2.5),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ('"a"', "a"),
        (r'"q\"\n\u00e9\\"', 'q"\né\\'),
        ('"x ${var.a} y"', "x ${var.a} y"),
        ('"${join(",", ["}"])}"', '${join(",", ["}"])}'),
        ('[1, "a",\n # c\n [2],]', [1, "a", [2]]),
        ('{a = 1, "b c" : [2]\n d = {} }', {"a": 1, "b c": [2], "d": {}}),
        ("var.image", "${var.image}"),
        ("1 + 2", "${1 + 2}"),
        ('upper("a")', '${upper("a")}'),
        ('[for s in ["a"] : s]', '${[for s in ["a"] : s]}'),
        ("{for s in x : s => s}", "${{for s in x : s => s}}"),
        ('a ? "b" : [1,\n 2]', '${a ? "b" : [1,\n 2]}'),
        ("[var.a, 1]", ["${var.a}", 1]),
        ("<<EOF\n a\n b\nEOF", " a\n b\n"),
        ("<<-EOF\n    a\n      b\n    EOF", "a\n  b\n"),
        ("/* x */ 1 // y", 1),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert parsed(f"a = {text}\n") == {"a": value}


def test_blocks_are_lists_of_maps_with_labels() -> None:
    text = 'a "x" "y" {\n b = 1\n}\na z { c { d = 1 } }\n# end'
    assert parsed(text) == {"a": [{LABEL: "x y", "b": 1}, {LABEL: "z", "c": [{"d": 1}]}]}


def test_many_blocks_and_comments_without_end_take_no_time_to_speak_of() -> None:
    assert len(parsed("a {}\n" * 20_000)["a"]) == 20_000
    assert parsed("a = 1\n" + "/*x" * 200_000) == {"a": 1}


def test_places_are_known() -> None:
    tree = parse_hcl('a {\n  b = "x"\n}\n', "x.hcl")
    block = tree.entries["a"].value
    assert isinstance(block, Sequence)
    inner = block.items[0]
    assert isinstance(inner, Mapping)
    mark = inner.entries["b"].mark
    assert mark is not None
    assert (mark.line, mark.column) == (2, 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "x.hcl:1:5: not HCL: a value was expected"),
        ("a = 1 b = 2", "x.hcl:1:"),
        ("a {", "a name was expected"),
        ("}", "a name was expected"),
        ('a = "x', "a quote is not closed"),
        ('a = "x\n"', "a quote is not closed"),
        ("a = <<E\nx", "E that ends the text is missing"),
        ("a = 1\na = 2", "'a' is given twice"),
        ("a = 1\na {}", "'a' is given twice"),
        ("a = [1 2]", "not HCL"),
        ("a = {1 2}", "= was expected"),
        ("a = @", "'@' means nothing here"),
        ("a {\n" * 60, "nested deeper"),
        ("a = " + "[" * 60, "nested deeper"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(InvalidEnsemble) as caught:
        parse_hcl(text, "x.hcl")
    assert reason in str(caught.value.problems[0])
    assert caught.value.problems[0].line


PIECES = st.sampled_from(
    ["a", "b ", " = ", "{", "}", "[", "]", "(", ")", '"', "\n", "1", "-", "${", "%{", "\\", ",", ":", "?", "<<E\n", "E\n",
     "for ", "true", "#", "/*", "*/", "=>", ".", "é", "\0", "\ufeff", "var.x"]
)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(PIECES, max_size=25).map("".join))
@example('a = "${')
@example("a = [" * 39)
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    with contextlib.suppress(InvalidEnsemble):
        parse_hcl(text, "x.hcl")
