import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.storage.errors import InvalidVolumeName, StorageError, StorageFull, TooLarge
from dms.storage.tree import (
    Sink,
    check_path,
    measure,
    remove_tree,
    room_watched,
    set_read_only,
    set_writable,
    sync_tree,
    walk,
)


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_walking_tells_everything_in_order_and_follows_no_link(tmp_path: Path) -> None:
    root = tmp_path / "v"
    write(root / "b/inner", b"123")
    write(root / "a")
    (root / "c").symlink_to("/etc")
    os.mkfifo(root / "d")
    assert [(entry.path, entry.kind) for entry in walk(root)] == [
        ("a", "file"),
        ("b", "directory"),
        ("b/inner", "file"),
        ("c", "symlink"),
        ("d", "special"),
    ]
    assert measure(root).size_bytes >= 4
    sync_tree(root)


def test_a_root_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="link"):
        list(walk(tmp_path / "link"))


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a", "a/", "a//b", "..", "a/../b", "a/..", ".", "a\0b", "a\nb", "a\\b", "x" * 256, "a/" * 64 + "a"],
)
def test_paths_that_could_lead_out_or_confuse_are_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidVolumeName):
        check_path(path)
    with Sink(tmp_path) as sink, pytest.raises(InvalidVolumeName):
        sink.create(path)


@given(st.text(max_size=40))
def test_no_path_whatsoever_leads_out(path: str) -> None:
    try:
        parts = check_path(path)
    except InvalidVolumeName:
        return
    assert "/".join(parts) == path
    assert not os.path.normpath(path).startswith(("/", ".."))


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "v"
    root.mkdir()
    (root / "d").symlink_to(outside)
    (root / "f").symlink_to(outside / "g")
    with Sink(root) as sink:
        for path in ("d/x", "f", "d"):
            with pytest.raises(InvalidVolumeName):
                sink.create(path)
        with pytest.raises(InvalidVolumeName):
            sink.directory("d")
        with pytest.raises(InvalidVolumeName):
            sink.move_in(write(tmp_path / "new"), "f")
    assert list(outside.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with Sink(tmp_path) as sink:
        with sink.create("a/b", is_executable=True) as file:
            file.write(b"1")
        sink.hardlink("a/c", "a/b")
        sink.directory("a/d")
        sink.directory("a/d")
        for path in ("a/b", "a", "a/b/c", "a/c"):
            with pytest.raises(InvalidVolumeName):
                sink.create(path)
        sink.symlink("a/link", "b")
        with pytest.raises(InvalidVolumeName):
            sink.hardlink("a/e", "a/link")
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a/c").read_bytes() == b"1"


def test_read_only_covers_files_and_directories_and_spares_targets_of_links(tmp_path: Path) -> None:
    other = write(tmp_path / "other")
    root = tmp_path / "v"
    program = write(root / "bin/program")
    program.chmod(0o755)
    text = write(root / "text")
    (root / "link").symlink_to(other)
    before = other.stat().st_mode
    set_read_only(root)
    set_read_only(root)
    assert [oct(p.stat().st_mode & 0o777) for p in (root, root / "bin", program, text)] == [
        "0o555",
        "0o555",
        "0o555",
        "0o444",
    ]
    assert other.stat().st_mode == before
    set_writable(root)
    assert text.stat().st_mode & 0o200
    remove_tree(root)
    assert not root.exists()


def test_trees_deeper_than_any_recursion_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    with pytest.raises(TooLarge):
        measure(root)
    with pytest.raises(TooLarge):
        set_read_only(root)
    remove_tree(root)
    assert not root.exists()


def test_removing_spares_what_links_lead_to(tmp_path: Path) -> None:
    kept = write(tmp_path / "kept/file")
    root = tmp_path / "v"
    root.mkdir()
    (root / "link").symlink_to(kept.parent)
    (root / "sub").mkdir()
    (root / "sub/link").symlink_to(kept)
    remove_tree(root)
    remove_tree(root)
    assert kept.exists()
    (tmp_path / "alone").symlink_to(kept.parent)
    remove_tree(tmp_path / "alone")
    assert kept.exists()


def test_a_full_disk_has_an_error_of_its_own() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        pytest.raises(StorageFull, match="no room left for the test"),
        room_watched("the test"),
    ):
        file.write(b"x")
    with pytest.raises(StorageError, match="No such file"), room_watched("the test"):
        Path("/nowhere/at/all").read_bytes()
