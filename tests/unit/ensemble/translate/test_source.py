"""Nothing in a file is passed over in silence."""

from __future__ import annotations

from dms.ensemble.document import parse_document
from dms.ensemble.translate.source import MAX_NOTES, Notes, Part


def part(text: str) -> Part:
    return Part(parse_document(text.encode(), "f")[0], "", Notes("f"))


def said(of: Part) -> dict[str, str]:
    return {note.path: note.reason for note in of.notes.notes}


def test_what_nobody_asked_for_is_noted_unless_it_says_nothing() -> None:
    of = part("a: 1\nb: 2\nc: null\nd: []\ne: false\nx-own: 1\nf: 3\n")
    assert of.text("a") == "1"
    of.rest({"b": ("for this reason", "do that")})
    assert said(of) == {"b": "left out: for this reason", "f": "left out: it has no counterpart in an ensemble"}
    assert [(note.line, note.column, note.hint) for note in of.notes.notes] == [(2, 1, "do that"), (7, 1, "")]


def test_values_of_another_kind_are_noted_and_taken_as_missing() -> None:
    of = part("a: [1]\nb: {c: 1}\nd: text\ne: [1, {f: 2}]\ng: -5\n")
    assert (of.text("a", "x"), of.text("b")) == ("x", "")
    assert not of.part("d")
    assert of.texts("e") == ["1"]
    assert of.count("g", 3) == 3
    assert sorted(said(of)) == ["a", "b", "d", "e", "g"]


def test_a_list_of_pairs_is_a_map() -> None:
    assert part("a: [X=1, Y]").pairs("a") == {"X": "1", "Y": ""}
    assert part("a: {X: 1, Y: }").pairs("a") == {"X": "1", "Y": ""}


def test_one_map_stands_for_a_list_of_one() -> None:
    assert [each.text("b") for each in part("a: {b: 1}").parts("a")] == ["1"]


def test_notes_are_bounded() -> None:
    of = part("a: 1")
    for _ in range(MAX_NOTES + 5):
        of.note("a", "again")
    assert len(of.notes.notes) == MAX_NOTES
