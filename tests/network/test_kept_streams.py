"""Messages between two nodes of this program share one stream; over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from tests.network.worlds import WAIT_S, Mailbox, any_size, running, until

from dms.network import ByteStream, MessageHandler, MessageTooLarge, PeerUnreachable, StreamEnded
from dms.network.libp2p import Libp2pNetwork, Limits
from dms.network.libp2p.messages.frames import (
    FIRST,
    LAST,
    PROTOCOL,
    SIZE,
    Deframer,
    Frame,
    Kind,
    Status,
    encode,
)
from dms.types.ids import PeerID

ROOT = "actor/root/messages/0.0.1"
OTHER = "actor/other/messages/0.0.1"


def node(number: int, *, keep_streams: bool = True, limits: Limits | None = None) -> Libp2pNetwork:
    seed = (1 << 40 | number).to_bytes(32, "big")
    return Libp2pNetwork(seed=seed, listen=["/ip4/127.0.0.1/tcp/0"], keep_streams=keep_streams, limits=limits)


@asynccontextmanager
async def pair(*, limits: Limits | None = None) -> AsyncIterator[tuple[Libp2pNetwork, Libp2pNetwork]]:
    """Two nodes that know what the other speaks."""
    a, b = node(1, limits=limits), node(2, limits=limits)
    async with running(a, b):
        await b.connect(a.listen_addresses[0])
        await until(lambda: b.message_limit_bytes(a.peer_id) > 1 << 20 < a.message_limit_bytes(b.peer_id))
        yield a, b


class ByHand:
    """The other end of a kept stream, played by a test."""

    def __init__(self) -> None:
        self.streams: list[ByteStream] = []
        self.frames: list[Frame] = []
        self.accepts = False

    async def __call__(self, stream: ByteStream) -> None:
        self.streams.append(stream)
        deframer = Deframer()
        while data := await stream.read(1 << 16):
            frames = deframer.feed(data)
            self.frames += frames
            for frame in frames:
                if self.accepts and frame.kind == Kind.DATA:
                    await stream.write(encode(Kind.ANSWER, Status.ACCEPTED, 0, frame.number))


@asynccontextmanager
async def played() -> AsyncIterator[tuple[ByHand, PeerID, Libp2pNetwork]]:
    """A node, and a peer of it whose kept streams are played."""
    hand, peer, own = ByHand(), node(3, keep_streams=False), node(4)
    peer.streams.handle(PROTOCOL, hand)
    async with running(peer, own):
        await own.connect(peer.listen_addresses[0])
        await until(lambda: own.message_limit_bytes(peer.peer_id) > 1 << 20)
        yield hand, peer.peer_id, own


async def test_all_messages_of_a_pair_share_one_stream() -> None:
    async with pair() as (a, b):
        of_a, of_b = Mailbox(), Mailbox()
        a.handle(ROOT, of_a, max_bytes=any_size)
        b.handle(OTHER, of_b, max_bytes=any_size)
        for number in range(30):
            await b.send(a.peer_id, ROOT, b"%d" % number)
            await a.send(b.peer_id, OTHER, b"%d" % number)

        await of_a.wait_for(30)
        await of_b.wait_for(30)
        assert (a.counters().get("kept streams out", 0), b.counters()["kept streams out"]) == (0, 1)
        assert a.counters()["kept streams in"] == 1


async def test_many_that_send_at_once_open_one_stream() -> None:
    async with pair() as (a, b):
        mail = Mailbox()
        a.handle(ROOT, mail, max_bytes=any_size)
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(b.send, a.peer_id, ROOT, b"x")
        await mail.wait_for(20)
        assert b.counters()["kept streams out"] == 1


async def test_nobody_who_handles_it_is_an_error_and_the_stream_goes_on() -> None:
    async with pair() as (a, b):
        mail = Mailbox()
        a.handle(ROOT, mail, max_bytes=any_size)
        await b.send(a.peer_id, ROOT, b"x")
        with pytest.raises(PeerUnreachable):
            await b.send(a.peer_id, OTHER, b"x")
        with pytest.raises(PeerUnreachable):
            await b.send(a.peer_id, OTHER, bytes(5 << 20))
        await b.send(a.peer_id, ROOT, b"y")

        await mail.wait_for(2)
        assert b.counters()["kept streams out"] == 1


async def test_small_messages_pass_a_large_one() -> None:
    async with pair() as (a, b):
        arrived: list[str] = []

        def keep(name: str) -> MessageHandler:
            async def handler(_peer: PeerID, _data: bytes) -> None:
                arrived.append(name)

            return handler

        a.handle(ROOT, keep("small"), max_bytes=any_size)
        a.handle(OTHER, keep("large"), max_bytes=any_size)
        await b.send(a.peer_id, ROOT, b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.send, a.peer_id, OTHER, bytes(16 << 20))
            await until(lambda: b.counters()["messages out"] == 1)
            for _ in range(5):
                await b.send(a.peer_id, ROOT, b"x")
        await until(lambda: len(arrived) == 7)
        assert arrived == ["small"] * 6 + ["large"]


async def test_what_finds_no_slot_waits_and_is_not_lost() -> None:
    async with pair(limits=Limits(handlers_per_peer=4)) as (a, b):
        running_now, most, done = 0, 0, 0
        go = trio.Event()

        async def slow(_peer: PeerID, _data: bytes) -> None:
            nonlocal running_now, most, done
            running_now += 1
            most = max(most, running_now)
            await go.wait()
            running_now -= 1
            done += 1

        a.handle(ROOT, slow, max_bytes=any_size)
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(b.send, a.peer_id, ROOT, b"x")
            await until(lambda: running_now == 4)
            go.set()
        await until(lambda: done == 40)
        assert most == 4


async def test_two_busy_nodes_whose_handlers_send_to_each_other_do_not_block() -> None:
    async with pair(limits=Limits(handlers_per_peer=2)) as (a, b):
        got = 0

        async def ask_back(peer: PeerID, data: bytes) -> None:
            nonlocal got
            got += 1
            if data != b"0":
                me = a if peer == b.peer_id else b
                await me.send(peer, ROOT, b"%d" % (int(data) - 1))

        a.handle(ROOT, ask_back, max_bytes=any_size)
        b.handle(ROOT, ask_back, max_bytes=any_size)
        with trio.fail_after(WAIT_S):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(a.send, b.peer_id, ROOT, b"5")
                    nursery.start_soon(b.send, a.peer_id, ROOT, b"5")
            await until(lambda: got == 20 * 6)


async def test_an_idle_stream_is_closed_by_both_and_the_next_message_opens_another() -> None:
    async with pair(limits=Limits(kept_idle_s=0.05)) as (a, b):
        mail = Mailbox()
        a.handle(ROOT, mail, max_bytes=any_size)
        await b.send(a.peer_id, ROOT, b"x")
        await until(lambda: not b._live.messenger.has_stream(a.peer_id))  # type: ignore[union-attr]
        await until(lambda: not a._live.messenger.has_stream(b.peer_id))  # type: ignore[union-attr]
        await b.send(a.peer_id, ROOT, b"y")
        await mail.wait_for(2)
        assert b.counters()["kept streams out"] == 2


async def test_messages_go_on_after_the_connection_was_lost() -> None:
    async with pair() as (a, b):
        mail = Mailbox()
        a.handle(ROOT, mail, max_bytes=any_size)
        await b.send(a.peer_id, ROOT, b"x")
        await b.disconnect(a.peer_id)
        await b.connect(a.listen_addresses[0])
        await b.send(a.peer_id, ROOT, b"y")
        await mail.wait_for(2)


async def test_what_a_broken_stream_did_not_answer_fails() -> None:
    async with played() as (hand, peer, own):
        errors: list[PeerUnreachable] = []

        async def send(data: bytes) -> None:
            try:
                await own.send(peer, ROOT, data)
            except PeerUnreachable as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, b"one")
            nursery.start_soon(send, b"two")
            await until(lambda: len(hand.frames) == 3)
            await hand.streams[0].reset()
        assert len(errors) == 2


async def test_no_answer_in_time_is_an_error_and_a_late_one_harms_nobody() -> None:
    async with played() as (hand, peer, own):
        hand.accepts = True
        await own.send(peer, ROOT, b"x")
        hand.accepts = False
        with pytest.raises(PeerUnreachable, match="takes no message within"):
            await own.send(peer, ROOT, b"y", timeout_s=0.05)
        await until(lambda: len(hand.frames) == 3)
        await hand.streams[0].write(encode(Kind.ANSWER, Status.ACCEPTED, 0, hand.frames[2].number))
        hand.accepts = True
        await own.send(peer, ROOT, b"z")
        assert len(hand.streams) == 1


@pytest.mark.parametrize(("status", "error"), [(Status.TOO_BUSY, PeerUnreachable), (Status.TOO_LARGE, MessageTooLarge)])
async def test_a_refusal_is_an_error_of_its_own(status: Status, error: type[Exception]) -> None:
    async with played() as (hand, peer, own), trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(error):
                await own.send(peer, ROOT, b"x")

        nursery.start_soon(refused)
        await until(lambda: len(hand.frames) == 2)
        await hand.streams[0].write(encode(Kind.ANSWER, status, 0, hand.frames[1].number))


async def test_a_peer_that_closes_a_stream_gets_no_new_messages_on_it() -> None:
    async with played() as (hand, peer, own):
        hand.accepts = True
        await own.send(peer, ROOT, b"x")
        await hand.streams[0].write(encode(Kind.CLOSING, 0, 0, 0))
        await until(lambda: not own._live.messenger.has_stream(peer))  # type: ignore[union-attr]

        await own.send(peer, ROOT, b"y")
        assert len(hand.streams) == 2


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff" * 100,
        encode(Kind.DATA, FIRST | LAST, 3, 1, b"no name"),
        encode(Kind.NAME, 0, 0, 0, ROOT.encode()) + encode(Kind.DATA, FIRST, 0, 1, SIZE.pack(5) + b"123456"),
    ],
)
async def test_whoever_breaks_the_protocol_loses_the_stream_and_nobody_else_anything(noise: bytes) -> None:
    async with pair() as (a, b):
        mail, stranger = Mailbox(), node(5, keep_streams=False)
        a.handle(ROOT, mail, max_bytes=any_size)
        async with stranger.run():
            await stranger.connect(a.listen_addresses[0])
            stream = await stranger.streams.open(a.peer_id, PROTOCOL)
            await stream.write(noise)
            with trio.fail_after(WAIT_S), pytest.raises(StreamEnded):
                await stream.read(1)
        await b.send(a.peer_id, ROOT, b"fine")
        await mail.wait_for(1)
        assert a.counters()["messages dropped: bad frame"] == 1


async def test_a_peer_has_two_kept_streams_and_no_more() -> None:
    async with running(a := node(6), stranger := node(7, keep_streams=False)):
        await stranger.connect(a.listen_addresses[0])
        streams = []
        for number in range(4):
            streams.append(await stranger.streams.open(a.peer_id, PROTOCOL))
            await until(lambda: a.counters().get("kept streams in") == number + 1)  # noqa: B023

        kept = a._live.messenger._keeper._streams  # type: ignore[union-attr]
        await until(lambda: len(kept[stranger.peer_id]) == 2)
        for stream in streams:
            await stream.reset()
