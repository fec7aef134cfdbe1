"""The manual and the papers: examples are valid, links lead somewhere, commands exist."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dms.cli.root import root_command
from dms.ensemble.loading import parse_ensemble

ROOT = Path(__file__).resolve().parents[2]
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("contributing/*.md"), *ROOT.glob("docs/**/*.md")])
SMALLEST_MODULE = b"\0asm\1\0\0\0"

_LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _blocks(paper: Path, *languages: str) -> Iterator[tuple[str, str]]:
    text = paper.read_text()
    for match in _FENCE.finditer(text):
        if match[2] in languages:
            yield f"{_name(paper)}:{text[: match.start()].count(chr(10)) + 1}", match[3]


def _commands(paper: Path) -> Iterator[tuple[str, list[str]]]:
    for where, text in _blocks(paper, "console", "text"):
        for line in re.sub(r" *\\\n\s*", " ", text).splitlines():
            for call in re.findall(r"(?:^|\$ |\$\()(nunet .*?)(?=\)|$)", line):
                with contextlib.suppress(ValueError):  # an example inside the quotes of another
                    yield where, shlex.split(call, comments=True)[1:]


def _anchors(paper: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.*)$", _FENCE.sub("", paper.read_text()), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.strip().replace(" ", "-") for word in words}


@pytest.mark.parametrize("paper", PAPERS, ids=_name)
def test_links_lead_to_files_and_headings_that_exist(paper: Path) -> None:
    text = _FENCE.sub("", paper.read_text())
    for link in _LINK.findall(text):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (paper.parent / target) if target else paper
        assert path.exists(), f"{_name(paper)}: {link}"
        assert not anchor or anchor in _anchors(path), f"{_name(paper)}: {link}"


@pytest.fixture(scope="module")
def root() -> Any:
    return root_command()


@pytest.mark.parametrize("paper", PAPERS, ids=_name)
def test_commands_in_the_papers_exist_with_their_options(paper: Path, root: Any) -> None:
    for where, words in _commands(paper):
        _check(root, where, words)


def _check(root: Any, where: str, words: list[str]) -> None:
    command, context = root, root.context_class(root, info_name="nunet")
    rest = itertools.chain.from_iterable(map(_apart, itertools.takewhile(lambda word: word != "--", words)))
    options: dict[str, Any] = {}
    for word in rest:
        options |= {name: each for each in command.get_params(context) for name in (*each.opts, *each.secondary_opts)}
        if word.startswith("-") and word != "-":
            flag, equals, _ = word.partition("=")
            assert flag in options or context.ignore_unknown_options, f"{where}: {flag}"
            if flag in options and not (options[flag].is_flag or options[flag].count or equals):
                next(rest, None)
        elif hasattr(command, "list_commands") and not word.isupper():
            below = command.get_command(context, word)
            assert below is not None, f"{where}: there is no command {word}"
            command, context = below, below.context_class(below, info_name=word, parent=context)


def _apart(word: str) -> list[str]:
    """Short flags that are written together."""
    return [f"-{letter}" for letter in word[1:]] if re.fullmatch(r"-[a-z]{2}", word) else [word]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(text, id=where)
        for paper in PAPERS
        for where, text in _blocks(paper, "yaml")
        if text.startswith("version:")
    ],
)
def test_ensembles_in_the_manual_are_valid(block: str, tmp_path: Path) -> None:
    for name in re.findall(r"\$\{file:([^}]+)\}", block):
        content = SMALLEST_MODULE if name.endswith(".wasm") else b"some text"
        (tmp_path / name).write_bytes(content)
    loaded = parse_ensemble(block.encode(), file="manual", base=tmp_path, env={})
    assert not loaded.warnings


def test_the_manual_names_no_page_twice_and_every_page_once() -> None:
    listed = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text())
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md"))


@pytest.mark.parametrize("paper", PAPERS, ids=_name)
def test_tests_that_a_paper_names_exist(paper: Path) -> None:
    for name in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", paper.read_text()):
        assert (ROOT / name).exists(), f"{_name(paper)}: {name}"
