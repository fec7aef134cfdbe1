import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.storage.errors import PathNotGranted, StorageError
from dms.storage.local import LocalDirectories
from dms.storage.mounts import SystemMounter, can_mount


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("open/data/deep", "closed/secret", "work/keys", "open/inner-closed/x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "open/file").write_text("x")
    (tmp_path / "open/inside").symlink_to("data")
    (tmp_path / "open/outside").symlink_to(tmp_path / "closed")
    (tmp_path / "open/data/up").symlink_to("../../closed/secret")
    (tmp_path / "way").symlink_to(tmp_path / "open")
    (tmp_path / "open/loop").symlink_to("loop")
    return tmp_path


def directories(base: Path) -> LocalDirectories:
    return LocalDirectories([base / "open"], closed=[base / "work", base / "open/inner-closed"])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("open/data", "open/data"),
        ("open/data/deep", "open/data/deep"),
        ("open/inside/deep", "open/data/deep"),
        ("way/data", "open/data"),
        ("open/data/../data/./deep/", "open/data/deep"),
    ],
)
def test_what_lies_below_an_opened_directory_is_open(base: Path, source: str, expected: str) -> None:
    with directories(base).opened(f"{base}/{source}") as opened:
        assert opened.path == base / expected
        assert os.path.samestat(os.fstat(opened.descriptor), (base / expected).stat())


@pytest.mark.parametrize(
    "source",
    [
        "closed",
        "closed/secret",
        "open/outside",
        "open/outside/secret",
        "open/data/up",
        "open/../closed",
        "open/file",
        "open/absent",
        "open/loop",
        "open/inner-closed",
        "open/inner-closed/x",
        "open",  # which holds a closed one
        "work",
        "openness",
        "",
    ],
)
def test_everything_else_is_closed_and_nothing_is_told_of_it(base: Path, source: str) -> None:
    (base / "openness").mkdir(exist_ok=True)
    path = f"{base}/{source}"
    with pytest.raises(PathNotGranted) as caught:
        directories(base).check(path)
    assert caught.value.message == f"the path {path!r} is not open to jobs on this machine"
    assert "storage.local_roots" in caught.value.hint


@pytest.mark.parametrize("source", ["data", "./data", "", "~/data", "/etc\0/x"])
def test_paths_must_be_absolute(base: Path, source: str) -> None:
    with pytest.raises(PathNotGranted, match="not absolute"):
        directories(base).check(source)


def test_nothing_is_open_unless_the_owner_opens_it(tmp_path: Path) -> None:
    for source in ("/", "/etc", str(tmp_path)):
        with pytest.raises(PathNotGranted):
            LocalDirectories([]).check(source)


def test_a_link_that_appears_between_look_and_use_leads_nowhere(base: Path) -> None:
    from dms.storage.local import _walk

    (base / "open/data/deep").rmdir()
    (base / "open/data/deep").symlink_to(base / "closed")
    with pytest.raises(OSError, match="deep"):
        os.close(_walk(base / "open", ("data", "deep")))


@pytest.fixture
def mounted(base: Path) -> Iterator[Path]:
    target = base / "target"
    target.mkdir()
    yield target
    subprocess.run(["umount", "-l", str(target)], check=False, capture_output=True)


@pytest.mark.mounts
async def test_the_directory_that_was_looked_at_is_mounted_whatever_its_path_leads_to_then(
    base: Path, mounted: Path
) -> None:
    mounter = SystemMounter()
    assert can_mount()
    (base / "open/data/mark").write_text("right")
    with directories(base).opened(f"{base}/open/data") as opened:
        (base / "open/data").rename(base / "open/moved")
        (base / "open/data").symlink_to(base / "closed")
        await mounter.bind(opened.descriptor, mounted, read_only=True)
    assert (mounted / "mark").read_text() == "right"
    with pytest.raises(OSError, match="Read-only"):
        (mounted / "new").write_text("x")
    assert mounter.mounted_below(base) == (mounted,)
    await mounter.unmount(mounted)
    await mounter.unmount(mounted)
    assert mounter.mounted_below(base) == ()
    assert os.listdir(mounted) == []  # noqa: PTH208  the mount point itself


@pytest.mark.mounts
async def test_a_mount_can_be_written_where_that_is_wanted(base: Path, mounted: Path) -> None:
    with directories(base).opened(f"{base}/open/data") as opened:
        await SystemMounter().bind(opened.descriptor, mounted, read_only=False)
    (mounted / "new").write_text("x")
    assert (base / "open/data/new").read_text() == "x"
    with pytest.raises(StorageError):
        await SystemMounter().bind(0, base / "absent", read_only=True)
