"""The hash table on libp2p: streams for its messages, and whether we serve it.

Wire compatible with go and js: each message has its length as a varint before it; a stream carries any number of
requests, and their answers in order. Who only asks does not name the protocol, so nobody puts him in a routing table.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from multiaddr import Multiaddr

from dms.network.directory import DHTMode
from dms.network.errors import BadFrame, NotRunning, PeerUnreachable
from dms.network.framing import read_exactly
from dms.network.kademlia.messages import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Kind, Message, decode_message
from dms.network.kademlia.node import Kademlia
from dms.network.kademlia.queries import ASK_S
from dms.network.libp2p.connections.names import id_of, name_of
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.messages.streams import receiver
from dms.network.libp2p.streams.opening import Lingering, open_stream, reset_shielded
from dms.network.protobuf import encode_varint
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

IDLE_S = 60.0
"""How long a stream may be silent between two requests."""
ANSWER_S = 10.0
"""How long sending an answer may take."""
_MAX_LENGTH_BYTES = 4

Connect = Callable[[PeerID, Sequence[Multiaddr]], Awaitable[None]]
"""Makes sure that a connection exists, at these addresses or those that are known."""


class DHTStreams:
    """Carries the questions and answers of a :class:`~dms.network.kademlia.node.Kademlia`.

    :param protocol: its protocol id. :param mode: whether to serve; ``auto`` serves until it is known that nobody can
        reach us.
    """

    def __init__(self, protocol: str, mode: DHTMode) -> None:
        self.protocol = protocol
        self._mode = mode
        self._is_public: bool | None = None
        self._host: GuardedHost | None = None
        self._lingering: Lingering | None = None
        self._connect: Connect | None = None
        self._node: Kademlia | None = None

    @property
    def is_serving(self) -> bool:
        """Whether we answer others."""
        if self._mode is DHTMode.AUTO:
            return self._is_public is not False
        return self._mode is DHTMode.SERVER

    def open_host(self, host: GuardedHost, node: Kademlia, connect: Connect, lingering: Lingering) -> None:
        """Ask and answer from now on."""
        self._host, self._node, self._connect, self._lingering = host, node, connect, lingering
        self._apply()

    def close_host(self) -> None:
        """Ask and answer no more."""
        self._host = self._lingering = self._connect = None

    async def reachable(self, is_public: bool | None) -> None:  # noqa: FBT001  a fact, not an option
        """It is known now whether others can reach us (nothing: it is not); our peers are told what we serve."""
        before = self.is_serving
        self._is_public = is_public
        if self._host is not None and self.is_serving != before:
            self._apply()
            await self._host.announce()

    async def ask(self, peer: PeerID, addresses: Sequence[Multiaddr], request: Message) -> Message | None:
        """Ask a peer, dialling it if need be; nothing comes back for a request that has no answer.

        :raises NotRunning: outside of the life of the host.
        :raises PeerUnreachable: no connection, no such protocol there, no answer in time, or one that is none.
        """
        if self._host is None or self._connect is None or self._lingering is None:
            raise NotRunning
        await self._connect(peer, addresses)
        data = request.encode()
        stream = await open_stream(self._host, id_of(peer), [self.protocol], ASK_S)
        try:
            with trio.fail_after(ASK_S):
                await stream.write(encode_varint(len(data)) + data)
                if request.kind is Kind.ADD_PROVIDER:
                    await stream.close()
                    self._lingering.add(stream)
                    return None
                answer = await _read_message(stream, MAX_ANSWER_BYTES)
        except (trio.TooSlowError, BaseLibp2pError, BadFrame, OSError) as error:
            raise PeerUnreachable(f"peer {peer} does not answer on {self.protocol}: {error!r}") from error
        finally:
            if request.kind is not Kind.ADD_PROVIDER:
                await reset_shielded(stream)
        if answer is None:
            raise PeerUnreachable(f"peer {peer} does not answer on {self.protocol}")
        return answer

    # serving ---------------------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        host = self._host
        if host is None:
            return
        if self.is_serving:
            host.set_stream_handler(TProtocol(self.protocol), self._serve)
        elif TProtocol(self.protocol) in host.multiselect.handlers:
            host.remove_stream_handler(TProtocol(self.protocol))

    async def _serve(self, stream: INetStream) -> None:
        """Answer the requests of one stream; what it raises ends in a reset."""
        asker = name_of(stream.muxed_conn.peer_id)
        while self._node is not None:
            with trio.move_on_after(IDLE_S) as idle:
                request = await _read_message(stream, MAX_REQUEST_BYTES)
            if idle.cancelled_caught or request is None:
                break
            answer = self._node.answer(asker, request)
            if answer is not None:
                data = answer.encode()
                with trio.fail_after(ANSWER_S):
                    await stream.write(encode_varint(len(data)) + data)
        await stream.close()


async def _read_message(stream: INetStream, limit_bytes: int) -> Message | None:
    """The next message; nothing at the end of the stream.

    :raises BadFrame: it is malformed, too long, or cut off.
    """
    receive = receiver(stream)
    length = 0
    for count in range(_MAX_LENGTH_BYTES):
        byte = await receive(1)
        if not byte:
            if count:
                raise BadFrame("the stream ended within a length")
            return None
        length |= (byte[0] & 0x7F) << (7 * count)
        if byte[0] < 0x80:
            break
    else:
        raise BadFrame("the length of a message does not end")
    if length > limit_bytes:
        raise BadFrame(f"a message of {length} bytes, the limit is {limit_bytes}")
    return decode_message(await read_exactly(receive, length) if length else b"")
