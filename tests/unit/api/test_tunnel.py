"""Bytes both ways over the REST server, with our own client at the other end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from dms.api.bridge import Bridge
from dms.api.server import bind, run_server
from dms.cli.errors import Refused
from dms.cli.tunnel import TunnelPipe
from dms.network.errors import StreamEnded
from dms.node.errors import NoTicket
from dms.subnet.errors import NotConnected
from dms.subnet.pipes import Pipe, TrioPipe
from dms.testing.actors import World


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, list[trio.StapledStream[MemorySendStream, MemoryReceiveStream]]]]:
    """The port of a server, and the far ends of the connections that it opened."""
    world, opened = World(), []

    async def open_(secret: str, port: int) -> Pipe:
        if secret != "right":
            raise NoTicket
        if port != 80:
            raise NotConnected(f"port {port} is not reached: Connection refused", hint="does something listen there?")
        ours, theirs = memory_stream_pair()
        opened.append(theirs)
        return TrioPipe(ours)

    async with world.node("a") as a, trio.open_nursery() as nursery:
        listener = bind("127.0.0.1", 0)
        await nursery.start(run_server, Bridge(a.network, a.security, a.handle, tunnel=open_), listener)
        yield listener.getsockname()[1], opened
        nursery.cancel_scope.cancel()


async def client(server: int, port: int = 80, ticket: str = "right") -> TunnelPipe:
    pipe = TunnelPipe(await trio.open_tcp_stream("127.0.0.1", server))
    try:
        await pipe.begin(f"127.0.0.1:{server}", port, ticket)
    except BaseException:
        await pipe.reset()
        raise
    return pipe


async def everything(pipe: TunnelPipe) -> bytes:
    data = b""
    while piece := await pipe.read(1000):
        data += piece
    return data


async def end_of(pipe: TunnelPipe) -> None:
    """Read and write until it breaks."""
    while True:
        await pipe.read(1)
        await pipe.write(b"y")


async def test_bytes_go_both_ways_and_each_direction_ends_on_its_own() -> None:
    async with serving() as (server, opened):
        pipe = await client(server)
        await pipe.write(b"question" * 20_000)
        await pipe.close()
        far = opened[0]
        assert b"".join([bytes(data) async for data in far]) == b"question" * 20_000
        await far.send_all(b"answer" * 30_000)
        await far.send_eof()
        assert await everything(pipe) == b"answer" * 30_000
        await pipe.reset()


async def test_a_wrong_ticket_and_a_port_that_is_not_reached_are_told() -> None:
    async with serving() as (server, _):
        with pytest.raises(Refused, match="ticket for this connection is not valid"):
            await client(server, ticket="wrong")
        with pytest.raises(Refused, match="port 81 is not reached: Connection refused") as caught:
            await client(server, 81)
        assert caught.value.hint == "does something listen there?"


async def test_a_client_that_goes_away_breaks_the_connection() -> None:
    async with serving() as (server, opened):
        pipe = await client(server)
        await pipe.reset()
        assert await opened[0].receive_some() == b""


async def test_a_connection_that_breaks_ends_the_client() -> None:
    async with serving() as (server, opened):
        pipe = await client(server)
        await pipe.write(b"x")
        assert await opened[0].receive_some() == b"x"
        await trio.aclose_forcefully(opened[0])
        await pipe.write(b"y")
        with pytest.raises(StreamEnded):
            await end_of(pipe)
        await pipe.reset()


async def test_a_web_page_is_refused() -> None:
    async with serving() as (server, _):
        stream = await trio.open_tcp_stream("127.0.0.1", server)
        async with stream:
            await stream.send_all(
                b"GET /api/v1/tunnel/80 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                b"Authorization: Bearer right\r\nOrigin: https://example.com\r\n\r\n"
            )
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 403")
