"""One way to a peer, over streams that a test holds in its hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from dms.network import PeerUnreachable, StreamEnded
from dms.network.byte_streams import ByteStream
from dms.subnet import frames
from dms.subnet.budgets import RelayBudget
from dms.subnet.links import (
    IDLE_S,
    LONGEST_PAUSE_S,
    OPEN_S,
    PING_EVERY_S,
    RELAYED_RETRY_S,
    SILENT_S,
    Link,
    LinkState,
)
from dms.subnet.packets import udp_packet
from dms.subnet.segments import Parcel
from dms.subnet.sharing import MIN_HOLD_S, Berths, Shared
from dms.subnet.tally import Drop, Tally
from dms.types.ids import PeerID

PEER = PeerID("peer")
PACKET = Parcel(udp_packet(b"\x0a\1\2\3", 1, b"\x0a\1\2\4", 2, b"x" * 100))


class HeldStream:
    """What was written, and what will be read."""

    def __init__(self, protocol: str, *, is_relayed: bool = False) -> None:
        self.peer, self.protocol, self.is_relayed = PEER, protocol, is_relayed
        self.relay = "some-relay" if is_relayed else ""
        self.written = self.written_at_once = b""
        self.room = 0
        self.writes: list[bytes] = []
        self.is_over = False
        self._send, self._receive = trio.open_memory_channel[bytes](100)

    def answer(self, data: bytes) -> None:
        self._send.send_nowait(data)

    def end(self) -> None:
        self._send.close()

    async def read(self, max_bytes: int) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StreamEnded from None

    def write_nowait(self, data: bytes) -> None:
        assert len(data) <= self.room
        self.room -= len(data)
        self.written_at_once += data

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.writes.append(data)
        self.written += data

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_over = True


class HeldStreams:
    """Gives out one stream after the other; ``None``: the peer cannot be reached."""

    def __init__(self) -> None:
        self.next: Callable[[], HeldStream | None] = lambda: None
        self.opened: list[HeldStream] = []
        self.asked_s: list[float] = []

    async def open(self, peer: PeerID, *protocols: str, timeout_s: float = 10.0) -> ByteStream:
        await trio.lowlevel.checkpoint()
        assert protocols == (frames.OWN, frames.ORIGINAL), "ours first"
        self.asked_s.append(trio.current_time())
        stream = self.next()
        if stream is None:
            raise PeerUnreachable("nobody there")
        self.opened.append(stream)
        return stream

    def handle(self, protocol: str, handler: Callable[[ByteStream], Awaitable[None]]) -> None:
        raise AssertionError

    def unhandle(self, protocol: str) -> None:
        raise AssertionError


class Bench:
    def __init__(self, link: Link, streams: HeldStreams, tally: Tally) -> None:
        self.link, self.streams, self.tally = link, streams, tally

    def is_(self, state: LinkState) -> bool:
        return self.link.status().state is state

    async def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.link.send(PACKET)
        await trio.sleep(0.01)


@asynccontextmanager
async def bench(stream: Callable[[], HeldStream | None], **options: object) -> AsyncIterator[Bench]:
    streams, tally = HeldStreams(), Tally()
    streams.next = stream
    link = Link(streams, "id", PEER, tally, mtu=1420, rng=Random(1), **options)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        yield Bench(link, streams, tally)
        nursery.cancel_scope.cancel()
    assert all(one.is_over for one in streams.opened), "no stream is left"


def original() -> HeldStream:
    return HeldStream(frames.ORIGINAL)


def relayed() -> HeldStream:
    return HeldStream(frames.ORIGINAL, is_relayed=True)


def own() -> HeldStream:
    made = HeldStream(frames.OWN)
    made.answer(frames.encode_hello(frames.Hello("id")))
    return made


async def test_nothing_is_opened_before_there_is_something_to_send(autojump_clock: trio.testing.MockClock) -> None:
    async with bench(original) as b:
        await trio.sleep(1000)
        assert b.is_(LinkState.IDLE)
        assert b.streams.opened == []
        await b.send(2)
        assert b.is_(LinkState.OPEN)
        wanted = frames.encode_opening("id") + frames.encode_packets([PACKET.data] * 2)
        assert b.streams.opened[0].written == wanted, "one opening, then the packets"


async def test_a_stream_that_nobody_uses_is_closed_and_opened_anew(autojump_clock: trio.testing.MockClock) -> None:
    async with bench(original) as b:
        await b.send()
        await trio.sleep(IDLE_S + 1)
        assert b.is_(LinkState.IDLE)
        assert b.streams.opened[0].is_over
        await b.send()
        assert len(b.streams.opened) == 2


async def test_a_peer_that_is_away_is_asked_less_and_less_often(autojump_clock: trio.testing.MockClock) -> None:
    async with bench(lambda: None) as b:
        for _ in range(200):
            await b.send()
            await trio.sleep(1)
        pauses = [after - before for before, after in zip(b.streams.asked_s, b.streams.asked_s[1:], strict=False)]
        assert pauses[0] < 3
        assert LONGEST_PAUSE_S / 2 < pauses[-1] < 2 * LONGEST_PAUSE_S
        assert b.is_(LinkState.BROKEN)
        assert b.link.status().error == "nobody there"
        assert b.tally.drops[Drop.UNREACHABLE] > 100, "what waited would come too late"


async def test_a_peer_that_comes_back_is_tried_at_once_with_what_waited(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with bench(lambda: None) as b:
        for _ in range(100):
            await b.send()
            await trio.sleep(1)
        while trio.current_time() - b.streams.asked_s[-1] > 0.5:  # until just after an attempt
            await trio.sleep(0.1)
            await b.send()
        asked = len(b.streams.asked_s)
        await b.send()
        assert len(b.streams.asked_s) == asked, "it would be tried much later"
        b.streams.next = original
        b.link.came()
        await trio.sleep(0.01)
        assert b.is_(LinkState.OPEN)
        assert b.link.status().error == "", "what was wrong is no more"
        assert PACKET.data in b.streams.opened[0].written


async def test_a_relay_that_carries_no_more_is_said_and_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    async with bench(relayed, shared=Shared(RelayBudget(limit_bytes=500, window_s=100))) as b:
        await b.send(2)
        assert b.link.status().path == "relayed"
        await b.send(5)
        assert b.is_(LinkState.RELAY_LIMIT)
        assert b.link.status().error == "relayed: limit of relay some-relay reached, it carries no more for 100 s"
        assert b.link.status().relay == "some-relay"
        assert b.tally.drops == {Drop.RELAY_LIMIT: 5}
        await trio.sleep(101)
        await b.send(1)
        assert b.is_(LinkState.OPEN)


async def test_a_relayed_stream_makes_way_for_a_direct_one(autojump_clock: trio.testing.MockClock) -> None:
    made = iter([relayed(), original()])
    async with bench(lambda: next(made)) as b:
        await b.send()
        assert b.link.status().path == "relayed"
        await trio.sleep(RELAYED_RETRY_S + 1)
        await b.send()
        await b.send()
        assert b.link.status().path == "direct"
        assert not b.tally.drops


async def test_pings_measure_the_round_trip_and_find_a_silent_peer(autojump_clock: trio.testing.MockClock) -> None:
    async with bench(own) as b:
        await b.send()
        assert b.is_(LinkState.OPEN)
        stream = b.streams.opened[0]
        sent = frames.FrameDecoder().feed(stream.written)
        ping = next(frame for frame in sent if frame.kind == frames.PING)
        await trio.sleep(0.25)
        stream.answer(frames.encode(frames.PONG, b"not mine") + frames.encode(frames.PONG, ping.body))
        await trio.sleep(0.01)
        rtt_s = b.link.status().rtt_s
        assert rtt_s is not None
        assert 0.25 <= rtt_s < 0.4
        await trio.sleep(SILENT_S + 2 * PING_EVERY_S)
        assert b.is_(LinkState.BROKEN)
        assert b.link.status().error == "the peer has been silent for 45 s"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (frames.encode_hello(frames.Hello("other")), "the peer answers with something else"),
        (frames.encode(frames.PING, b"12345678"), "the peer answers with something else"),
        (b"", "the peer ended the stream"),
        (None, "the peer does not answer"),
    ],
)
async def test_a_peer_that_does_not_say_hello_gets_nothing(
    answer: bytes | None, error: str, autojump_clock: trio.testing.MockClock
) -> None:
    def make() -> HeldStream:
        stream = HeldStream(frames.OWN)
        if answer is not None:
            stream.answer(answer)
        return stream

    async with bench(make) as b:
        await b.send()
        await trio.sleep(OPEN_S + 0.1)
        assert b.link.status().error == error
        sent = frames.FrameDecoder().feed(b.streams.opened[0].written)
        assert [frame.kind for frame in sent] == [frames.HELLO]


async def test_a_peer_that_breaks_the_protocol_later_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async with bench(own) as b:
        await b.send()
        b.streams.opened[0].answer(b"\xff" * 20)
        await trio.sleep(0.01)
        assert b.is_(LinkState.BROKEN)
        assert b.link.status().error.startswith("the peer sends a frame of")


async def test_a_stream_that_ends_is_opened_anew(autojump_clock: trio.testing.MockClock) -> None:
    async with bench(own) as b:
        await b.send()
        b.streams.opened[0].end()
        await trio.sleep(0.01)
        assert b.is_(LinkState.BROKEN)
        await trio.sleep(5)
        await b.send()
        assert b.is_(LinkState.OPEN)
        assert len(b.streams.opened) == 2


async def test_more_networks_than_streams_take_turns_and_the_one_that_is_silent_for_longest_gives_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = Shared(berths=Berths(most=2))
    async with bench(original, shared=shared) as one, bench(original, shared=shared) as two:
        await one.send()
        await trio.sleep(1)
        await two.send()
        await one.send()
        async with bench(original, shared=shared) as three:
            three.link.send(PACKET)
            await trio.sleep(0.1)
            assert three.is_(LinkState.OPENING), "a stream is not taken away at once"
            await trio.sleep(MIN_HOLD_S)
            assert three.is_(LinkState.OPEN)
            assert (one.is_(LinkState.IDLE), two.is_(LinkState.OPEN)) == (True, True), "it had it for long enough"
            assert len(shared.berths) == 2
            await trio.sleep(MIN_HOLD_S)
            await three.send()
            await one.send()
            assert one.is_(LinkState.OPEN)
            assert two.is_(LinkState.IDLE), "the silent one"
            await two.send()
            await trio.sleep(2 * MIN_HOLD_S)
            assert two.is_(LinkState.OPEN)
            written = b"".join(stream.written for each in (one, two, three) for stream in each.streams.opened)
            assert written.count(PACKET.data) == 7, "nothing is lost"
            assert not any(each.tally.drops for each in (one, two, three))
    assert not len(shared.berths)


async def test_a_packet_goes_in_the_step_that_brings_it_and_the_task_of_the_link_looks_after_the_rest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with bench(own) as test:
        await test.send()
        stream = test.streams.opened[0]
        before = list(stream.writes)
        frame = frames.encode_parcels([PACKET])
        stream.room = 2 * len(frame) + 5
        test.link.send(PACKET)
        assert stream.written_at_once == frame, "nobody had to wake"
        test.link.send(PACKET)
        test.link.send(PACKET)
        assert stream.written_at_once == 2 * frame, "no more than there is room for"
        await trio.testing.wait_all_tasks_blocked()
        assert stream.writes == [*before, frame]
        stream.room = len(frame)
        test.link.send(PACKET)
        await trio.testing.wait_all_tasks_blocked()
        assert stream.writes == [*before, frame, b""], "whatever the kernel did not take"
        assert test.tally.packets_out == 5
