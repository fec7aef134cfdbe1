"""The shelf with the logs of ended allocations."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.orchestrator.logs import MAX_PIECE_BYTES, LogShelf, read_piece
from dms.types.ids import EnsembleID

ENSEMBLE = EnsembleID("e" * 64)


async def test_what_is_complete_is_read_from_here(tmp_path: Path) -> None:
    shelf = LogShelf(tmp_path)
    folder = shelf.folder(ENSEMBLE, "n1.a")
    folder.mkdir(parents=True)
    (folder / "stdout.log").write_bytes(b"0123456789")
    assert not shelf.is_complete(ENSEMBLE, "n1.a")
    shelf.mark_complete(ENSEMBLE, "n1.a")
    assert shelf.is_complete(ENSEMBLE, "n1.a")
    piece = await shelf.read(ENSEMBLE, "n1.a", "stdout", 3, 4)
    assert (piece.data, piece.offset, piece.next_offset, piece.total_size, piece.eof) == (b"3456", 3, 7, 10, False)
    rest = await shelf.read(ENSEMBLE, "n1.a", "stdout", 7, 100)
    assert (rest.data, rest.eof) == (b"789", True)
    absent = await shelf.read(ENSEMBLE, "n1.a", "stderr", 0, 100)
    assert (absent.data, absent.eof) == (b"", True)
    await shelf.remove(ENSEMBLE)
    await shelf.remove(ENSEMBLE)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


def test_the_end_of_what_still_grows_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert not read_piece(path, 0, 10, False).eof
    path.write_bytes(b"abc")
    assert not read_piece(path, 0, 10, False).eof
    assert read_piece(path, 0, 10, True).eof


def test_a_piece_has_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(MAX_PIECE_BYTES + 5))
    assert len(read_piece(path, 0, 1 << 40, True).data) == MAX_PIECE_BYTES


@settings(max_examples=50)
@given(st.binary(max_size=300), st.integers(1, 50), st.integers(-(2**70), 2**70))
def test_pieces_make_up_the_whole_and_no_offset_is_too_wild(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int, wild: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "pieces.log"
    path.write_bytes(data)
    whole, offset = b"", 0
    while True:
        piece = read_piece(path, offset, size, True)
        whole, offset = whole + piece.data, piece.next_offset
        if piece.eof:
            break
    assert whole == data
    piece = read_piece(path, wild, size, True)
    assert piece.data == data[piece.offset : piece.next_offset]
