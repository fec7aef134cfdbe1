"""NAT-PMP, with a router that is a socket on this machine."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.libp2p.reach.mapping import natpmp
from dms.network.libp2p.reach.mapping.gateway import LEASE_S, Mapped, NotMapped
from dms.network.libp2p.reach.mapping.natpmp import NatPmp, decode_address, decode_mapping

OUTSIDE = IPv4Address("5.6.7.8")
Answers = Callable[[bytes], list[bytes]]


def answer_address(result: int = 0) -> bytes:
    return struct.pack(">BBHI", 0, 128, result, 77) + OUTSIDE.packed


def answer_mapping(question: bytes, external: int, lease_s: int, result: int = 0) -> bytes:
    internal = int.from_bytes(question[4:6], "big")
    return struct.pack(">BBHIHHI", 0, 130, result, 77, internal, external, lease_s)


@asynccontextmanager
async def router(answers: Answers) -> AsyncIterator[tuple[NatPmp, list[bytes]]]:
    questions: list[bytes] = []

    async def serve(sock: trio.socket.SocketType) -> None:
        while True:
            question, sender = await sock.recvfrom(100)
            questions.append(question)
            for answer in answers(question):
                await sock.sendto(answer, sender)

    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, sock)
            yield NatPmp(IPv4Address("127.0.0.1"), port=sock.getsockname()[1]), questions
            nursery.cancel_scope.cancel()


def willing(question: bytes) -> list[bytes]:
    return [answer_address()] if question[1] == 0 else [answer_mapping(question, 9000, 120)]


async def test_a_willing_router_forwards_and_forgets() -> None:
    async with router(willing) as (client, questions):
        assert await client.map(9000) == Mapped(OUTSIDE, 9000, 120)
        await client.unmap(9000)
    assert questions[1] == struct.pack(">BBHHHI", 0, 2, 0, 9000, 9000, LEASE_S)
    assert questions[2] == struct.pack(">BBHHHI", 0, 2, 0, 9000, 0, 0)


async def test_answers_to_other_questions_are_not_looked_at() -> None:
    def confused(question: bytes) -> list[bytes]:
        other = bytearray(question)
        other[4:6] = (1234).to_bytes(2, "big")
        strange = [b"", b"\x00", b"\x02\x80\x00\x00" + bytes(8), answer_mapping(bytes(other), 666, 60)]
        return [*strange, *willing(question)]

    async with router(confused) as (client, _):
        assert (await client.map(9000)).external_port == 9000


async def test_a_router_that_refuses_says_why() -> None:
    async with router(lambda question: [answer_address(2)]) as (client, _):
        with pytest.raises(NotMapped, match="does not allow"):
            await client.map(9000)


async def test_a_router_that_forwards_nothing_is_no_router() -> None:
    def lazy(question: bytes) -> list[bytes]:
        return [answer_address()] if question[1] == 0 else [answer_mapping(question, 0, 0)]

    async with router(lazy) as (client, _):
        with pytest.raises(NotMapped):
            await client.map(9000)


async def test_a_silent_router_is_asked_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natpmp, "TRIES_S", (0.01, 0.02))
    async with router(lambda _: []) as (client, questions):
        with pytest.raises(NotMapped):
            await client.map(9000)
    assert len(questions) == 2


async def test_where_nobody_listens_there_is_no_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natpmp, "TRIES_S", (0.01, 0.02))
    with pytest.raises(NotMapped):
        await NatPmp(IPv4Address("127.0.0.1"), port=1).map(9000)


@given(st.binary(max_size=64))
def test_any_answer_is_an_answer_nothing_or_a_refusal(answer: bytes) -> None:
    for decode in (decode_address, lambda data: decode_mapping(data, 9000)):
        try:
            decode(answer)
        except NotMapped:
            continue
