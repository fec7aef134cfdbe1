"""One kept stream: the shell around :class:`~dms.network.libp2p.messages.exchange.Exchange`.

One task reads, one writes. Answers wait for a moment before they are written, as what a handler sends may go with them.
Neither side ever waits for the other to be ready before it reads, so two nodes that are both busy cannot block each
other: messages for which there is no slot yet wait here, within the bounds of the exchange.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable

import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from dms.network.errors import BadFrame, MessageTooLarge, PeerUnreachable
from dms.network.handlers import Handlers
from dms.network.libp2p.connections.muxed import PACKET_BYTES, MuxedStream
from dms.network.libp2p.messages.exchange import Exchange, Incoming, Outgoing
from dms.network.libp2p.messages.frames import Status
from dms.network.libp2p.streams.opening import reset_shielded
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

READ_BYTES = 256 * 1024
ANSWER_TICKS = 3
"""Turns of the scheduler that an answer waits for company."""
MAX_WAITING = 256
"""Messages accepted for which there is no slot yet; those beyond stay unanswered, which holds the sender back."""
STALL_S = 60.0
"""How long nothing may move while something is under way,"""
HALF_S = 120.0
"""and how long one message may take to arrive."""


class StreamLost(PeerUnreachable):
    """The stream broke before anything of a message was written, or it is about to end: another one may do."""

    code = "stream_lost"


class Memory:
    """What all peers together may fill with messages that are not whole yet, or wait for a slot."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes

    def take(self, size: int) -> bool:
        """Take some, if it is free."""
        if size > self._free_bytes:
            return False
        self._free_bytes -= size
        return True

    def give_back(self, size: int) -> None:
        """Free it again."""
        self._free_bytes += size


