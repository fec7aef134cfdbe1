"""The shelf with the logs of ended allocations."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.actor.handle import Address, Handle
from dms.executor.detached import LogFile
from dms.executor.logs import LOST
from dms.identity.ids import DID, ActorID
from dms.identity.keys import generate_key
from dms.network.protocol import MAX_LARGE_MESSAGE_BYTES, MAX_MESSAGE_BYTES
from dms.orchestrator.lifecycle.state import AllocationRecord
from dms.orchestrator.logs.finding import (
    COMPLETE,
    LARGE_PIECE_BYTES,
    MAX_GAPS,
    MAX_OFFSET,
    MAX_PIECE_BYTES,
    LogCopy,
    LogShelf,
    piece_bytes,
    read_piece,
)
from dms.orchestrator.messages import AllocationLogsReply
from dms.orchestrator.updating.state import MAX_VERSIONS
from dms.types.ids import AllocationID, EnsembleID, PeerID

ENSEMBLE = EnsembleID("e" * 64)


RECORD = AllocationRecord(
    id=AllocationID("a"),
    node_id="n1",
    name="a",
    type="task",
    handle=Handle(id=ActorID.of(generate_key().public), did=DID(), addr=Address(host=PeerID("p"), inbox="a")),
)


async def test_the_logs_of_an_attempt_elsewhere_are_not_those_of_the_one_that_counts(tmp_path: Path) -> None:
    """Found by simulation, seed 49: a start that failed on one machine left an empty log, and that of the run that
    followed on another was never fetched."""
    shelf = LogShelf(tmp_path)
    shelf.folder(ENSEMBLE, RECORD.key).mkdir(parents=True)
    await shelf.mark_complete(ENSEMBLE, RECORD)
    elsewhere = Handle(id=ActorID.of(generate_key().public), did=DID(), addr=Address(host=PeerID("q"), inbox="a"))
    assert not shelf.is_complete(ENSEMBLE, msgspec.structs.replace(RECORD, handle=elsewhere))
    assert not shelf.is_complete(ENSEMBLE, msgspec.structs.replace(RECORD, execution=2))
    later = msgspec.structs.replace(RECORD, ended_ns=RECORD.ended_ns + 1)
    assert not shelf.is_complete(ENSEMBLE, later), "a second attempt on the same machine has the same actor"
    assert not shelf.is_complete(ENSEMBLE, msgspec.structs.replace(RECORD, handle=None))
    again = msgspec.structs.replace(RECORD, execution=2)
    await shelf.mark_complete(ENSEMBLE, again)
    assert shelf.is_complete(ENSEMBLE, again)
    assert not shelf.is_complete(ENSEMBLE, RECORD)


async def test_marks_of_earlier_versions_say_less_and_count(tmp_path: Path) -> None:
    shelf = LogShelf(tmp_path)
    folder = shelf.folder(ENSEMBLE, RECORD.key)
    folder.mkdir(parents=True)
    (folder / COMPLETE).touch()
    assert shelf.is_complete(ENSEMBLE, RECORD)
    handle = RECORD.handle
    assert handle is not None
    (folder / COMPLETE).write_text(f"{handle.id.pub} 1")
    assert shelf.is_complete(ENSEMBLE, RECORD)
    (folder / COMPLETE).write_text(f"{handle.id.pub} 2")
    assert not shelf.is_complete(ENSEMBLE, RECORD)


async def test_what_is_complete_is_read_from_here(tmp_path: Path) -> None:
    shelf = LogShelf(tmp_path)
    folder = shelf.folder(ENSEMBLE, "n1.a")
    folder.mkdir(parents=True)
    (folder / "stdout.log").write_bytes(b"0123456789")
    assert not shelf.is_complete(ENSEMBLE, RECORD)
    await shelf.mark_complete(ENSEMBLE, RECORD)
    assert shelf.is_complete(ENSEMBLE, RECORD)
    piece = await shelf.read(ENSEMBLE, "n1.a", "stdout", 3, 4)
    assert (piece.data, piece.offset, piece.next_offset, piece.total_size, piece.eof) == (b"3456", 3, 7, 10, False)
    rest = await shelf.read(ENSEMBLE, "n1.a", "stdout", 7, 100)
    assert (rest.data, rest.eof) == (b"789", True)
    last = await shelf.read(ENSEMBLE, "n1.a", "stdout", -2, 100)
    assert (last.data, last.offset) == (b"89", 8)
    absent = await shelf.read(ENSEMBLE, "n1.a", "stderr", 0, 100)
    assert (absent.data, absent.eof) == (b"", True)
    await shelf.remove(ENSEMBLE)
    await shelf.remove(ENSEMBLE)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


def test_the_end_of_what_still_grows_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert not read_piece(path, 0, 10, is_over=False).eof
    path.write_bytes(b"abc")
    assert not read_piece(path, 0, 10, is_over=False).eof
    assert read_piece(path, 0, 10, is_over=True).eof


def test_a_piece_has_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(MAX_PIECE_BYTES + 5))
    assert len(read_piece(path, 0, 1 << 40, is_over=True).data) == MAX_PIECE_BYTES
    assert len(read_piece(path, 0, 1 << 40, is_over=True, most=LARGE_PIECE_BYTES).data) == MAX_PIECE_BYTES + 5
    assert piece_bytes(MAX_MESSAGE_BYTES) == MAX_PIECE_BYTES
    assert piece_bytes(MAX_LARGE_MESSAGE_BYTES) == LARGE_PIECE_BYTES


@settings(max_examples=50)
@given(st.binary(max_size=300), st.integers(1, 50), st.integers(-(2**70), 2**70))
def test_pieces_make_up_the_whole_and_no_offset_is_too_wild(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int, wild: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "pieces.log"
    path.write_bytes(data)
    whole, offset = b"", 0
    while True:
        piece = read_piece(path, offset, size, is_over=True)
        whole, offset = whole + piece.data, piece.next_offset
        if piece.eof:
            break
    assert whole == data
    piece = read_piece(path, wild, size, is_over=True)
    assert piece.data == data[piece.offset : piece.next_offset]


def endless(directory: Path) -> Path:
    """A log of which something was dropped in the middle."""
    directory.mkdir(exist_ok=True)
    file = LogFile(str(directory / "stdout.log"), 80)
    for number in range(100):
        file.write(b"%04d\n" % number)
    file.close()
    return directory / "stdout.log"


def copy(path: Path, directory: Path, size: int = 7) -> None:
    directory.mkdir(exist_ok=True)
    log = LogCopy(directory, "stdout")
    while log.add(read_piece(path, log.offset, size, is_over=True)):
        continue
    log.finish()


def test_a_copy_has_all_that_was_kept_at_the_same_places(tmp_path: Path) -> None:
    path = endless(tmp_path / "there")
    copy(path, tmp_path / "here")
    for offset in range(-600, 600):
        assert read_piece(path, offset, 50, is_over=True) == read_piece(
            tmp_path / "here" / "stdout.log", offset, 50, is_over=True
        )
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "here").iterdir()} == {0o600}


def test_a_later_copy_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    copy(endless(tmp_path / "there"), tmp_path / "here")
    (tmp_path / "short.log").write_bytes(b"short")
    copy(tmp_path / "short.log", tmp_path / "here")
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["stdout.log"]


def test_a_provider_cannot_make_a_copy_of_endlessly_many_files(tmp_path: Path) -> None:
    log, place = LogCopy(tmp_path, "stdout"), 0
    while log.add(AllocationLogsReply(offset=place, data=b"x")):
        place = min(place * 3 + 10, 1 << 80)
    log.finish()
    assert len(list(tmp_path.iterdir())) <= MAX_GAPS + 1
    assert log.offset <= MAX_OFFSET + 1


def test_whoever_reads_on_sees_that_something_is_missing(tmp_path: Path) -> None:
    path, offset, told = endless(tmp_path / "there"), 0, b""
    while not (piece := read_piece(path, offset, 16, is_over=True)).eof:
        told += (LOST if piece.offset > offset else b"") + piece.data
        offset = piece.next_offset
    assert told.count(LOST) == 1
    assert told.startswith(b"0000\n0001\n")


async def test_of_so_many_versions_logs_are_kept(tmp_path: Path) -> None:
    shelf = LogShelf(tmp_path)
    for number in range(1, MAX_VERSIONS + 4):
        versions, name = shelf.of_version(ENSEMBLE, number)
        folder = versions.folder(name, "n1.a")
        folder.mkdir(parents=True)
        (folder / "stdout.log").write_bytes(b"%d" % number)
    await shelf.forget_versions(ENSEMBLE)
    assert await shelf.kept(ENSEMBLE, 3) == ()
    assert await shelf.kept(ENSEMBLE, 4) == ("n1.a",)
    versions, name = shelf.of_version(ENSEMBLE, MAX_VERSIONS + 3)
    assert (await versions.read(name, "n1.a", "stdout", 0, 100)).data == b"23"
