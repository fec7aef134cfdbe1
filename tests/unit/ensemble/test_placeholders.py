"""Placeholders resolve, end, and never reach outside the directory of the ensemble."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.ensemble.placeholders import MAX_FILE_BYTES, Placeholders, Unresolved

HERE = Path("/nonexistent")


def resolve(text: str, base: Path = HERE, /, **env: str) -> str | bytes:
    return Placeholders(base, env).resolve(text)


def refusal(text: str, base: Path = HERE, /, **env: str) -> Unresolved:
    with pytest.raises(Unresolved) as caught:
        resolve(text, base, **env)
    return caught.value


@pytest.mark.parametrize(
    ("text", "env", "result"),
    [
        ("plain $HOME {x}", {}, "plain $HOME {x}"),
        ("${A}", {"A": "1"}, "1"),
        ("${env:A}-${ A }", {"A": "1"}, "1-1"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-}", {}, ""),
        ("${A:-x:-y}", {}, "x:-y"),
        ("${A:-${B}}", {"B": "b"}, "b"),
        ("${A:-${B:-${C:-deep}}}", {}, "deep"),
        ("${${A}}", {"A": "B", "B": "2"}, "2"),
        ("${A}", {"A": "${B}!", "B": "b"}, "b!"),
        ("${A|upper}", {"A": "a"}, "a"),
        ("$${A} and $$ and $x", {"A": "1"}, "${A} and $$ and $x"),
        ("${A:-$${B}}", {}, "${B}"),
    ],
)
def test_it_resolves(text: str, env: dict[str, str], result: str) -> None:
    assert resolve(text, HERE, **env) == result


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${A}", 'failed to resolve expression "${A}": the environment variable A is not set'),
        ("${http:x}", "unknown source: 'http'"),
        ("${A", "not closed"),
        ("${}", "not the name of a variable"),
        ("${A B}", "not the name of a variable"),
        ("${file:}", "no file is named"),
        ("${file:x\0y}", "no file is named"),
    ],
)
def test_what_has_no_value_is_refused(text: str, words: str) -> None:
    error = refusal(text)
    assert words in error.reason
    assert error.hint or "closed" in error.reason


def test_variables_that_lead_to_each_other_end() -> None:
    assert "without end" in refusal("${A}", A="${B}", B="${A}").reason


def test_variables_that_multiply_end() -> None:
    env = {f"V{n}": f"${{V{n + 1}}}" * 50 for n in range(10)} | {"V10": "x"}
    assert "more than" in refusal("${V0}", HERE, **env).reason


def test_a_file_alone_gives_its_bytes_and_inside_text_its_text(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(b"\0asm\xff")
    (tmp_path / "b.txt").write_text("text ${NOT_TOUCHED}")
    assert resolve("${file:sub/a.bin}", tmp_path) == b"\0asm\xff"
    assert resolve("<${file:b.txt}>", tmp_path) == "<text ${NOT_TOUCHED}>"
    assert resolve("${file:${D}/a.bin}", tmp_path, D="sub") == b"\0asm\xff"
    assert resolve("${file:none:-other}", tmp_path) == "other"
    assert "not UTF-8 text" in refusal("<${file:sub/a.bin}>", tmp_path).reason
    assert "there is no such file" in refusal("${file:none}", tmp_path).reason


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/../../secret", "link", "dirlink/secret"])
def test_files_outside_the_directory_are_never_read(tmp_path: Path, name: str) -> None:
    base = tmp_path / "base"
    (base / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (base / "link").symlink_to(tmp_path / "secret")
    (base / "dirlink").symlink_to(tmp_path)
    error = refusal(f"${{file:{name}}}", base)
    assert "outside the directory" in error.reason


def test_links_inside_the_directory_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").symlink_to("a")
    assert resolve("${file:b}", tmp_path) == b"a"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir").mkdir()
    assert "not a regular file" in refusal("${file:fifo}", tmp_path).reason
    assert "not a regular file" in refusal("${file:dir}", tmp_path).reason


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "failed to resolve" in refusal("${file:a}", tmp_path).reason


def test_large_files_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert f"more than {MAX_FILE_BYTES} bytes" in refusal("${file:big}", tmp_path).reason


def test_modifiers_are_remembered() -> None:
    placeholders = Placeholders(Path("/nonexistent"), {"A": "1"})
    placeholders.resolve("${A|upper|trim}")
    assert placeholders.ignored_modifiers == ["upper", "trim"]


@settings(max_examples=100)
@given(
    st.text("${}:-|AB f", max_size=40),
    st.dictionaries(st.sampled_from(["A", "B", "AB"]), st.text("${}:-AB", max_size=20), max_size=3),
)
def test_any_text_resolves_or_is_refused(text: str, env: dict[str, str]) -> None:
    try:
        result = Placeholders(Path("/nonexistent"), env).resolve(text)
    except Unresolved:
        return
    assert isinstance(result, str)
    assert "${" in text or result == text


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_every_text_can_be_written_with_escapes(text: str) -> None:
    # a $ just before an escape would belong to it
    if "$$" in text:
        text = text.replace("$$", "")
    assert resolve(text.replace("${", "$${")) == text
