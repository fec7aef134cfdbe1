"""What is written reads back as it was, here and elsewhere."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.test_document import parsed

from dms.ensemble.document import parse_document
from dms.ensemble.tree import Mapping, Scalar
from dms.ensemble.writing import write_scalar, write_yaml

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["no", "1", "1e3", "0x1", "2024-01-02", "12:30", "<<", "=", "~", "", " a", "a ", "- a", "a: b", "a #b", "#", "*a", "&a",
     "!a", "a\nb\n", "a\n\nb", "\na", "a\n\n\n", " a\nb", "a\n \nb", "a\tb\nc", "\t\nx", "a\r\nb", "|", ">", "%a", "@a", "`a"]
)  # fmt: skip
VALUES = st.recursive(
    TEXTS | st.booleans() | st.none() | st.integers(-(10**12), 10**12) | st.floats(-1e6, 1e6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(TEXTS, VALUES, min_size=1, max_size=5)


@settings(max_examples=100)
@given(DOCUMENTS)
@example({"a": {"b": ["x", "y: z"], "c": {"d": 1}}})
def test_it_reads_back_as_it_was(document: dict[str, Any]) -> None:
    assert parsed(write_yaml(document)) == document


@settings(max_examples=60)
@given(DOCUMENTS)
def test_other_readers_read_the_same(document: dict[str, Any]) -> None:
    assert yaml.safe_load(write_yaml(document)) == document


@settings(max_examples=60)
@given(DOCUMENTS, TEXTS, st.data())
def test_comments_change_nothing(document: dict[str, Any], comment: str, data: st.DataObject) -> None:
    paths: list[Any] = [(), *((key,) for key in document)]
    for key, value in document.items():
        inner = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        paths += [(key, part) for part in inner]
    chosen = data.draw(st.lists(st.sampled_from(paths), max_size=3))
    assert parsed(write_yaml(document, {path: [comment, "x" * 200] for path in chosen})) == document


@given(st.binary(max_size=40))
def test_bytes_stay_bytes(content: bytes) -> None:
    tree, problems = parse_document(f"a: {write_scalar(content)}".encode(), "x")
    assert problems == ()
    assert isinstance(tree, Mapping)
    scalar = tree.entries["a"].value
    assert isinstance(scalar, Scalar)
    assert scalar.content == content


def test_comments_stand_above_what_they_are_about() -> None:
    document = {"a": {"b": 1, "list": [{"x": 1, "v": [1, 2]}, "z"]}}
    comments = {(): ["top"], ("a",): ["of a"], ("a", "list", 0): ["item"], ("a", "list", 0, "v"): ["deep"]}
    assert write_yaml(document, comments) == (
        "# top\n# of a\na:\n  b: 1\n  list:\n    # item\n    - x: 1\n      # deep\n      v: [1, 2]\n    - z\n"
    )


def test_short_things_share_a_line_and_scripts_are_blocks() -> None:
    document = {"a": {"cpu": {"cores": 0.5}, "size": "512MiB", "image": "redis:7", "run": "echo 1\necho 2\n"}}
    assert write_yaml(document) == (
        'a:\n  cpu: {cores: 0.5}\n  size: 512MiB\n  image: "redis:7"\n  run: |\n    echo 1\n    echo 2\n'
    )
