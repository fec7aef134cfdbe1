import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.storage.archive import UnpackLimits, is_archive, unpack
from dms.storage.errors import StorageError, TooLarge, UnsafeArchive

NO_LIMITS = UnpackLimits()
Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, target, mode, len(content)
    return info, content


def tar(*members: Member, compress: Callable[[bytes], bytes] = bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return compress(out.getvalue())


def zipped(files: dict[str, bytes], modes: dict[str, int] | None = None, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return out.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    return tar(*(member(name, content) for name, content in files.items()))


class Place:
    """A directory to unpack into, and its surroundings, which nothing may touch."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.into = base / "into"
        self.into.mkdir()

    def unpack(self, data: bytes, limits: UnpackLimits = NO_LIMITS) -> dict[str, bytes]:
        (self.base / "archive").write_bytes(data)
        unpack(self.base / "archive", self.into, limits)
        return {
            str(path.relative_to(self.into)): path.read_bytes()
            for path in self.into.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def refuses(self, data: bytes, limits: UnpackLimits = NO_LIMITS, error: type[StorageError] = UnsafeArchive) -> str:
        with pytest.raises(error) as caught:
            self.unpack(data, limits)
        assert {path.name for path in self.base.iterdir()} <= {"into", "archive", "outside"}
        return caught.value.message


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tar_archives_of_all_kinds_are_unpacked(place: Place, compress: Callable[[bytes], bytes]) -> None:
    data = tar(
        member("./", kind=tarfile.DIRTYPE),
        member("./a/", kind=tarfile.DIRTYPE),
        member("./a/b.txt", b"hello" * 10_000),
        member("bin", b"#!", mode=0o4777),
        member("a/link", kind=tarfile.SYMTYPE, target="../bin"),
        member("a/hard", kind=tarfile.LNKTYPE, target="a/b.txt"),
        compress=compress,
    )
    assert place.unpack(data) == {"a/b.txt": b"hello" * 10_000, "bin": b"#!", "a/hard": b"hello" * 10_000}
    assert (place.into / "a/link").readlink() == Path("../bin")
    assert stat.S_IMODE((place.into / "bin").stat().st_mode) == 0o755
    assert is_archive(place.base / "archive")


def test_several_streams_in_a_row_are_one(place: Place) -> None:
    data = tar(member("a", b"1" * 5000))
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        joined = compress(data[:3000]) + compress(data[3000:])
        assert place.unpack(joined) == {"a": b"1" * 5000}
        (place.into / "a").unlink()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_archives_are_unpacked(place: Place, method: int) -> None:
    data = zipped({"a/": b"", "a/b": b"hello", "c": b"../c", "x": b"1"}, {"c": 0, "x": stat.S_IFREG | 0o755}, method)
    assert place.unpack(data) == {"a/b": b"hello", "c": b"../c", "x": b"1"}
    assert (place.into / "x").stat().st_mode & 0o100


@pytest.mark.parametrize(
    "name",
    ["../outside", "/outside", "a/../../outside", "a\\b", "a\nb", "..", "a/./../..", "x" * 300, "a//b", "a/" * 70],
)
def test_names_that_lead_out_are_refused(place: Place, name: str) -> None:
    place.refuses(tar(member(name, b"x")))
    place.refuses(zipped({name.rstrip("/") if name.count("/") < 10 else name + "x": b"x"}))


@pytest.mark.parametrize(
    "members",
    [
        [member("l", kind=tarfile.SYMTYPE, target="/etc/passwd")],
        [member("l", kind=tarfile.SYMTYPE, target="../outside")],
        [member("a/l", kind=tarfile.SYMTYPE, target="../../outside")],
        [member("l", kind=tarfile.SYMTYPE, target="")],
        [member("d", kind=tarfile.SYMTYPE, target="."), member("d/x", b"x")],
        # each alone stays inside, one through the other does not
        [
            member("a/b/c/", kind=tarfile.DIRTYPE),
            member("deep", kind=tarfile.SYMTYPE, target="a/b"),
            member("a/out", kind=tarfile.SYMTYPE, target="../deep/../../../outside"),
        ],
        [
            member("x/y/", kind=tarfile.DIRTYPE),
            member("s", kind=tarfile.SYMTYPE, target="x/y"),
            member("t", kind=tarfile.SYMTYPE, target="s/../../.."),
        ],
        [member("h", kind=tarfile.LNKTYPE, target="../outside")],
        [member("h", kind=tarfile.LNKTYPE, target="/etc/passwd")],
        [
            member("l", kind=tarfile.SYMTYPE, target="f"),
            member("f", b"x"),
            member("h", kind=tarfile.LNKTYPE, target="absent"),
        ],
        [member("d", kind=tarfile.CHRTYPE)],
        [member("b", kind=tarfile.BLKTYPE)],
        [member("p", kind=tarfile.FIFOTYPE)],
        [member("a", b"1"), member("a", b"2")],
        [member("a", b"1"), member("a/b", b"2")],
        [member("l", kind=tarfile.SYMTYPE, target="x"), member("l", kind=tarfile.SYMTYPE, target="y")],
    ],
)
def test_tar_members_that_could_do_harm_are_refused(place: Place, members: list[Member]) -> None:
    outside = place.base / "outside"
    outside.write_bytes(b"kept")
    with pytest.raises(StorageError):
        place.unpack(tar(*members))
    assert outside.read_bytes() == b"kept"
    assert {path.name for path in place.base.iterdir()} == {"into", "archive", "outside"}


def test_links_in_zip_archives_are_checked_too(place: Place) -> None:
    mode = {"l": stat.S_IFLNK | 0o777}
    place.refuses(zipped({"l": b"/etc/passwd"}, mode))
    place.refuses(zipped({"l": b"x" * 5000}, mode))
    place.refuses(zipped({"l": b""}, {"l": stat.S_IFCHR}))
    place.unpack(zipped({"l": b"target"}, mode))
    assert (place.into / "l").is_symlink()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_bombs_are_defused(place: Place, compress: Callable[[bytes], bytes]) -> None:
    data = tar(member("zeros", bytes(18 << 20)), compress=compress)
    assert "times its size" in place.refuses(data, error=TooLarge)
    assert sum(p.stat().st_size for p in place.into.rglob("*")) <= 18 << 20


def test_zip_bombs_are_defused(place: Place) -> None:
    data = zipped({"zeros": bytes(18 << 20)})
    assert "times its size" in place.refuses(data, error=TooLarge)
    assert list(place.into.iterdir()) == []


def test_a_size_that_the_archive_lies_about_does_not_help_it(place: Place) -> None:
    data = bytearray(zipped({"zeros": bytes(1 << 20)}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    with pytest.raises(StorageError):
        place.unpack(bytes(data))
    assert sum(p.stat().st_size for p in place.into.rglob("*")) <= 10


def test_size_and_number_of_files_are_bounded(place: Place) -> None:
    small = UnpackLimits(max_bytes=100, max_files=3)
    for make in (tarred, zipped):
        place.refuses(make({"a": b"x" * 60, "b": b"x" * 60}), small, TooLarge)
        (place.into / "a").unlink(missing_ok=True)
        place.refuses(make({str(i): b"" for i in range(4)}), small, TooLarge)
        for path in place.into.iterdir():
            path.unlink()


def test_headers_of_absurd_size_are_not_read_into_memory(place: Place) -> None:
    info = tarfile.TarInfo("PaxHeaders")
    info.type, info.size = tarfile.XHDTYPE, 2 << 20
    data = info.tobuf(tarfile.USTAR_FORMAT) + bytes(2 << 20)
    assert "absurd" in place.refuses(data, error=TooLarge)


def test_a_list_of_files_of_absurd_size_is_not_read_into_memory(place: Place) -> None:
    data = bytearray(zipped({"a": b"1"}))
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = (100 << 20).to_bytes(4, "little")
    place.refuses(bytes(data), error=TooLarge)


def test_a_decompressor_that_wants_all_memory_gets_none(place: Place) -> None:
    data = bytearray(lzma.compress(tar(member("a", b"1"))))
    # the size of the dictionary stands in the header of the block; its checksum is then mended
    size = (data[12] + 1) * 4
    data[data.index(b"\x21\x01", 12) + 2] = 39
    data[12 + size - 4 : 12 + size] = zlib.crc32(data[12 : 12 + size - 4]).to_bytes(4, "little")
    assert "usage limit" in place.refuses(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\x00junk",
        b"BZh9junk",
        b"\xfd7zXZ\x00junk",
    ],
)
def test_what_is_no_archive_is_refused(place: Place, data: bytes) -> None:
    place.refuses(data)


def test_encrypted_zip_archives_are_refused(place: Place) -> None:
    data = bytearray(zipped({"a": b"1"}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in place.refuses(bytes(data))


GOOD = [
    tar(member("a", b"12345"), member("d/", kind=tarfile.DIRTYPE), member("d/l", kind=tarfile.SYMTYPE, target="../a")),
    gzip.compress(tar(member("a", b"12345"))),
    lzma.compress(tar(member("a", b"12345"))),
    zipped({"a": b"12345", "d/e": b"1" * 100}),
]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(GOOD), st.data())
def test_no_damage_whatsoever_escapes_the_error_tree(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    from dms.storage.tree import remove_tree

    remove_tree(tmp_path / "into")
    place = Place(tmp_path)
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StorageError):
        place.unpack(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    assert {path.name for path in tmp_path.iterdir()} == {"into", "archive"}
    assert os.path.realpath(tmp_path / "into") == str(tmp_path / "into")
