from __future__ import annotations

from pathlib import Path

import trio

from dms.subnet.upstream import SYSTEM, NameServers, name_servers, system_servers


async def test_a_question_is_asked_under_an_id_of_our_own_and_answered_under_the_askers() -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        got: list[bytes] = []

        async def serve() -> None:
            query, asker = await server.recvfrom(512)
            got.append(query)
            await server.sendto(b"??" + query[2:], asker)  # a guess
            await server.sendto(query, asker)  # not an answer
            await server.sendto(query[:2] + b"\x80" + query[3:] + b"answer", asker)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            answer = await NameServers(["127.0.0.1"], port=port)(b"ID" + bytes(10) + b"question")
    assert answer == b"ID\x80" + bytes(9) + b"questionanswer"
    assert got[0][2:] == bytes(10) + b"question"


async def test_silent_servers_are_given_up(autojump_clock: trio.testing.MockClock) -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        assert await NameServers(["127.0.0.1", "127.0.0.1"], port=server.getsockname()[1])(bytes(12)) == b""
    assert trio.current_time() > 3


def test_the_servers_of_the_system_are_read() -> None:
    text = "# comment\nnameserver 127.0.0.53\nsearch x\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n"
    assert system_servers(text) == ["127.0.0.53", "fe80::1"]


async def test_what_does_not_fit_is_asked_for_by_tcp() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def serve_long(stream: trio.SocketStream) -> None:
        query = await stream.receive_some(512)
        answer = query[2:4] + b"\x80" + query[5:] + bytes(3000)
        for part in (len(answer).to_bytes(2), answer[:100], answer[100:]):
            await stream.send_all(part)

    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", port))

        async def serve_short() -> None:
            query, asker = await server.recvfrom(512)
            await server.sendto(query[:2] + b"\x82" + query[3:], asker)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_short)
            nursery.start_soon(trio.serve_listeners, serve_long, listeners)
            answer = await NameServers(["127.0.0.1"], port=port)(b"ID" + bytes(10) + b"question")
            nursery.cancel_scope.cancel()
    assert answer == b"ID\x80" + bytes(9) + b"question" + bytes(3000)


async def test_the_servers_of_the_system_are_looked_up_each_time(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    servers = name_servers(("192.0.2.1", SYSTEM), file)
    assert servers is not None
    assert servers._servers() == ["192.0.2.1"]
    file.write_text("nameserver 192.0.2.2\n")
    assert servers._servers() == ["192.0.2.1", "192.0.2.2"]
    assert name_servers(()) is None
