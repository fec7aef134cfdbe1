"""Scripts write files exactly, whatever is in them: they are run here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dms.ensemble.translate.files import including_script, writing_script


def run(script: str) -> None:
    subprocess.run(["sh", "-c", script], check=True, timeout=20)


@pytest.mark.parametrize("content", ["", "a\n", 'it\'s ${X} `id` $(id) "q" \\n %s\n\n', b"\0\xff'\n"])
def test_content_arrives_as_it_was(content: str | bytes, tmp_path: Path) -> None:
    target = tmp_path / "it's" / "a b" / "file"
    run(writing_script({str(target): content}))
    assert target.read_bytes() == (content if isinstance(content, bytes) else content.encode())


def test_what_is_filled_in_later_is_not_executed(tmp_path: Path) -> None:
    target = tmp_path / "file"
    run(including_script(str(target), "$(id) it's ${HOME}"))
    assert target.read_text() == "$(id) it's ${HOME}\n"
