"""YAML and JSON become trees with places, safely."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.ensemble.document import MAX_DOCUMENT_BYTES, parse_document, parse_documents
from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.tree import MAX_DEPTH, MAX_VALUES, Mapping, Scalar, Sequence, Tree


def plain(tree: Tree) -> Any:
    if isinstance(tree, Mapping):
        return {k: plain(e.value) for k, e in tree.entries.items()}
    return [plain(i) for i in tree.items] if isinstance(tree, Sequence) else tree.value


def parsed(text: str) -> Any:
    tree, problems = parse_document(text.encode(), "job.yaml")
    assert problems == ()
    return plain(tree)


def refusal(text: str | bytes) -> str:
    with pytest.raises(InvalidEnsemble) as caught:
        parse_document(text if isinstance(text, bytes) else text.encode(), "job.yaml")
    return str(caught.value.problems[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("22:30", "22:30"),
        ("2024-01-02", "2024-01-02"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("9" * 200, "9" * 200),
        ("~", None),
        ("", None),
        ('"12"', "12"),
        ("'null'", "null"),
        ("!!str 12", "12"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)
def test_plain_text_means_what_the_core_schema_says(text: str, value: object) -> None:
    result = parsed(f"key: {text}\n")["key"]
    assert result == value
    assert type(result) is type(value)


def test_places_count_from_one() -> None:
    tree, _ = parse_document(b"a: 1\nb:\n  - x\n  - {c: 2}\n", "job.yaml")
    assert isinstance(tree, Mapping)
    entry = tree.entries["b"]
    assert entry.mark is not None
    assert (entry.mark.line, entry.mark.column) == (2, 1)
    assert isinstance(entry.value, Sequence)
    inner = entry.value.items[1]
    assert isinstance(inner, Mapping)
    mark = inner.entries["c"].mark
    assert mark is not None
    assert (mark.line, mark.column) == (4, 6)


def test_aliases_and_merge_keys_share_and_override() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nown: {<<: [*b, *m], x: 9}\ncopy: *b\n"
    result = parsed(text)
    assert result["own"] == {"x": 9, "y": 2, "z": 4}
    assert result["copy"] == {"x": 1, "y": 2}


def test_what_multiplies_through_aliases_is_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert f"more than {MAX_VALUES} values" in refusal(bomb)


def test_an_alias_that_contains_itself_is_refused() -> None:
    assert "job.yaml:1:9: the alias *a contains itself" in refusal("a: &a [ *a ]")


def test_an_unknown_alias_is_refused_with_its_place() -> None:
    message = refusal("a: 1\nb: *nothing\n")
    assert message.startswith("job.yaml:2:4:")
    assert "nothing" in message


@pytest.mark.parametrize(
    "text", ["[" * 5000, "- " * 5000 + "x", "{a: " * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1)]
)
def test_deep_nesting_is_refused_without_recursion(text: str) -> None:
    assert f"nested deeper than {MAX_DEPTH} levels" in refusal(text)


def test_a_key_given_twice_is_a_problem_at_the_second_place() -> None:
    _, problems = parse_document(b"nodes:\n  n1: 1\n  n1: 2\n", "job.yaml")
    assert [str(p) for p in problems] == [
        "job.yaml:3:3: V1.nodes.n1: this key is given twice, first on line 2 (keep one of the two)"
    ]


def test_tags_build_no_objects() -> None:
    _, problems = parse_document(b"a: !!python/object/apply:os.system ['true']\nb: !x 1\n", "job.yaml")
    assert [p.line for p in problems] == [1, 2]
    assert all("is not allowed here" in p.reason for p in problems)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1, 2\nb: 3\n", "job.yaml:2:", "not YAML"),
        ("a:\n\t- b\n", "job.yaml:2:1", "not with tabs"),
        ("a: {x: ${Y:-1}}\n", "job.yaml:1:", "put values with ${…} in quotes"),
        ("a: 1\n---\nb: 2\n", "job.yaml:2:1", "more than one document"),
        ("", "job.yaml:", "the file is empty"),
        ("# nothing\n", "job.yaml:", "the file is empty"),
        (b"a: \xff\n", "job.yaml:1:4", "not UTF-8 text"),
        ("a: \x07\n", "job.yaml:", "not YAML"),
    ],
)
def test_what_is_no_document_is_refused_with_place_and_reason(text: str | bytes, place: str, words: str) -> None:
    message = refusal(text)
    assert message.startswith(place)
    assert words in message


def test_keys_must_be_text_and_the_rest_is_still_read() -> None:
    tree, problems = parse_document(b"{a: 1}: 2\nb: 3\n", "job.yaml")
    assert [p.reason for p in problems] == ["a key must be text"]
    assert plain(tree) == {"b": 3}


def test_only_maps_can_be_merged() -> None:
    _, problems = parse_document(b"a: {<<: 3}\n", "job.yaml")
    assert [p.line for p in problems] == [1]


def test_large_files_are_refused_before_they_are_parsed() -> None:
    assert "bytes" in refusal(b"#" * (MAX_DOCUMENT_BYTES + 1))


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(-(10**18), 10**18), st.text(max_size=8)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=10,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_json_reads_as_json(value: dict[str, Any]) -> None:
    assert parsed(json.dumps(value)) == value
    assert parsed(json.dumps(value, indent=1, ensure_ascii=False).replace("\x7f", "")) is not None


@settings(max_examples=100)
@given(st.one_of(st.binary(max_size=60), st.text("ab:-*&{}[]!|>'\"#?,% \n\t<$1", max_size=60).map(str.encode)))
def test_no_bytes_make_it_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(InvalidEnsemble):
        parse_document(data, "job.yaml")


def test_the_parser_of_pure_python_gives_the_same_tree() -> None:
    text = "a: &x {b: [1, two, 'three']}\nc: *x\n"
    events = [type(e) for e in yaml.parse(text, Loader=yaml.SafeLoader)]
    assert events == [type(e) for e in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))]


def test_scalars_keep_how_they_were_written() -> None:
    tree, _ = parse_document(b"a: 007\n", "job.yaml")
    assert isinstance(tree, Mapping)
    scalar = tree.entries["a"].value
    assert isinstance(scalar, Scalar)
    assert scalar.raw == "007"


def test_several_documents_are_read_where_they_are_allowed() -> None:
    trees, problems = parse_documents(b"---\na: &x 1\n---\n# nothing\n---\nb: 2\n", "f")
    assert ([plain(tree) for tree in trees], problems) == ([{"a": 1}, {"b": 2}], ())
    with pytest.raises(InvalidEnsemble, match=r"the alias \*x is not defined before"):
        parse_documents(b"a: &x 1\n---\nb: *x\n", "f")
    with pytest.raises(InvalidEnsemble, match="more than 1000 documents"):
        parse_documents(b"--- 1\n" * 1001, "f")


def test_bytes_stand_in_base64() -> None:
    tree, problems = parse_document(b'a: !!binary "/w=="\nb: &b !!binary "JHtB\n  fQ=="\nc: *b', "f")
    assert problems == ()
    assert isinstance(tree, Mapping)
    found = [entry.value for entry in tree.entries.values()]
    assert [(s.content, s.is_binary) for s in found if isinstance(s, Scalar)] == [
        (b"\xff", True), (b"${A}", False), (b"${A}", False),
    ]  # fmt: skip
    _, problems = parse_document(b"a: !!binary x", "f")
    assert [problem.reason for problem in problems] == ["!!binary must be base64"]
