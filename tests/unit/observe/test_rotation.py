import gzip
import logging
import os
from pathlib import Path

from dms.observe.rotation import RotatingFile


def write(path: Path, count: int, *, max_backups: int = 2, max_age_days: int = 0) -> None:
    handler = RotatingFile(path, max_size_mb=0.001, max_backups=max_backups, max_age_days=max_age_days)
    for number in range(count):
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, f"{number:0498d}", None, None))
    handler.close()


def test_full_files_are_compressed_and_the_oldest_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dms.jsonl"
    write(path, 9)
    assert sorted(p.name for p in path.parent.iterdir()) == ["dms.jsonl", "dms.jsonl.1.gz", "dms.jsonl.2.gz"]
    texts = [gzip.decompress((path.parent / f"dms.jsonl.{n}.gz").read_bytes()).decode() for n in (2, 1)]
    numbers = [int(line) for text in (*texts, path.read_text()) for line in text.split()]
    assert numbers == list(range(numbers[0], 9))
    assert len(numbers) >= 3
    assert {p.stat().st_mode & 0o777 for p in path.parent.iterdir()} == {0o600}


def test_without_backups_only_the_present_file_stays(tmp_path: Path) -> None:
    write(tmp_path / "dms.jsonl", 9, max_backups=0)
    assert [p.name for p in tmp_path.iterdir()] == ["dms.jsonl"]


def test_files_past_their_age_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "dms.jsonl"
    for name in ("dms.jsonl.1.gz", "dms.jsonl.2.gz", "other.gz"):
        (tmp_path / name).touch()
    os.utime(tmp_path / "dms.jsonl.2.gz", (0, 0))
    os.utime(tmp_path / "other.gz", (0, 0))
    write(path, 1, max_age_days=28)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dms.jsonl", "dms.jsonl.1.gz", "other.gz"]
