"""The directory of a local network: one command at a time, and nothing removed that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.devnet import directory as place
from dms.devnet.errors import DevnetNotFound, DevnetRunning
from dms.types.errors import BadInput


def test_a_new_directory_is_made_private_and_ours(tmp_path: Path) -> None:
    net = tmp_path / "a" / "net"
    with place.taken(net):
        assert place.is_ours(net)
        assert net.stat().st_mode & 0o777 == 0o700
    assert place.is_ours(net)


def test_what_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="is not empty"), place.taken(tmp_path):
        pass
    place.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("below", ["", "net"])
def test_what_cannot_be_a_directory_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("dear")
    with pytest.raises(BadInput, match="cannot use the directory"), place.taken(tmp_path / "file" / below):
        pass


def test_two_commands_at_once_do_not_share_a_directory(tmp_path: Path) -> None:
    with place.taken(tmp_path / "net"):
        with pytest.raises(DevnetRunning, match="another command"), place.taken(tmp_path / "net"):
            pass
        with pytest.raises(DevnetRunning, match="another command"), place.held(tmp_path / "net"):
            pass
    with place.held(tmp_path / "net"):
        pass


def test_a_directory_that_was_removed_and_made_anew_meanwhile_is_not_held(tmp_path: Path) -> None:
    net = tmp_path / "net"
    with place.taken(net):
        place.remove(net)
        with place.taken(net):
            assert place.is_ours(net)


def test_only_what_is_ours_can_be_held(tmp_path: Path) -> None:
    with pytest.raises(DevnetNotFound), place.held(tmp_path / "none"):
        pass
    with pytest.raises(DevnetNotFound), place.held(tmp_path):
        pass


def test_emptying_keeps_the_directory_and_removing_does_not(tmp_path: Path) -> None:
    net = tmp_path / "net"
    with place.taken(net):
        (net / "node1").mkdir()
        (net / "node1" / "log").write_text("x")
        (net / "link").symlink_to(tmp_path)
        place.empty(net)
        assert [path.name for path in net.iterdir()] == [place.MARKER]
        place.remove(net)
    assert not net.exists()
    assert tmp_path.exists()


def test_a_directory_that_was_given_up_is_never_removed(tmp_path: Path) -> None:
    with place.taken(tmp_path):
        (tmp_path / "log").write_text("x")
        place.leave(tmp_path)
    place.remove(tmp_path)
    assert (tmp_path / "log").exists()
    with pytest.raises(BadInput), place.taken(tmp_path):
        pass
