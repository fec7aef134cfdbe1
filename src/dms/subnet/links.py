"""Our sending side towards one peer: a queue, a stream, and what becomes of them.

Each node sends on streams that it opened itself and receives on those that the other opened, so two nodes that begin at
once need no agreement. A stream is opened when there is something to send, closed when there was nothing for a while,
and opened anew, later and later, when it ends. While it is open, pings on it measure the round trip and find a peer
that fell silent. Where datagrams reach the peer, packets take them instead, and the stream stays as what they fall back to.
A packet that a datagram can take goes at once, in the step that brought it; only what cannot, waits for the task of the link.
A relayed stream is opened anew every half minute, so that a direct way is used once there is one.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from random import Random

import trio

from dms.network import ByteStream, NetworkError
from dms.network.byte_streams import ByteStreams
from dms.observe.log import get_logger
from dms.subnet import frames
from dms.subnet.datagrams import Datagrams, Outgoing
from dms.subnet.errors import BadPacket
from dms.subnet.pace import Pace
from dms.subnet.packets import parse_header
from dms.subnet.queues import PacketQueue
from dms.subnet.sealing import decode_offer, encode_offer
from dms.subnet.segments import Parcel, packets_of
from dms.subnet.sharing import Shared
from dms.subnet.tally import Drop, Tally
from dms.types.ids import PeerID

log = get_logger(__name__)

OPEN_S = 10.0
BATCH_BYTES = 256 * 1024
GATHER_S, GATHER_BYTES = 0.001, 64 * 1024
"""Where much passes, a write waits for company so long after the one before (:mod:`~dms.subnet.pace`)."""
PING_EVERY_S = 15.0
SILENT_S = 45.0
IDLE_S = 300.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
RELAYED_RETRY_S = 30.0
READ_BYTES = 64 * 1024


class LinkState(Enum):
    """What a way to a peer is doing."""

    IDLE = "idle"
    """Nothing to send."""
    OPENING = "opening"
    OPEN = "open"
    BROKEN = "broken"
    """No way now; it is tried again."""
    RELAY_LIMIT = "relay limit"
    """The relay carries no more for now, and there is no direct way."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What is known of a way to a peer now."""

    state: LinkState
    path: str
    """``datagram``, ``direct``, ``relayed``, or empty while there is none."""
    protocol: str
    rtt_s: float | None
    error: str
    relay: str = ""
    """Who carries it, where it is relayed."""
    mtu: int = 0
    """The largest packet that this way takes in one go; larger ones are cut, or take the stream. 0: not known."""


class _End(Exception):
    """This stream is done; the reason is the text, empty when there is nothing wrong."""


