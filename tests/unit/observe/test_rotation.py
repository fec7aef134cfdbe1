import errno
import gzip
import io
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


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "", 0, text, None, None)


class Disk:
    """Writes as the system does, until it is full."""

    def __init__(self) -> None:
        self.room = 10**9
        self.now = 0.0

    def write(self, handle: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(handle, data[: self.room])
        self.room -= written
        return written

    def file(self, path: Path, complaints: io.StringIO) -> RotatingFile:
        return RotatingFile(
            path,
            max_size_mb=1,
            max_backups=1,
            max_age_days=0,
            complaints=complaints,
            clock=lambda: self.now,
            write=self.write,
        )


def test_a_full_disk_costs_entries_is_said_and_passes(tmp_path: Path) -> None:
    path, disk, said = tmp_path / "dms.jsonl", Disk(), io.StringIO()
    log = disk.file(path, said)
    log.emit(record("before"))
    disk.room = 3
    for _ in range(100):
        disk.now += 1
        log.emit(record("during"))
    assert said.getvalue().count("No space left on device") == 2  # in a hundred seconds
    assert log.lost == log.losing == 100
    disk.room, disk.now = 10**9, disk.now + 60
    log.emit(record("after"))
    assert (log.lost, log.losing) == (100, 0)
    log.close()
    assert path.read_text() == "before\ndur\nafter\n"  # half a line does not spoil the next one
    assert "100 entries were lost" in said.getvalue()


def test_a_device_without_room_does_not_end_the_program() -> None:
    said = io.StringIO()
    log = RotatingFile(Path("/dev/full"), max_size_mb=1, max_backups=0, max_age_days=0, complaints=said)
    log.emit(record("x"))
    log.close()
    assert log.lost == 1
    assert "log_file_not_written: /dev/full: No space left on device" in said.getvalue()


def test_what_an_earlier_life_left_half_done_is_compressed(tmp_path: Path) -> None:
    (tmp_path / "dms.jsonl.rolled").write_text("old\n")
    write(tmp_path / "dms.jsonl", 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dms.jsonl", "dms.jsonl.1.gz"]
    assert gzip.decompress((tmp_path / "dms.jsonl.1.gz").read_bytes()) == b"old\n"
