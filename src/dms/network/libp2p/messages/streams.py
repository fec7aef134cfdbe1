"""Messages and requests on streams: one message per stream, both sides close (``spec/network.md`` 3).

The receiving side reads within a time limit, closes, and hands the message to its handler in a task of its
own. A stream that is being read holds one of its peer's slots, as a running handler does.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.ping import ID as PING
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID

from dms.network.errors import BadFrame, MessageTooLarge, PeerUnreachable
from dms.network.framing import encode_frame, read_exactly, read_frame
from dms.network.handlers import Handlers
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.connections.names import name_of
from dms.network.libp2p.core import PING_BYTES, GuardedHost
from dms.network.libp2p.streams.opening import Lingering, open_stream, reset_shielded
from dms.network.protocol import MessageHandler, SizeLimit

log = logging.getLogger(__name__)


class Inbox:
    """Receives messages and hands them to their handlers."""

    def __init__(self, handlers: Handlers, counters: Counter[str], *, read_s: float) -> None:
        self._handlers = handlers
        self._read_s = read_s
        self._counters = counters
        self._host: GuardedHost | None = None

    def open(self, host: GuardedHost) -> None:
        """Receive from now on."""
        self._host = host
        for protocol in self._handlers.protocols():
            host.set_stream_handler(TProtocol(protocol), self._receive)

    def close(self) -> None:
        """Receive no more."""
        self._host = None

    def add(self, protocol: str, handler: MessageHandler, max_bytes: SizeLimit | None = None) -> None:
        """Receive the messages of a protocol.

        :raises AlreadyHandled: somebody does already.
        """
        self._handlers.add(protocol, handler, max_bytes)
        if self._host is not None:
            self._host.set_stream_handler(TProtocol(protocol), self._receive)

    def remove(self, protocol: str) -> None:
        """Receive them no more."""
        if self._handlers.remove(protocol) and self._host is not None:
            self._host.remove_stream_handler(TProtocol(protocol))

    async def _receive(self, stream: INetStream) -> None:
        """One inbound stream; what it raises ends in a reset."""
        sender = name_of(stream.muxed_conn.peer_id)
        protocol = str(stream.get_protocol())
        if not self._handlers.take_slot(sender):
            await stream.reset()
            return
        try:
            with trio.fail_after(self._read_s):
                data = await read_frame(receiver(stream))
                await stream.close()
        except (BadFrame, MessageTooLarge, trio.TooSlowError, BaseLibp2pError) as error:
            self._counters[f"messages dropped: {_why(error)}"] += 1
            await stream.reset()
            return
        finally:
            self._handlers.free_slot(sender)
        self._counters["messages in"] += 1
        self._handlers.deliver(sender, protocol, data)


class Outbox:
    """Sends messages and asks questions."""

    def __init__(self, host: GuardedHost, counters: Counter[str], lingering: Lingering) -> None:
        self._host = host
        self._counters = counters
        self._lingering = lingering

    async def send(self, peer: ID, protocol: str, data: bytes, timeout_s: float) -> None:
        """One message on a stream of its own.

        :raises MessageTooLarge: it is.
        :raises PeerUnreachable: the peer does not speak the protocol, or made no progress in time.
        """
        frame = encode_frame(data)
        stream = await open_stream(self._host, peer, [protocol], timeout_s)
        ok = False
        try:
            with trio.fail_after(timeout_s):
                await stream.write(frame)
                await stream.close()
            ok = True
        except trio.TooSlowError:
            raise PeerUnreachable(f"peer {peer} takes no message within {timeout_s:g} s") from None
        except (BaseLibp2pError, OSError) as error:
            raise PeerUnreachable(f"peer {peer} ended the stream of a message: {error!r}") from error
        finally:
            if not ok:
                await reset_shielded(stream)
        self._lingering.add(stream)
        self.count()

    def count(self) -> None:
        """One more message was sent."""
        self._counters["messages out"] += 1

    async def ask(self, peer: ID, protocol: str, question: bytes, *, limit_bytes: int, timeout_s: float) -> bytes:
        """One question, one answer, on the same stream.

        :raises PeerUnreachable: no answer in time, or none that could be read.
        """
        stream = await open_stream(self._host, peer, [protocol], timeout_s)
        try:
            with trio.fail_after(timeout_s):
                await stream.write(encode_frame(question))
                return await read_frame(receiver(stream), limit_bytes=limit_bytes)
        except (trio.TooSlowError, BaseLibp2pError, BadFrame, MessageTooLarge, OSError) as error:
            raise PeerUnreachable(f"peer {peer} does not answer on {protocol}: {_why(error)}") from error
        finally:
            await reset_shielded(stream)

    async def ping(self, peer: ID, timeout_s: float) -> float:
        """One round trip in seconds; opening the stream does not count.

        :raises PeerUnreachable: no answer in time.
        """
        stream = await open_stream(self._host, peer, [PING], timeout_s)
        try:
            with trio.fail_after(timeout_s):
                payload = secrets.token_bytes(PING_BYTES)
                started_s = trio.current_time()
                await stream.write(payload)
                answer = await read_exactly(receiver(stream), PING_BYTES)
                rtt_s = trio.current_time() - started_s
        except (trio.TooSlowError, BaseLibp2pError, BadFrame, OSError) as error:
            raise PeerUnreachable(f"peer {peer} does not answer a ping: {_why(error)}") from error
        finally:
            await reset_shielded(stream)
        if answer != payload:
            raise PeerUnreachable(f"peer {peer} answers a ping with something else")
        muxer = stream.muxed_conn
        if isinstance(muxer, KeepaliveYamux):
            muxer.observe_rtt(rtt_s)
        return rtt_s


def receiver(stream: INetStream) -> Callable[[int], Awaitable[bytes]]:
    """Reading a stream as :mod:`dms.network.framing` wants it: empty at the end."""

    async def receive(count: int) -> bytes:
        try:
            return await stream.read(count)
        except StreamEOF:
            return b""

    return receive


def _why(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "too slow"
    if isinstance(error, MessageTooLarge):
        return "too large"
    if isinstance(error, BadFrame):
        return "bad frame"
    return "stream ended"
