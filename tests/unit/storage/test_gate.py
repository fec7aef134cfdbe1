import base64

import pytest
import trio

from dms.storage.egress import Egress
from dms.storage.gate import MAX_HEAD_BYTES, Gate, open_gate


def parts(gate: Gate) -> tuple[int, bytes]:
    credentials, _, address = gate.url.removeprefix("http://").rpartition("@")
    return int(address.rpartition(":")[2]), base64.b64encode(credentials.encode())


async def asked(gate: Gate, request: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", parts(gate)[0])
    async with stream:
        await stream.send_all(request)
        return bytes(await stream.receive_some())


async def test_it_connects_to_what_is_permitted_and_passes_on_both_ways() -> None:
    async def echo(stream: trio.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send_all(bytes(data).upper())

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        port = listeners[0].socket.getsockname()[1]
        async with open_gate(Egress.of(["127.0.0.1/32"])) as gate:
            gate_port, token = parts(gate)
            async with await trio.open_tcp_stream("127.0.0.1", gate_port) as stream:
                head = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nproxy-authorization: Basic %s\r\n\r\n" % (port, token)
                await stream.send_all(head)
                assert b" 200 " in await stream.receive_some()
                for word in (b"hello", b"again"):
                    await stream.send_all(word)
                    assert await stream.receive_some() == word.upper()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"CONNECT 127.0.0.1:22 HTTP/1.1", b"403"),
        (b"CONNECT [::1]:22 HTTP/1.1", b"403"),
        (b"CONNECT localhost:22 HTTP/1.1", b"403"),
        (b"CONNECT 169.254.169.254:80 HTTP/1.1", b"403"),
        (b"GET http://example.org/ HTTP/1.1", b"405"),
        (b"GET http://169.254.169.254/ HTTP/1.1", b"405"),
        (b"CONNECT example.org HTTP/1.1", b"400"),
        (b"CONNECT example.org:0 HTTP/1.1", b"400"),
        (b"CONNECT :80 HTTP/1.1", b"400"),
        (b"\xff\xfe", b"405"),
    ],
)
async def test_everything_else_is_refused(request_line: bytes, status: bytes) -> None:
    async with open_gate(Egress()) as gate:
        head = request_line + b"\r\nProxy-Authorization: Basic " + parts(gate)[1] + b"\r\n\r\n"
        assert (await asked(gate, head)).split(b" ")[1] == status
        assert bool(gate.refused) == (status == b"403")


@pytest.mark.parametrize("field", [b"", b"Proxy-Authorization: Basic bnVuZXQ6\r\n", b"Proxy-Authorization: x\r\n"])
async def test_nobody_else_may_use_it(field: bytes) -> None:
    async with open_gate(Egress()) as gate:
        answer = await asked(gate, b"CONNECT 1.1.1.1:443 HTTP/1.1\r\n" + field + b"\r\n")
        assert answer.split(b" ")[1] == b"407"


async def test_a_head_without_end_ends_the_connection() -> None:
    async with open_gate(Egress()) as gate:
        stream = await trio.open_tcp_stream("127.0.0.1", parts(gate)[0])
        async with stream:
            try:
                await stream.send_all(b"x" * (MAX_HEAD_BYTES * 8))
                assert await stream.receive_some() == b""
            except trio.BrokenResourceError:
                pass  # the kernel was quicker


async def test_who_asks_nothing_is_sent_away(autojump_clock: trio.testing.MockClock) -> None:
    async with open_gate(Egress()) as gate:
        stream = await trio.open_tcp_stream("127.0.0.1", parts(gate)[0])
        async with stream:
            assert await stream.receive_some() == b""
