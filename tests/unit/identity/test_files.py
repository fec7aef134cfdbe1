from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dms.identity.errors import BadName
from dms.identity.files import check_name, make_private_directory, write_private


def test_files_are_private_whatever_the_umask_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    old = os.umask(0)
    try:
        write_private(path, b"new")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_what_a_killed_writer_left_long_ago_is_removed_and_what_another_writes_now_is_not(tmp_path: Path) -> None:
    old, new, other = (
        tmp_path / name for name in (".secret.00000000.tmp", ".secret.11111111.tmp", ".else.00000000.tmp")
    )
    for path in (old, new, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (0, 0))
    write_private(tmp_path / "secret", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([new.name, other.name, "secret"])


def test_new_directories_are_private(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a")
    make_private_directory(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc/passwd", "a\\b", "a..b", ".hidden", "a\0b", "a\nb", "x" * 201]
)
def test_names_that_leave_the_directory_are_refused(name: str) -> None:
    with pytest.raises(BadName):
        check_name(name)


@pytest.mark.parametrize("name", ["user", "dms", "ledger:ops", "Ünïcode name", "a.b-c_d"])
def test_ordinary_names_are_taken_as_they_are(name: str) -> None:
    assert check_name(name) == name
