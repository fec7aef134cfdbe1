"""The eager side of multistream-select, against the library's own server and against peers that misbehave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import memory_stream_pair

from dms.network.libp2p.negotiation import EagerClient

from libp2p.custom_types import TProtocol  # isort: skip
from libp2p.io.abc import ReadWriteCloser  # isort: skip
from libp2p.io.exceptions import IncompleteReadError  # isort: skip
from libp2p.protocol_muxer.exceptions import MultiselectClientError  # isort: skip
from libp2p.protocol_muxer.multiselect import Multiselect  # isort: skip
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator  # isort: skip
from libp2p.utils import encode_delim  # isort: skip

SPOKEN, OTHER = TProtocol("/spoken/1.0.0"), TProtocol("/other/1.0.0")
GREETING = encode_delim(b"/multistream/1.0.0")


class Pipe(ReadWriteCloser):
    """One end of a connection in memory; counts what it writes."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self.writes = 0

    async def read(self, n: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(n))
        if not data:
            raise IncompleteReadError("it ended")
        return data

    async def write(self, data: bytes) -> None:
        self.writes += 1
        await self._stream.send_all(data)

    async def close(self) -> None:
        await self._stream.aclose()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None


async def select(serve: Callable[[Pipe], Awaitable[object]], *protocols: TProtocol) -> tuple[TProtocol, Pipe]:
    ours, theirs = (Pipe(stream) for stream in memory_stream_pair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        try:
            return await EagerClient().select_one_of(protocols, MultiselectCommunicator(ours), 5), ours
        finally:
            nursery.cancel_scope.cancel()


async def library(pipe: Pipe) -> None:
    server = Multiselect()

    async def nothing(_stream: object) -> None:
        return

    server.add_handler(SPOKEN, nothing)
    await server.negotiate(MultiselectCommunicator(pipe))


def saying(*pieces: bytes) -> Callable[[Pipe], Awaitable[None]]:
    async def say(pipe: Pipe) -> None:
        for piece in pieces:
            await pipe.write(piece)
        await pipe.close()

    return say


async def test_one_write_is_enough_to_agree_with_the_library() -> None:
    selected, pipe = await select(library, SPOKEN)
    assert (selected, pipe.writes) == (SPOKEN, 1)


async def test_a_choice_between_several_is_made_one_by_one() -> None:
    selected, _ = await select(library, OTHER, SPOKEN)
    assert selected == SPOKEN


async def reason(serve: Callable[[Pipe], Awaitable[object]]) -> str:
    with pytest.RaisesGroup(MultiselectClientError) as caught:
        await select(serve, OTHER)
    return str(caught.value.exceptions[0])


async def test_a_protocol_that_the_peer_does_not_speak() -> None:
    assert "does not speak /other/1.0.0" in await reason(library)


async def test_a_peer_that_speaks_something_else_altogether() -> None:
    assert "does not speak /multistream/1.0.0" in await reason(saying(encode_delim(b"SSH-2.0"), encode_delim(b"x")))


async def test_a_peer_that_hangs_up() -> None:
    assert "the stream ended" in await reason(saying(GREETING))


@pytest.mark.parametrize("line", [b"\xff" * 12, b"\x05abcde", b"\x03\xff\xfe\n"], ids=["length", "newline", "text"])
async def test_garbage_instead_of_an_answer(line: bytes) -> None:
    assert "the stream ended" in await reason(saying(GREETING, line))


async def test_a_peer_that_says_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async def silence(_pipe: Pipe) -> None:
        await trio.sleep_forever()

    assert "no answer" in await reason(silence)
