"""Translating text in tests, and strategies for files that are nearly right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dms.ensemble.arrival import validate_config
from dms.ensemble.loading import parse_ensemble
from dms.ensemble.rendering import as_written
from dms.ensemble.translate.draft import Translation
from dms.ensemble.translate.translation import Source, translate

NOWHERE = Path("/nonexistent")

words = st.sampled_from(
    ["a", "web", "db_1", "", " ", "x" * 70, "80", "8080:80", "0.5", "512m", "1Gi", "500m", "-1", "1e9", "${A}", "${A:-b}",
     "$$", "$B", "/data", "./x:/y", "vol:/data:ro", "nginx:1", "NGINX", "no", "true", "a: b", "\u2028", "é", "10s", "0", "$(A)",
     "a\nb", "${", "{{ x }}", "w-0001", "w-0001-standby-1", "\0"]
)  # fmt: skip


def trees(keys: list[str], depth: int = 3) -> st.SearchStrategy[Any]:
    """Values of any shape, whose keys often mean something."""
    scalars = words | st.integers(-5, 70_000) | st.booleans() | st.none()
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys) | words, inner, max_size=4),
        max_leaves=8,
    )


def translated(
    text: str | bytes, base: Path = NOWHERE, source: Source | None = None, file: str = "job", **env: str
) -> Translation:
    """The translation, which is valid and loads as what is told of it."""
    data = text.encode() if isinstance(text, str) else text
    done = translate(data, file=file, base=base, env=env, source=source)
    loaded = parse_ensemble(done.text.encode(), file="out", base=base, env=env)
    assert loaded.config == done.config
    assert loaded.warnings == ()
    assert validate_config(done.config) == ()
    return done


def written(done: Translation) -> dict[str, Any]:
    """What a person reads in it."""
    return as_written(done.config)


def notes(done: Translation) -> dict[str, str]:
    """The notes by path."""
    return {note.path: note.reason for note in done.notes}


def lines(done: Translation) -> Iterator[int]:
    """The lines of the notes."""
    return (note.line for note in done.notes)
