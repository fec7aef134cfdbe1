"""The log files of a container, which the engine may tell more than once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.executor.docker.streams import BeginningLost, StreamLog


def log_in(directory: Path, limit_bytes: int = 100) -> StreamLog:
    return StreamLog(directory / "stdout.log", limit_bytes)


def tell(log: StreamLog, pieces: list[bytes], *, anew: bool = False) -> None:
    if anew:
        log.begin()
    else:
        assert log.resume() is None
    for piece in pieces:
        log.write(piece)
    log.close()


def test_what_was_missing_the_first_time_is_added_the_second(tmp_path: Path) -> None:
    tell(log_in(tmp_path), [b"one\n", b"tw"], anew=True)
    tell(log_in(tmp_path), [b"one\ntwo\nth", b"ree\n"])
    assert (tmp_path / "stdout.log").read_bytes() == b"one\ntwo\nthree\n"


def test_a_new_container_begins_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "stdout.log").write_bytes(b"something else")
    tell(log_in(tmp_path), [b"one\n"], anew=True)
    assert (tmp_path / "stdout.log").read_bytes() == b"one\n"


def test_what_is_cut_is_cut_once(tmp_path: Path) -> None:
    log = log_in(tmp_path, 5)
    for anew in (True, False):
        tell(log, [b"123", b"456", b"789" * 100], anew=anew)
    assert (tmp_path / "stdout.log").read_bytes() == b"12345\n[output cut here: the limit is 5 bytes]\n"


def test_a_record_that_has_lost_its_beginning_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    tell(log_in(tmp_path), [b"one\ntwo\n"], anew=True)
    os.utime(tmp_path / "stdout.log", (1000, 1000))
    log = log_in(tmp_path)
    assert log.resume() is None
    with pytest.raises(BeginningLost):
        log.write(b"two\nthree\n")
    log.lose()
    log.close()
    assert log.resume() == 1000  # what came later is asked for
    log.write(b"three\n")
    log.close()
    written = (tmp_path / "stdout.log").read_bytes()
    assert written.startswith(b"one\ntwo\n\n[output left out here")
    assert written.endswith(b"]\nthree\n")
    assert written.count(b"left out") == 1


def test_a_log_that_another_process_had_cut_goes_on_from_its_last_moment(tmp_path: Path) -> None:
    tell(log_in(tmp_path, 8), [b"0123456789"], anew=True)
    part = max(tmp_path.glob("stdout.[0-9]*.log"))
    last_s = part.stat().st_mtime
    log = log_in(tmp_path, 8)
    assert log.resume() == pytest.approx(last_s, abs=1e-6)
    log.write(b"abc")
    log.close()
    assert max(tmp_path.glob("stdout.[0-9]*.log")).read_bytes() == b"c"
    assert (tmp_path / "stdout.log").read_bytes().startswith(b"01234567\n[output cut here")


@given(st.binary(max_size=60), st.integers(0, 60), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_wherever_it_was_interrupted_the_log_is_whole(data: bytes, seen: int, sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        tell(log_in(Path(directory), 1000), [data[:seen]], anew=True)
        pieces, rest = [], data
        for step in range(len(data) + 1):
            size = sizes[step % len(sizes)]
            pieces.append(rest[:size])
            rest = rest[size:]
        tell(log_in(Path(directory), 1000), pieces)
        assert (Path(directory) / "stdout.log").read_bytes() == data
