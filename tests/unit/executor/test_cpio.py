"""Archives that kernels unpack: whole, and without a way out of them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.executor.cpio import CpioWriter
from dms.testing.firecracker import read_cpio

NAMES = st.text(alphabet="abcdef.-_é", min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))


def packed(source: Path, limit_bytes: int | None = None) -> bytes:
    out = io.BytesIO()
    archive = CpioWriter(out, limit_bytes=limit_bytes)
    archive.tree(source)
    archive.finish()
    return out.getvalue()


@settings(max_examples=60)
@given(st.dictionaries(NAMES, st.binary(max_size=200), max_size=6))
def test_what_is_written_is_what_is_read(files: dict[str, bytes]) -> None:
    out = io.BytesIO()
    archive = CpioWriter(out)
    for name, data in files.items():
        archive.file(f"a/{name}", data)
    archive.finish()
    assert read_cpio(out.getvalue()) == {f"a/{name}": data for name, data in files.items()}
    assert len(out.getvalue()) % 512 == 0


def test_a_folder_keeps_its_files_and_links_and_loses_what_is_special(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").write_bytes(b"tool")
    (tmp_path / "bin" / "link").symlink_to("/etc/shadow")
    os.mkfifo(tmp_path / "pipe")
    data = packed(tmp_path)
    assert read_cpio(data) == {"bin/tool": b"tool"}
    assert b"/etc/shadow" in data
    assert b"pipe" not in data


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret of the provider")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "way").symlink_to(outside)
    assert b"secret" not in packed(inside)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "a\0b"])
def test_no_name_leads_out(name: str) -> None:
    with pytest.raises(ValueError, match="leads out"):
        CpioWriter(io.BytesIO()).file(name, b"")


def test_an_archive_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 5000)
    with pytest.raises(ValueError, match="more than 4000 bytes"):
        packed(tmp_path, 4000)


def test_parents_come_first_and_once() -> None:
    out = io.BytesIO()
    archive = CpioWriter(out)
    archive.file("a/b/one", b"1")
    archive.file("/a/b/two", b"2")
    archive.directory("a")
    archive.finish()
    assert out.getvalue().count(b"a\0") >= 1
    assert out.getvalue().index(b"a\0") < out.getvalue().index(b"a/b\0") < out.getvalue().index(b"a/b/one\0")
    assert out.getvalue().count(b"a/b\0") == 1
