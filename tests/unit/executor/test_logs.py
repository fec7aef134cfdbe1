"""Logs: bounded on the disk, read while they grow, from the beginning, the end or a moment on."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dms.executor.detached import LogFile, log_parts
from dms.executor.logs import LOST, Cursor, offset_at, read_log
from dms.executor.protocol import LogStreamRequest


def log(directory: Path, limit_bytes: int = 1000, clock: list[float] | None = None) -> LogFile:
    times = clock or [0.0]
    return LogFile(str(directory / "stdout.log"), limit_bytes, clock=lambda: times[-1])


def cursor(directory: Path, tail_bytes: int | None = None, since_s: float | None = None) -> Cursor:
    request = LogStreamRequest("x", tail_bytes=tail_bytes, since_s=since_s)
    return Cursor(directory / "stdout.log", request)


def rest(cursor: Cursor) -> bytes:
    return b"".join(iter(cursor.read, b""))


def test_an_endless_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    file = log(tmp_path, 800)
    for number in range(10_000):
        file.write(b"%d\n" % number)
    told = rest(cursor(tmp_path))
    assert told.startswith(b"0\n1\n2\n")
    assert b"output cut here: the limit is 800 bytes" in told
    assert LOST in told
    assert told.endswith(b"9998\n9999\n")
    assert sum(path.stat().st_size for path in tmp_path.glob("stdout*.log")) <= 800 + 60 + 2 * 100


def test_a_slow_reader_is_told_that_it_lost_something(tmp_path: Path) -> None:
    file, reader = log(tmp_path, 800), cursor(tmp_path)
    file.write(b"a" * 800 + b"b" * 50)
    first = rest(reader)
    assert first.endswith(b"b" * 50)
    file.write(b"c" * 1000 + b"d" * 100)
    assert rest(reader) == LOST + b"c" * 50 + b"d" * 100


def test_a_reader_that_keeps_up_loses_nothing_when_files_are_dropped(tmp_path: Path) -> None:
    file, reader = log(tmp_path, 80), cursor(tmp_path)
    file.write(b"x" * 80)
    rest(reader)
    told = b""
    for number in range(40):
        file.write(b"%02d." % number)
        told += rest(reader)
    assert told.replace(b"\n[output cut here: the limit is 80 bytes]\n", b"") == b"".join(
        b"%02d." % number for number in range(40)
    )


def test_a_tail_may_reach_over_several_files(tmp_path: Path) -> None:
    file = log(tmp_path, 80)
    file.write(b"x" * 80 + b"0123456789" + b"abcdefgh")
    assert rest(cursor(tmp_path, 12)) == b"6789abcdefgh"
    assert rest(cursor(tmp_path, 3)) == b"fgh"
    assert rest(cursor(tmp_path, 0)) == b""


def test_since_tells_what_was_written_from_then_on(tmp_path: Path) -> None:
    times = [100.0]
    file = log(tmp_path, clock=times)
    for number in range(5):
        times.append(100.0 + number)
        file.write(b"%d\n" % number)
    assert rest(cursor(tmp_path, since_s=0)) == b"0\n1\n2\n3\n4\n"
    assert rest(cursor(tmp_path, since_s=103)) == b"3\n4\n"
    assert rest(cursor(tmp_path, since_s=102.9)) == b"2\n3\n4\n"  # to within an entry: rather more
    assert rest(cursor(tmp_path, since_s=103, tail_bytes=2)) == b"4\n"
    assert rest(cursor(tmp_path, since_s=10**11)) == b""


def test_a_place_in_a_log_means_the_same_for_ever(tmp_path: Path) -> None:
    file, path = log(tmp_path, 80), tmp_path / "stdout.log"
    whole = b"".join(b"%05d\n" % number for number in range(60))
    file.write(whole[:200])
    notice = b"\n[output cut here: the limit is 80 bytes]\n"
    told = whole[:80] + notice + whole[80:]
    before = read_log(path, 200, 1000)
    assert before.data == told[before.offset : 200 + len(notice)]
    file.write(whole[200:])
    assert read_log(path, 0, 10**6).data == whole[:80] + notice
    last = read_log(path, 100 + len(notice), 1000)
    assert last.offset > 100 + len(notice), "what was there is dropped"
    assert last.data == told[last.offset :]
    assert read_log(path, -7, 3).data == told[-7:-4]
    assert (read_log(path, 10**9, 5).offset, last.end) == (len(told), len(told))


def test_a_log_that_is_continued_by_another_process_keeps_its_places(tmp_path: Path) -> None:
    file = log(tmp_path, 80)
    file.write(b"x" * 80 + b"y" * 13)
    file.close()
    end = read_log(tmp_path / "stdout.log", 0, 0).end
    file = LogFile(str(tmp_path / "stdout.log"), 80, anew=False)
    file.write(b"z" * 5)
    assert read_log(tmp_path / "stdout.log", end - 3, 100).data == b"yyyzzzzz"


def test_since_reaches_into_the_end_of_an_endless_output(tmp_path: Path) -> None:
    file, path = log(tmp_path, 80), tmp_path / "stdout.log"
    file.write(b"x" * 80 + b"0123456789abcdefgh")
    parts = [path.with_name(f"stdout.{start}.log") for start in log_parts(str(path))]
    for moment, part in zip((1000, 2000, 3000), (path, *parts), strict=True):
        os.utime(part, (moment, moment))
    assert read_log(path, offset_at(path, 2500), 100).data == b"abcdefgh"
    assert read_log(path, offset_at(path, 9000), 100).data == b""


def test_a_gigabyte_before_a_slow_reader_fills_neither_disk_nor_memory(tmp_path: Path) -> None:
    limit, block = 8 << 20, b"a line of a usual length, as programs write them\n" * 20_000
    file, path = log(tmp_path, limit), tmp_path / "stdout.log"
    reader = cursor(tmp_path)
    tracemalloc.start()
    written = gaps = place = 0
    while written < 1 << 30:
        file.write(block)
        written += len(block)
        gaps += reader.read() == LOST
        piece = read_log(path, place, 1 << 19)  # as it goes over the network
        place = piece.offset + len(piece.data)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 * len(block)
    assert sum(p.stat().st_size for p in tmp_path.glob("stdout*.log")) <= 1.4 * limit
    assert gaps > 0
    assert piece.end > 1 << 30
    assert piece.end - place <= limit, "and still it has what is there"
    file.close()


def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    reader = cursor(tmp_path, tail_bytes=5)
    assert reader.read() == b""
    log(tmp_path).write(b"begun")
    assert reader.read() == b"begun"


def test_a_full_disk_costs_output_only(tmp_path: Path) -> None:
    (tmp_path / "stdout.log").symlink_to("/dev/full")
    file = log(tmp_path)
    file.write(b"nowhere")
    file.write(b"to go")


def test_a_log_is_for_its_owner_only(tmp_path: Path) -> None:
    file = log(tmp_path, 8)
    file.write(b"x" * 20)
    file.close()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 200))
def test_up_to_the_limit_a_log_is_what_was_written(chunks: list[bytes], limit: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory, whole = Path(name), b"".join(chunks)
        file = log(directory, limit)
        for chunk in chunks:
            file.write(chunk)
        told = (directory / "stdout.log").read_bytes()
        assert told[:limit] == whole[:limit]
        assert len(told) == len(whole) if len(whole) <= limit else b"cut here" in told
        file.close()
