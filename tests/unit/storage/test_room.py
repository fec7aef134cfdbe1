import os
from pathlib import Path

import pytest

from dms.storage.errors import TooLarge
from dms.storage.room import MAX_NESTING, room_taken

MIB = 1 << 20


def test_what_lies_on_the_disk_counts_once_and_holes_do_not(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    empty = room_taken([tmp_path], MIB)
    (tmp_path / "a/b/file").write_bytes(os.urandom(100_000))
    os.link(tmp_path / "a/b/file", tmp_path / "again")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    taken = room_taken([tmp_path, tmp_path / "gone"], MIB)
    assert 100_000 <= taken - empty < 120_000


def test_nothing_is_followed(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "large").write_bytes(os.urandom(MIB))
    (inside / "link").symlink_to(outside)
    (inside / "file").symlink_to(outside / "large")
    assert room_taken([inside], MIB) < 20_000
    (tmp_path / "root").symlink_to(outside)
    assert room_taken([tmp_path / "root"], MIB) == 0


def test_more_than_the_limit_in_bytes_or_files_or_levels_is_too_large(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        root.mkdir()
        (root / "file").write_bytes(os.urandom(100_000))
    with pytest.raises(TooLarge, match="more than its 150000 bytes of disk"):
        room_taken([one, two], 150_000)
    assert room_taken([one], 150_000) >= 100_000
    for index in range(10):
        (one / str(index)).touch()
    with pytest.raises(TooLarge, match="more than 10 files"):
        room_taken([one], MIB, max_entries=10)
    deep = two
    for _ in range(MAX_NESTING + 1):
        deep /= "d"
    deep.mkdir(parents=True)
    with pytest.raises(TooLarge, match="nested deeper"):
        room_taken([two], 1 << 30)


def test_what_goes_away_while_it_is_counted_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o000)
    (tmp_path / "pipe").touch()
    os.mkfifo(tmp_path / "fifo")
    assert room_taken([tmp_path], MIB) < MIB