class Link:
    """To one peer of one network."""

    def __init__(
        self,
        streams: ByteStreams,
        subnet_id: str,
        peer: PeerID,
        tally: Tally,
        *,
        mtu: int,
        rng: Random,
        shared: Shared | None = None,
        datagrams: Datagrams | None = None,
    ) -> None:
        self._streams, self._subnet_id, self._peer, self._tally = streams, subnet_id, peer, tally
        self._mtu, self._rng, self._shared = mtu, rng, shared or Shared()
        self._datagrams = datagrams
        self._outgoing: Outgoing | None = None
        self._queue = PacketQueue()
        self._state, self._error, self._protocol = LinkState.IDLE, "", ""
        self._path = self._relay = ""
        self._rtt_s: float | None = None
        self._asked: dict[bytes, float] = {}
        self._heard_s = self.used_s = 0.0
        self._pace, self._wrote_s = Pace(), float("-inf")
        self._stream: ByteStream | None = None
        """Ours, where the step that brings a packet may write to it."""
        self._holding = trio.CancelScope()
        self._has_come = trio.Event()

    def send(self, parcel: Parcel) -> None:
        """Send it when there is a way; never waits."""
        self.put(parcel)
        self.push()

    def put(self, parcel: Parcel) -> None:
        """Send it with the next :meth:`push`."""
        self._tally.drop(Drop.QUEUE_FULL, self._queue.put(parcel))

    def push(self) -> None:
        """Send what was put; never waits."""
        outgoing = self._outgoing
        while outgoing is not None and len(self._queue) and not outgoing.is_blocked and outgoing.way() is not None:
            self.used_s = trio.current_time()
            batch = self._queue.take(BATCH_BYTES)
            rest = outgoing.send(batch)
            self._tally.gave(len(batch) - len(rest), size_of(batch) - size_of(rest))
            for parcel in rest:  # for the stream
                self._queue.put(parcel)
            if rest:
                break
        if self._stream is not None and (outgoing is None or outgoing.way() is None):
            self._write_now(self._stream)
        self._queue.announce()

    def _write_now(self, stream: ByteStream) -> None:
        """Spare the task of the link to wake for what the stream takes at once."""
        while len(self._queue) and self._company_s() <= 0:
            batch = self._queue.take_within(stream.room, frames.HEAD_BYTES)
            if not batch:
                return
            self._tally.gave(len(batch), size_of(batch))
            self.used_s = self._wrote_s = trio.current_time()
            try:
                stream.write_nowait(frames.encode_parcels(batch))
            except NetworkError:  # whoever reads the stream learns that, too
                self._tally.drop(Drop.UNREACHABLE, len(batch))
                return
            if not stream.room:  # perhaps the kernel took a part
                self._queue.wake()

    def _company_s(self) -> float:
        """How long a write waits for more, now."""
        now_s, tally = trio.current_time(), self._tally
        self._pace.observe(now_s, tally.packets_in + tally.packets_out, tally.bytes_in + tally.bytes_out)
        if not self._pace.is_busy or self._queue.size_bytes >= GATHER_BYTES:
            return 0.0
        return self._wrote_s + GATHER_S - now_s

    def give_way(self) -> None:
        """Close the stream, for another network; what is sent from now on waits for a new one."""
        self._holding.cancel()

    def status(self) -> LinkStatus:
        """How it stands."""
        way = self._outgoing.way() if self._outgoing is not None else None
        if self._outgoing is not None and way is not None:
            rtt_s = self._outgoing.rtt_s
            return LinkStatus(self._state, "datagram", self._protocol, rtt_s, self._error, mtu=way.size_bytes)
        mtu = self._mtu if self._path else 0
        return LinkStatus(self._state, self._path, self._protocol, self._rtt_s, self._error, self._relay, mtu)

    async def run(self) -> None:
        """Carry what is sent, until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            await self._queue.wait()
            opened_s = trio.current_time()
            try:
                self._state = LinkState.OPENING
                async with self._shared.berths.held(self):
                    with trio.CancelScope() as self._holding:
                        await self._carry()
            except _End as end:
                self._error = str(end)
            except NetworkError as error:
                self._error = error.message
            else:
                self._error = ""
            self._path, self._rtt_s, self._protocol = "", None, ""
            if self._state is not LinkState.RELAY_LIMIT:
                self._relay = ""
            if not self._error:
                self._state = LinkState.IDLE
                pause_s = FIRST_PAUSE_S
                continue
            if self._state is LinkState.RELAY_LIMIT:
                log.warning("subnet_relay_limit", subnet=self._subnet_id, peer=self._peer, relay=self._relay)
                self._tally.drop(Drop.RELAY_LIMIT, self._queue.clear())
                await self._refuse(
                    min(RELAYED_RETRY_S, self._shared.budget.free_in_s(trio.current_time())), Drop.RELAY_LIMIT
                )
                continue
            if trio.current_time() - opened_s > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            self._state = LinkState.BROKEN
            self._tally.drop(Drop.UNREACHABLE, self._queue.clear())
            await self._refuse(pause_s * (0.5 + self._rng.random()), Drop.UNREACHABLE)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def came(self) -> None:
        """The peer is connected again: do not wait any longer to try."""
        self._has_come.set()

    async def _refuse(self, for_s: float, reason: Drop) -> None:
        """Nothing can be sent for a while: what is given meanwhile would be stale, unless the peer comes back before that."""
        self._has_come = trio.Event()
        with trio.move_on_after(for_s):
            await self._has_come.wait()
            return
        self._tally.drop(reason, self._queue.clear())

    async def _carry(self) -> None:
        """Open a stream and use it until it ends.

        :raises NetworkError: there is none, or it ended.
        """
        stream = await self._streams.open(self._peer, frames.OWN, frames.ORIGINAL, timeout_s=OPEN_S)
        try:
            self._path, self._relay = "relayed" if stream.is_relayed else "direct", stream.relay
            self._protocol = stream.protocol
            if stream.protocol == frames.OWN:
                await self._carry_own(stream)
            else:
                await self._carry_original(stream)
        finally:
            with trio.move_on_after(1.0, shield=True):
                await stream.reset()

    async def _carry_own(self, stream: ByteStream) -> None:
        decoder = frames.FrameDecoder()
        await self._write(stream, frames.encode_hello(frames.Hello(self._subnet_id, self._mtu)))
        with trio.move_on_after(OPEN_S) as limit:
            while not (answers := decoder.feed(await _read(stream))):
                pass
            _check_hello(answers[0], self._subnet_id)
        if limit.cancelled_caught:
            raise _End("the peer does not answer")
        self._heard_s = trio.current_time()
        failures: list[_End | NetworkError] = []
        with self._offering() as outgoing:
            if outgoing is not None:
                await self._write(stream, frames.encode(frames.OFFER, encode_offer(outgoing.offer)))
            await self._carry_until(stream, decoder, failures)
        if failures:
            raise failures[0]

    @contextmanager
    def _offering(self) -> Iterator[Outgoing | None]:
        """The datagram path, where there can be one, for as long as the stream on which it was agreed."""
        if self._datagrams is None:
            yield None
            return
        with self._datagrams.begin(self._subnet_id, self._peer, self._tally) as outgoing:
            self._outgoing = outgoing
            try:
                yield outgoing
            finally:
                self._outgoing = None

    async def _carry_until(
        self, stream: ByteStream, decoder: frames.FrameDecoder, failures: list[_End | NetworkError]
    ) -> None:
        async with trio.open_nursery() as nursery:

            async def until_failure(part: Callable[[], Awaitable[None]]) -> None:
                try:
                    await part()
                except (_End, NetworkError) as error:
                    failures.append(error)
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_failure, partial(self._listen, stream, decoder))
            nursery.start_soon(until_failure, partial(self._ping, stream))
            if self._outgoing is not None:
                nursery.start_soon(self._outgoing.probe)
            self._stream = None if stream.is_relayed else stream
            try:
                await until_failure(partial(self._pump, stream, frames.encode_parcels))
            finally:
                self._stream = None

    async def _carry_original(self, stream: ByteStream) -> None:
        await self._write(stream, frames.encode_opening(self._subnet_id))
        await self._pump(stream, _original_batch)

    async def _pump(self, stream: ByteStream, encode: Callable[[list[Parcel]], bytes]) -> None:
        """Write batches until there is nothing for a while, or a relayed stream is to be opened anew."""
        self._state, self._error = LinkState.OPEN, ""
        renew_s = trio.current_time() + RELAYED_RETRY_S if stream.is_relayed else float("inf")
        while trio.current_time() < renew_s:
            if not len(self._queue):
                with trio.move_on_after(IDLE_S):
                    await self._queue.wait()
            company_s = self._company_s()
            if company_s > 0:
                await trio.sleep(company_s)
            batch = self._queue.take(BATCH_BYTES)
            if not batch:
                await stream.write(b"")
                if trio.current_time() - self.used_s < IDLE_S:
                    continue
                return
            self._tally.gave(len(batch), size_of(batch))
            self.used_s = trio.current_time()
            if self._outgoing is not None:
                await self._outgoing.unblock()
                batch = self._outgoing.send(batch)
            if not batch:
                continue
            try:
                await self._write(stream, encode(batch))
            except (_End, NetworkError):
                relayed = self._state is LinkState.RELAY_LIMIT
                self._tally.drop(Drop.RELAY_LIMIT if relayed else Drop.UNREACHABLE, len(batch))
                raise
            self._wrote_s = trio.current_time()

    async def _write(self, stream: ByteStream, data: bytes) -> None:
        if stream.is_relayed and not self._shared.budget.spend(len(data), trio.current_time()):
            self._state = LinkState.RELAY_LIMIT
            free_s = self._shared.budget.free_in_s(trio.current_time())
            raise _End(f"relayed: limit of relay {stream.relay} reached, it carries no more for {free_s:.0f} s")
        await stream.write(data)

    async def _listen(self, stream: ByteStream, decoder: frames.FrameDecoder) -> None:
        while True:
            try:
                for frame in decoder.feed(await _read(stream)):
                    self._heard(frame)
            except BadPacket as error:
                raise _End(f"the peer sends {error.message}") from None

    def _heard(self, frame: frames.Frame) -> None:
        if frame.kind == frames.OFFER and self._outgoing is not None:
            self._outgoing.agree(decode_offer(frame.body))
        if frame.kind != frames.PONG:
            return
        asked_s = self._asked.pop(frame.body, None)
        if asked_s is None:
            return
        self._heard_s = trio.current_time()
        sample_s = self._heard_s - asked_s
        self._rtt_s = sample_s if self._rtt_s is None else 0.75 * self._rtt_s + 0.25 * sample_s

    async def _ping(self, stream: ByteStream) -> None:
        """Behind what is written already, so that the round trip is that of packets."""
        self._asked.clear()
        while True:
            token = secrets.token_bytes(frames.PING_BYTES)
            self._asked[token] = trio.current_time()
            await self._write(stream, frames.encode(frames.PING, token))
            await trio.sleep(PING_EVERY_S)
            if trio.current_time() - self._heard_s > SILENT_S:
                raise _End(f"the peer has been silent for {SILENT_S:.0f} s")


def size_of(parcels: list[Parcel]) -> int:
    """In bytes, together."""
    return sum(len(parcel.data) for parcel in parcels)


def _original_batch(parcels: list[Parcel]) -> bytes:
    """The original's nodes know packets of at most the MTU, with their checksums."""
    return frames.encode_packets([one for parcel in parcels for one in packets_of(parcel, parse_header(parcel.data))])


async def _read(stream: ByteStream) -> bytes:
    data = await stream.read(READ_BYTES)
    if not data:
        raise _End("the peer ended the stream")
    return data


def _check_hello(frame: frames.Frame, subnet_id: str) -> None:
    try:
        if frames.decode_hello(frame).subnet == subnet_id:
            return
    except BadPacket:
        pass
    raise _End("the peer answers with something else")
