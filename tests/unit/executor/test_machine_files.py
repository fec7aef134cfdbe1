"""What a machine finds on its drives."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tarfile
from pathlib import Path

import pytest

from dms.executor.errors import InvalidEngineSpec, StartFailed
from dms.executor.machine_files import clone, image_format, machine_user, make_empty, pack
from dms.executor.protocol import Mount
from dms.executor.vm_outputs import unpack


def qcow2(directory: Path, *, backing: int = 0, features: int = 0) -> Path:
    header = struct.pack(">4sIQI", b"QFI\xfb", 3, backing, 0).ljust(72, b"\0") + struct.pack(">Q", features)
    (directory / "image").write_bytes(header.ljust(104, b"\0"))
    return directory / "image"


def test_the_format_of_an_image_is_seen(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"anything")
    assert image_format(tmp_path / "raw") == "raw"
    assert image_format(qcow2(tmp_path)) == "qcow2"


@pytest.mark.parametrize(("backing", "features"), [(512, 0), (0, 4)])
def test_an_image_must_not_lead_to_another_file_of_the_provider(tmp_path: Path, backing: int, features: int) -> None:
    with pytest.raises(InvalidEngineSpec, match="refers to another file"):
        image_format(qcow2(tmp_path, backing=backing, features=features))


def test_a_clone_is_whole_and_keeps_its_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(8 << 20)
        file.write(b"end")
        file.truncate(16 << 20)
    clone(tmp_path / "sparse", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "sparse").read_bytes()
    assert (tmp_path / "copy").stat().st_blocks <= (tmp_path / "sparse").stat().st_blocks + 16


def test_only_files_are_cloned(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="cannot be copied"):
        clone(tmp_path / "none", tmp_path / "copy")
    with pytest.raises(StartFailed, match="is not a file"):
        clone(Path("/dev/null"), tmp_path / "copy")


def test_a_volume_is_packed_without_owners_and_without_what_is_special(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(b"content")
    os.mkfifo(source / "pipe")
    pack(Mount(source, "/data"), tmp_path / "drive")
    with tarfile.open(tmp_path / "drive") as archive:
        members = archive.getmembers()
    assert {member.name for member in members} == {".", "./sub", "./sub/file"}
    assert {(member.uid, member.uname) for member in members} == {(0, "")}


def test_what_a_guest_leaves_stays_in_its_directory(tmp_path: Path) -> None:
    for number, name in enumerate(("../escape", "/escape", "link/escape")):
        drive, target = tmp_path / f"drive-{number}", tmp_path / f"target-{number}"
        target.mkdir()
        with tarfile.open(drive, "w") as archive:
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            if name.startswith("link"):
                archive.addfile(link)
            archive.addfile(tarfile.TarInfo(name))
        with contextlib.suppress(tarfile.TarError):
            unpack(str(drive), str(target))
        assert not (tmp_path / "escape").exists()
        assert not Path("/escape").exists()


def archive_of(drive: Path, *members: tarfile.TarInfo) -> str:
    with tarfile.open(drive, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)) if member.isreg() else None)
    return str(drive)


def member(name: str, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    return info


def test_a_guest_leaves_no_more_than_its_drive_holds(tmp_path: Path) -> None:
    whole = archive_of(tmp_path / "whole", member("a", size=100), member("b"), member("c"))
    target = tmp_path / "target"
    target.mkdir()
    unpack(whole, str(target))
    assert (target / "a").stat().st_size == 100
    sparse = member("s", type=tarfile.GNUTYPE_SPARSE)
    for hostile in (
        archive_of(tmp_path / "sparse", sparse),
        archive_of(tmp_path / "name", member("n", type=tarfile.GNUTYPE_LONGNAME, size=1 << 30)),
        archive_of(tmp_path / "header", member("h", type=tarfile.XHDTYPE, size=1 << 30)),
    ):
        with pytest.raises(tarfile.TarError):
            unpack(hostile, str(target))
    with pytest.raises(tarfile.TarError, match="more than its drive"):
        unpack(whole, str(target), max_files=2)


def test_nothing_that_a_guest_leaves_is_written_through_a_link_of_its_own(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "sub").mkdir(parents=True)
    links = (
        member("link", type=tarfile.SYMTYPE, linkname="sub"),
        member("link/x/own", type=tarfile.SYMTYPE, linkname="y"),
    )
    with contextlib.suppress(tarfile.TarError, OSError):
        unpack(archive_of(tmp_path / "drive", *links, member("link/through", size=3)), str(target))
    assert (target / "link" / "through").exists()
    assert list((target / "sub").iterdir()) == []
    whole = archive_of(tmp_path / "plain", member("to", type=tarfile.SYMTYPE, linkname="file"), member("file", size=3))
    unpack(whole, str(target))
    assert (target / "to").read_bytes() == bytes(3)


def test_a_file_with_holes_does_not_fill_the_disk_when_it_is_packed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "holes").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(StartFailed, match="larger than the room"):
        pack(Mount(source, "/data"), tmp_path / "drive")
    assert not (tmp_path / "drive").exists() or (tmp_path / "drive").stat().st_size < 1 << 20


def test_a_drive_without_content_takes_no_room(tmp_path: Path) -> None:
    make_empty(tmp_path / "drive", 1 << 30)
    info = (tmp_path / "drive").stat()
    assert (info.st_size, info.st_blocks) == (1 << 30, 0)


def test_each_machine_of_root_has_a_user_of_its_own() -> None:
    one, other = machine_user("one", uses_kvm=False), machine_user("other", uses_kvm=False)
    if os.geteuid() == 0:
        assert one is not None
        assert other is not None
        assert one[0] != other[0]
        assert min(one[0], other[0]) >= 1_900_000_000
        assert one[2] == []
    else:
        assert (one, other) == (None, None)
