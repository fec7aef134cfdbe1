from __future__ import annotations

import trio

from dms.subnet.upstream import NameServers, system_servers


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
