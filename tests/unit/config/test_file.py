from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.config import ConfigUnreadable
from dms.config.file import MAX_FILE_BYTES, file_to_write, flatten, key_lines, read_document, without_comments


def document(tmp_path: Path, raw: bytes) -> object:
    path = tmp_path / "c.json"
    path.write_bytes(raw)
    return read_document(path)


def test_comments_are_accepted_outside_of_texts(tmp_path: Path) -> None:
    raw = b'{ // line "quote\n "a": "http://x/*no*/ \\"//", /* block\n over lines */ "b": 1 }'
    assert document(tmp_path, raw) == {"a": 'http://x/*no*/ "//', "b": 1}


@given(st.text(alphabet='ab"\\/*\n {}:,1'))
def test_blanking_comments_moves_nothing(text: str) -> None:
    blanked = without_comments(text)
    assert len(blanked) == len(text)
    assert [i for i, c in enumerate(blanked) if c == "\n"] == [i for i, c in enumerate(text) if c == "\n"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a":\n  }', "not JSON: line 2, column 3"),
        (b"[1]", "does not hold a JSON object"),
        (b'{"a": 1, "a": 2}', 'key "a" is there twice'),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b" " * (MAX_FILE_BYTES + 1), "larger than"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_path(tmp_path: Path, raw: bytes, message: str) -> None:
    with pytest.raises(ConfigUnreadable, match=message) as caught:
        document(tmp_path, raw)
    assert str(tmp_path / "c.json") in caught.value.message


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigUnreadable, match=f"no configuration file at {tmp_path}/none.json"):
        read_document(tmp_path / "none.json")
    with pytest.raises(ConfigUnreadable, match="Is a directory"):
        read_document(tmp_path)


def test_an_empty_file_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    assert document(tmp_path, b" \n") == {}
    assert document(tmp_path, b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_flattening_lowers_keys_drops_null_and_refuses_doubles() -> None:
    here = Path("x")
    assert flatten({"A": {"B": 1, "c": None}, "d.e": [2]}, here) == {"a.b": 1, "d.e": [2]}
    with pytest.raises(ConfigUnreadable, match=r"key a\.b is there twice"):
        flatten({"a": {"b": 1}, "a.b": 2}, here)
    deep: dict[str, object] = {}
    for _ in range(30):
        deep = {"a": deep}
    with pytest.raises(ConfigUnreadable, match="nested deeper"):
        flatten(deep, here)


def test_a_change_goes_to_the_file_in_use_or_to_the_users_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = {"HOME": str(tmp_path / "home")}
    assert file_to_write(env) == tmp_path / "home/.nunet/dms_config.json"
    (tmp_path / "dms_config.json").write_text("{}")
    assert file_to_write(env) == tmp_path / "dms_config.json"


def test_a_comma_after_the_last_member_is_accepted(tmp_path: Path) -> None:
    raw = b'{"a": [1, 2, /* end */ ], "b": {"c": ",}", }, // more\n}'
    assert document(tmp_path, raw) == {"a": [1, 2], "b": {"c": ",}"}}


def test_lines_of_keys_are_found_through_comments_texts_and_lists() -> None:
    text = '{\n"A": {"b": "x: {", // "no": 1\n\n"c": [{"d": 1},\n2]},\n"e.f": {"g": [\n]}, "h": 1}'
    assert key_lines(text) == {"a": 2, "a.b": 2, "a.c": 4, "e.f": 6, "e.f.g": 6, "h": 7}


@given(st.text(alphabet='ab"\\/*\n {}[]:,1', max_size=60))
def test_looking_for_lines_never_fails(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in key_lines(text).values())
