"""Archives of others: what they may write, and what they may not."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.cli.packing import pack
from dms.cli.unpacking import BadArchive, is_inside, unpack
from dms.types.errors import BadInput

Entry = tuple[str, bytes, str | bytes, int]


def archive(*entries: Entry) -> io.BytesIO:
    """(name, type, content or target of a link, mode)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content, mode in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, mode, 1_000_000
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                tar.addfile(info)
    packed.seek(0)
    return packed


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Entry:
    return (name, tarfile.REGTYPE, content, mode)


def directory(name: str, mode: int = 0o755) -> Entry:
    return (name, tarfile.DIRTYPE, b"", mode)


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    return (name, kind, to, 0o777)


def tree(of: Path) -> dict[str, object]:
    """Everything below: what it holds, or where it leads, with its mode."""
    found: dict[str, object] = {}
    for path in sorted(of.rglob("*")):
        name = str(path.relative_to(of))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = path.stat().st_mode & 0o777
        else:
            found[name] = (path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def test_a_tree_comes_with_contents_modes_times_and_links(tmp_path: Path) -> None:
    made = archive(
        directory("a"),
        file("a/run", b"#!", 0o4755),
        directory("a/in", 0o500),
        file("a/in/x" * 40, b"deep"),
        link("a/in/up", "../run"),
        link("a/same", "a/run", tarfile.LNKTYPE),
    )
    done = unpack(made, tmp_path / "b")
    assert (done.files, done.bytes, done.left_out) == (3, 6, [])
    assert (tmp_path / "b/run").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "b/run").stat().st_mtime == 1_000_000
    assert (tmp_path / "b/in/up").read_bytes() == b"#!"
    assert (tmp_path / "b/same").samefile(tmp_path / "b/run")
    assert tree(tmp_path)["b/in"] == 0o700


def test_one_file_becomes_the_target_and_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("old")
    (tmp_path / "out").symlink_to("other")
    unpack(archive(file("log", b"new")), tmp_path / "out")
    assert tree(tmp_path) == {"other": (b"old", 0o644), "out": (b"new", 0o644)}


@pytest.mark.parametrize(
    "entries",
    [
        [file("../evil")],
        [file("/evil")],
        [directory("a"), file("a/../../evil")],
        [directory("a"), file("b")],
        [file("")],
        [directory("a"), file("a/" + "d/" * 300 + "x")],
        [directory("a"), link("a/x", "a/missing", tarfile.LNKTYPE), link("a/y", "a", tarfile.LNKTYPE)],
    ],
    ids=["up", "root", "up later", "two tops", "no name", "too deep", "a link to no file"],
)
def test_an_archive_that_wants_more_is_refused(tmp_path: Path, entries: list[Entry]) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(BadInput):
        unpack(archive(*entries), inside / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("to", ["/etc", "..", "../..", "in/../../..", "in/../../outside"])
def test_a_link_that_leads_out_is_left_out_and_not_followed(tmp_path: Path, to: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    made = archive(directory("a"), directory("a/in"), link("a/x", to), file("a/x/evil"))
    done = unpack(made, tmp_path / "a")
    assert done.left_out == ["a/x"]
    assert list(outside.iterdir()) == []
    assert tree(tmp_path / "a") == {"in": 0o755, "x": 0o755, "x/evil": (b"x", 0o644)}


def test_no_entry_goes_through_a_link_of_an_earlier_one_nor_of_the_target(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot write x"):
        unpack(archive(directory("a"), directory("a/in"), link("a/x", "in"), file("a/x/evil")), tmp_path / "a")
    (tmp_path / "outside").mkdir()
    (tmp_path / "b").symlink_to("outside")
    with pytest.raises(BadInput):
        unpack(archive(directory("b"), file("b/evil")), tmp_path / "b")
    assert list((tmp_path / "outside").iterdir()) == []


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    made = archive(
        directory("a"),
        ("a/fifo", tarfile.FIFOTYPE, "", 0o666),
        ("a/null", tarfile.CHRTYPE, "", 0o666),
        link("a/twice", "b/elsewhere", tarfile.LNKTYPE),
    )
    assert unpack(made, tmp_path / "a").left_out == ["a/fifo", "a/null", "a/twice"]
    assert tree(tmp_path) == {"a": 0o755}


def test_what_is_no_whole_archive_is_refused(tmp_path: Path) -> None:
    whole = archive(file("a", b"x" * 5000)).getvalue()
    for data in (b"", b"not found\n" * 100, whole[:3000], b"\0" * 10240):
        with pytest.raises(BadArchive):
            unpack(io.BytesIO(data), tmp_path / "a")


def test_a_name_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    with pytest.raises(BadArchive, match="nobody needs"):
        unpack(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024), tmp_path / "a")


@given(st.binary(max_size=2000))
@settings(max_examples=60)
def test_noise_raises_nothing_else(data: bytes) -> None:
    with pytest.raises(BadInput):
        unpack(io.BytesIO(data), Path("/nonexistent/x"))


@pytest.mark.parametrize(
    ("to", "below", "is_it"),
    [
        ("x", ("a",), True),
        ("../x", ("a", "b"), True),
        ("../x", ("a",), False),
        ("../../x", ("a", "b"), False),
        ("./../b/../../x", ("a", "b"), False),
        ("/x", ("a", "b"), False),
        ("", ("a",), False),
    ],
)
def test_where_links_lead(to: str, below: tuple[str, ...], *, is_it: bool) -> None:
    assert is_inside(to, below) is is_it


def test_what_is_packed_is_unpacked_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "data.bin").write_bytes(os.urandom(300_000))
    (source / "run").write_text("#!")
    (source / "run").chmod(0o755)
    (source / ("ü" * 90)).write_text("long")
    (source / "link").symlink_to("data.bin")
    (source / "second").hardlink_to(source / "run")
    os.mkfifo(source / "fifo")
    packed, notes = io.BytesIO(), list[int]()
    assert pack(source, "other", packed, notes.append) == ["other/fifo"]
    assert notes[-1] >= 300_000
    packed.seek(0)
    assert unpack(packed, tmp_path / "copy").left_out == []
    (source / "fifo").unlink()
    assert tree(tmp_path / "copy") == tree(source)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*missing"):
        pack(tmp_path / "missing", "x", io.BytesIO())


@pytest.mark.parametrize("mtime", ["nan", "inf", "1e300"])
def test_a_time_that_no_clock_can_show_is_refused_in_one_line(tmp_path: Path, mtime: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as written:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"mtime": mtime}
        written.addfile(info)
    made.seek(0)
    with pytest.raises(BadArchive, match="no whole archive"):
        unpack(made, tmp_path / "a")