class KeptStream:
    """A stream for many messages in both directions."""

    def __init__(
        self,
        stream: INetStream,
        peer: PeerID,
        handlers: Handlers,
        counters: Counter[str],
        memory: Memory,
        *,
        is_ours: bool,
    ) -> None:
        muxed = getattr(stream, "muxed_stream", None)
        assert isinstance(muxed, MuxedStream)
        self.is_ours = is_ours
        self.used_s = trio.current_time()
        self._stream = stream
        self._muxed = muxed
        self._peer = peer
        self._handlers = handlers
        self._counters = counters
        self._memory = memory
        self._exchange = Exchange(self._admit, memory.give_back)
        self._is_lost = False
        self._is_urgent = False
        self._entrance = trio.Lock()
        self._stalled: tuple[int, float] | None = None
        self._to_write = trio.Event()
        self._room = trio.Event()
        self._waiting: deque[Incoming] = deque()
        self._to_deliver = trio.Event()

    @property
    def is_usable(self) -> bool:
        """Whether messages can still be sent on it."""
        return not (self._is_lost or self._exchange.is_closing)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is under way on it."""
        return self._exchange.is_quiet

    async def serve(self) -> None:
        """Read and write until the stream ends; never raises for what the other side does."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_broken, self._write, nursery.cancel_scope)
                nursery.start_soon(self._deliver_waiting)
                await self._until_broken(self._read, nursery.cancel_scope)
                nursery.cancel_scope.cancel()
        finally:
            self._is_lost = True
            for message in self._exchange.lose():
                message.end.set()
            for waiting in self._waiting:
                self._memory.give_back(waiting.size)
            self._room.set()
            await reset_shielded(self._stream)

    async def send(self, inbox: str, data: bytes, timeout_s: float) -> None:
        """Send one message; returns once the other side accepted it.

        :raises StreamLost: nothing of it was written; another stream may do.
        :raises PeerUnreachable: nobody handles it there, no answer in time, or the stream broke.
        :raises MessageTooLarge: the peer takes none of this size.
        """
        message = Outgoing(inbox, data, trio.Event())
        try:
            with trio.fail_after(timeout_s):
                await self._offer(message)
                self._wake_writer(is_urgent=True)
                try:
                    await message.end.wait()
                finally:
                    if message.status is None and not message.is_lost:
                        self._exchange.abandon(message)
                        self._wake_writer(is_urgent=True)
        except trio.TooSlowError:
            raise PeerUnreachable(f"peer {self._peer} takes no message within {timeout_s:.3g} s") from None
        self._judge(message)

    def close_soon(self) -> None:
        """End the stream once everything under way on it is answered."""
        self._exchange.close()
        self.used_s = trio.current_time()
        self._wake_writer()

    def is_stuck(self, now_s: float) -> bool:
        """Whether the other side keeps something half done for too long."""
        half = self._exchange.first_half()
        if half is None or self._stalled is None or self._stalled[0] != half:
            self._stalled = None if half is None else (half, now_s)
        if self._stalled is not None and now_s - self._stalled[1] > HALF_S:
            return True
        return not self.is_quiet and now_s - self.used_s > STALL_S

    async def abort(self) -> None:
        """End the stream at once."""
        await reset_shielded(self._stream)

    # sending ---------------------------------------------------------------------------------------------------------

    async def _offer(self, message: Outgoing) -> None:
        if self.is_usable and not self._entrance.locked() and self._exchange.has_room(len(message.data)):
            self._exchange.offer(message)
            return
        async with self._entrance:
            while self.is_usable and not self._exchange.has_room(len(message.data)):
                await self._room.wait()
            if not self.is_usable:
                raise StreamLost(f"the stream to peer {self._peer} ended")
            self._exchange.offer(message)

    async def _write(self) -> None:
        while True:
            if self._exchange.is_closing and not self.is_ours and self.is_quiet:
                await self._stream.close()
                return
            if not self._exchange.has_output:
                self._is_urgent = False
                self._to_write = trio.Event()
                await self._to_write.wait()
                ticks = ANSWER_TICKS
                while ticks and not self._is_urgent:
                    await trio.lowlevel.checkpoint()
                    ticks -= 1
                continue
            self.used_s = trio.current_time()
            await self._muxed.write(self._exchange.output(PACKET_BYTES))

    def _wake_writer(self, *, is_urgent: bool = False) -> None:
        self._is_urgent = self._is_urgent or is_urgent
        self._to_write.set()

    def _judge(self, message: Outgoing) -> None:
        if message.is_lost:
            if not message.is_begun:
                raise StreamLost(f"the stream to peer {self._peer} ended")
            raise PeerUnreachable(f"peer {self._peer} went away before it accepted a message")
        if message.status is Status.NO_SUCH_INBOX:
            raise PeerUnreachable(f"peer {self._peer} opens no stream for {message.inbox}")
        if message.status is Status.TOO_BUSY:
            raise PeerUnreachable(f"peer {self._peer} has no room for a message of {len(message.data)} bytes now")
        if message.status is Status.TOO_LARGE:
            raise MessageTooLarge(f"message too large: peer {self._peer} takes none of {len(message.data)} bytes")

    # receiving -------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            try:
                data = await self._muxed.read(READ_BYTES)
            except MuxedStreamEOF:
                break
            self.used_s = trio.current_time()
            for event in self._exchange.receive(data):
                if isinstance(event, Outgoing):
                    event.end.set()
                    self._room.set()
                    self._room = trio.Event()
                else:
                    await self._take(event)
            if self._exchange.has_output or self._exchange.is_closing:
                self._wake_writer()
            await trio.lowlevel.checkpoint()
        if self._exchange.is_closing and self.is_quiet:
            await self._stream.close()

    async def _take(self, message: Incoming) -> None:
        """Start the handler of a message, in the order of arrival: tasks that start together run in any."""
        is_handled = self._handlers.handles(message.inbox)
        if not self._waiting and (not is_handled or self._handlers.has_slot(self._peer)):
            self._start(message)
            await trio.lowlevel.checkpoint()
            return
        if not self._memory.take(message.size):
            self._counters["messages dropped: no memory"] += 1
            self._exchange.answer(message, Status.TOO_BUSY)
            return
        self._waiting.append(message)
        self._to_deliver.set()
        if is_handled and len(self._waiting) <= MAX_WAITING:
            # Handlers send, too. Were nothing accepted before it has a slot, two nodes whose handlers all send to each
            # other would wait for ever.
            self._exchange.answer(message, Status.ACCEPTED)

    async def _deliver_waiting(self) -> None:
        while True:
            while self._waiting:
                message = self._waiting[0]
                await self._handlers.wait_for_slot(self._peer)
                self._start(message)
                self._memory.give_back(message.size)
                self._wake_writer()
                await trio.lowlevel.checkpoint()
                self._waiting.popleft()
            self._to_deliver = trio.Event()
            await self._to_deliver.wait()

    def _start(self, message: Incoming) -> None:
        self._counters["messages in"] += 1
        is_handled = self._handlers.handles(message.inbox) and self._handlers.take_slot(self._peer)
        if is_handled:
            is_handled = self._handlers.start(self._peer, message.inbox, message.data)
        self._exchange.answer(message, Status.ACCEPTED if is_handled else Status.NO_SUCH_INBOX)

    def _admit(self, inbox: str, size: int) -> Status:
        if not self._handlers.handles(inbox):
            return Status.NO_SUCH_INBOX
        if not self._handlers.takes(inbox, self._peer, size):
            self._counters["messages dropped: too large"] += 1
            return Status.TOO_LARGE
        return Status.ACCEPTED if self._memory.take(size) else Status.TOO_BUSY

    async def _until_broken(self, part: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await part()
        except (BadFrame, BaseLibp2pError, OSError) as error:
            if isinstance(error, BadFrame):
                self._counters["messages dropped: bad frame"] += 1
            log.debug("the kept stream of %s broke: %r", self._peer, error)
            scope.cancel()
