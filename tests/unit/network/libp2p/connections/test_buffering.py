from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.io.abc import ReadWriteCloser

from dms.network.libp2p.connections.buffering import READ_BYTES, Buffered


class Pieces(ReadWriteCloser):
    """Gives out what there is, piece by piece, never more than was asked for."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.asked: list[int | None] = []

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(n)
        if not self.pieces:
            return b""
        piece = self.pieces[0] if n is None else self.pieces[0][:n]
        self.pieces[0] = self.pieces[0][len(piece) :]
        if not self.pieces[0]:
            del self.pieces[0]
        return piece

    async def write(self, data: bytes) -> None:
        self.pieces.append(data)

    async def close(self) -> None:
        self.pieces.clear()

    def get_remote_address(self) -> tuple[str, int] | None:
        return ("192.0.2.1", 9)


@given(
    st.lists(st.binary(max_size=40), max_size=10),
    st.lists(st.one_of(st.none(), st.integers(1, 50), st.just(READ_BYTES)), min_size=1, max_size=10),
)
def test_every_byte_comes_once_and_in_order(pieces: list[bytes], sizes: list[int | None]) -> None:
    async def read_all() -> list[bytes]:
        reader = Buffered(Pieces(list(pieces)))
        found: list[bytes] = []
        while True:
            size = sizes[len(found) % len(sizes)]
            piece = await reader.read(size)
            if not piece:
                assert await reader.read(5) == b"", "the end stays the end"
                return found
            assert size is None or len(piece) <= size
            found.append(piece)

    assert b"".join(trio.run(read_all)) == b"".join(pieces)


async def test_a_length_and_what_follows_are_one_read_of_the_socket() -> None:
    socket = Pieces([b"\0\3abc\0\2de"])
    reader = Buffered(socket)
    assert [await reader.read(size) for size in (2, 3, 2, 2)] == [b"\0\3", b"abc", b"\0\2", b"de"]
    assert len(socket.asked) == 1
    assert await reader.read(0) == b""
    await reader.write(b"more")
    assert await reader.read(None) == b"more"
    assert reader.get_remote_address() == ("192.0.2.1", 9)
    await reader.close()
    assert socket.pieces == []
