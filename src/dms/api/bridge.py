"""Between HTTP and actors: envelopes that are already signed go out, their answers come back.

The server holds no authority of its own. It checks what it forwards (a good signature, from this host, not expired)
only to refuse mistakes early; recipients decide by the capabilities inside.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import trio

from dms.actor.envelope import Envelope, decode_envelope
from dms.actor.handle import ROOT_INBOX, Handle, protocol_of
from dms.actor.security import SecurityContext
from dms.api.errors import BadRequest, RequestTimeout
from dms.api.tunnel import Open
from dms.network.protocol import MAX_LARGE_MESSAGE_BYTES, MAX_MESSAGE_BYTES, Network
from dms.node.errors import NoTicket
from dms.node.health import WarningInfo
from dms.subnet.pipes import Pipe
from dms.types.errors import DMSError
from dms.types.ids import PeerID

NS_PER_S = 10**9
MAX_REPLIES = 10_000
MAX_REPLIES_BYTES = 64 << 20
"""Of one broadcast; what comes after that is dropped."""
INBOX_PREFIX = "user"
"""Inboxes that HTTP clients may use; all others belong to actors of this node."""


async def _no_tunnel(_secret: str, _port: int) -> Pipe:
    raise NoTicket


class Bridge:
    """Forwards envelopes over the network for local clients."""

    def __init__(
        self,
        network: Network,
        security: SecurityContext,
        root: Handle,
        warnings: Callable[[], tuple[WarningInfo, ...]] = tuple,
        tunnel: Open = _no_tunnel,
    ) -> None:
        self.root = root
        self.warnings = warnings
        """What is wrong with the node, the worst first."""
        self.tunnel = tunnel
        """Opens connections for tickets."""
        self._network = network
        self._security = security

    def peer_count(self) -> int:
        """How many peers are connected."""
        return len({connection.peer for connection in self._network.peers()})

    async def send(self, body: bytes) -> None:
        """Forward one message.

        :raises DMSError: it cannot be forwarded, or the recipient is not reached.
        """
        await self._forward(self._parse(body))

    async def invoke(self, body: bytes) -> bytes:
        """Forward one message and return the first envelope that its recipient's host sends back.

        Its signature is not verified: that is the client's to do.

        :raises RequestTimeout: none before the message expired.
        """
        message = self._parse(body)
        if not message.opt.cont:
            raise BadRequest("missing option: an invocation needs opt.cont, the behaviour of its reply")
        replies, received = trio.open_memory_channel[bytes](1)

        async def take(peer: PeerID, data: bytes) -> None:
            if peer != message.to.addr.host or not _is_envelope(data):
                return
            with contextlib.suppress(trio.WouldBlock):  # a second reply: the first counts
                replies.send_nowait(data)

        def max_bytes(peer: PeerID) -> int:
            return MAX_LARGE_MESSAGE_BYTES if peer == message.to.addr.host else MAX_MESSAGE_BYTES

        protocol = self._reply_protocol(message)
        self._network.handle(protocol, take, max_bytes=max_bytes)
        try:
            with trio.move_on_after(self._left_s(message)):
                await self._forward(message)
                return await received.receive()
        finally:
            self._network.unhandle(protocol)
        raise RequestTimeout

    async def broadcast(self, body: bytes) -> list[bytes]:
        """Publish, and collect the envelopes that come back until the message expires."""
        message = self._parse(body)
        if not message.is_broadcast:
            raise BadRequest("message is not a broadcast message")
        replies: list[bytes] = []
        room = MAX_REPLIES_BYTES

        async def take(_peer: PeerID, data: bytes) -> None:
            nonlocal room
            if len(replies) < MAX_REPLIES and len(data) <= room and _is_envelope(data):
                room -= len(data)
                replies.append(data)

        protocol = self._reply_protocol(message)
        self._network.handle(protocol, take)
        try:
            await self._network.publish(message.opt.topic, message.encode())
            if message.opt.cont:
                await trio.sleep(self._left_s(message))
        finally:
            self._network.unhandle(protocol)
        return replies

    def _parse(self, body: bytes) -> Envelope:
        try:
            message = decode_envelope(body)
            message.verify(self._security.now_ns())
        except DMSError as exc:
            raise BadRequest(exc.message, hint=exc.hint) from None
        if message.from_.addr.host != self._network.peer_id:
            raise BadRequest("bad sender: from.addr.host is not this node, so no answer could come back here")
        if not message.from_.addr.inbox.startswith(INBOX_PREFIX):
            raise BadRequest(f'bad sender: the inbox of a client must begin with "{INBOX_PREFIX}"')
        return message

    def _reply_protocol(self, message: Envelope) -> str:
        return protocol_of(message.from_.addr.inbox)

    async def _forward(self, message: Envelope) -> None:
        to = message.to.addr
        if not to.host:
            raise BadRequest("the message has no recipient host")
        await self._network.send(
            to.host, protocol_of(to.inbox or ROOT_INBOX), message.encode(), timeout_s=self._left_s(message)
        )

    def _left_s(self, message: Envelope) -> float:
        return math.ceil(max(0, message.opt.exp - self._security.now_ns())) / NS_PER_S


def _is_envelope(data: bytes) -> bool:
    """Whether it may be given to a client as JSON: anybody can send anything to an inbox."""
    try:
        decode_envelope(data)
        data.decode()
    except (DMSError, UnicodeDecodeError):
        return False
    return True
