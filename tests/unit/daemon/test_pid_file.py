from __future__ import annotations

import os
from pathlib import Path

import pytest

from dms.daemon.errors import AlreadyRuns
from dms.daemon.pid_file import pid_file
from dms.types.errors import BadInput


def test_it_names_the_process_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "nunet.pid"
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


def test_what_lives_is_not_pushed_aside(tmp_path: Path) -> None:
    path = tmp_path / "nunet.pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(AlreadyRuns, match=str(os.getppid())), pid_file(path):
        pass
    assert path.read_text() == f"{os.getppid()}\n"


@pytest.mark.parametrize("left", ["", "nonsense", "-1", "0", "99999999999999999999", "2147483646", "1 2"])
def test_what_a_killed_process_left_is_replaced(left: str, tmp_path: Path) -> None:
    path = tmp_path / "nunet.pid"
    path.write_text(left)
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_file_of_a_successor_stays(tmp_path: Path) -> None:
    path = tmp_path / "nunet.pid"
    with pid_file(path):
        path.write_text("4711\n")
    assert path.read_text() == "4711\n"


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"), pid_file(tmp_path / "none" / "nunet.pid"):
        pass
