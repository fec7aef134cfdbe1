"""The log files of a container, which the engine may tell more than once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dms.executor.docker.streams import LogFiles


def tell(logs: LogFiles, pieces: list[bytes], *, anew: bool = False) -> None:
    with logs.opened(anew=anew):
        for piece in pieces:
            logs.write(1, piece)


def test_what_was_missing_the_first_time_is_added_the_second(tmp_path: Path) -> None:
    tell(LogFiles(tmp_path, 100), [b"one\n", b"tw"], anew=True)
    tell(LogFiles(tmp_path, 100), [b"one\ntwo\nth", b"ree\n"])
    assert (tmp_path / "stdout.log").read_bytes() == b"one\ntwo\nthree\n"
    assert (tmp_path / "stderr.log").read_bytes() == b""


def test_files_of_an_earlier_process_are_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "stdout.log").write_bytes(b"something else")
    tell(LogFiles(tmp_path, 100), [b"one\n"], anew=True)
    assert (tmp_path / "stdout.log").read_bytes() == b"one\n"


def test_what_is_cut_is_cut_once(tmp_path: Path) -> None:
    for anew in (True, False):
        tell(LogFiles(tmp_path, 5), [b"123", b"456", b"789" * 100], anew=anew)
    assert (tmp_path / "stdout.log").read_bytes() == b"12345\n[output cut here: the limit is 5 bytes]\n"


@given(st.binary(max_size=60), st.integers(0, 60), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_wherever_it_was_interrupted_the_log_is_whole(data: bytes, seen: int, sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        tell(LogFiles(Path(directory), 1000), [data[:seen]], anew=True)
        pieces, rest = [], data
        for step in range(len(data) + 1):
            size = sizes[step % len(sizes)]
            pieces.append(rest[:size])
            rest = rest[size:]
        tell(LogFiles(Path(directory), 1000), pieces)
        assert (Path(directory) / "stdout.log").read_bytes() == data
