"""The service that forwards connections to peers who cannot be reached (circuit relay 2, HOP).

A peer reserves; others connect to it through us; we copy bytes until either side ends, or a limit is reached. Nothing is
forwarded over a connection that is itself relayed.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.envelope import Envelope, make_unsigned
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from dms.network.errors import BadFrame, MessageTooLarge
from dms.network.libp2p.connections.names import name_of
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.messages.streams import receiver
from dms.network.libp2p.reach.connections import is_relayed, remote_ip
from dms.network.libp2p.reach.ledger import Ledger, RelayLimits
from dms.network.libp2p.reach.messages import (
    HOP,
    STOP,
    HopMessage,
    HopType,
    Limit,
    Reservation,
    Status,
    StopMessage,
    StopType,
)
from dms.network.libp2p.reach.protobuf import encode, read_message, write_message
from dms.network.libp2p.streams.opening import reset_shielded
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

ANSWER_S = 15.0
"""How long either side may take for one step of an agreement."""
PIECE_BYTES = 32 * 1024

_VOUCHER_DOMAIN = "libp2p-relay-rsvp"
_VOUCHER_TYPE = b"\x03\x02"


class LimitReachedError(Exception):
    """A relayed connection carried all that it may."""


class RelayService:
    """Answers on :data:`~dms.network.libp2p.reach.messages.HOP`, while it is on.

    :param addresses: ours, as others can reach us directly; told to those who reserve.
    :param clock: seconds since 1970; an expiry is told in them.
    """

    def __init__(
        self,
        host: GuardedHost,
        limits: RelayLimits,
        *,
        addresses: Callable[[], Sequence[Multiaddr]],
        clock: Callable[[], float],
        counters: Counter[str],
    ) -> None:
        self._host = host
        self._limits = limits
        self._addresses = addresses
        self._clock = clock
        self._counters = counters
        self._ledger = Ledger(limits)
        self.is_on = False

    @property
    def circuits(self) -> int:
        """Connections that are forwarded now."""
        return self._ledger.circuits

    def switch(self, *, on: bool) -> bool:
        """Offer the service or no longer; whether that changes anything. Connections that are forwarded go on."""
        if on == self.is_on:
            return False
        self.is_on = on
        if on:
            self._host.set_stream_handler(TProtocol(HOP), self.answer)
        else:
            self._host.remove_stream_handler(TProtocol(HOP))
        return True

    def forget(self, peer: PeerID) -> None:
        """A peer is no longer connected: its reservation ends."""
        self._ledger.forget(peer)

    async def answer(self, stream: INetStream) -> None:
        """Serve one request; what it raises ends in a reset, by the guard around us."""
        with trio.fail_after(ANSWER_S):
            try:
                request = HopMessage.decode(await read_message(receiver(stream)))
            except (BadFrame, MessageTooLarge):
                await self._refuse(stream, Status.MALFORMED_MESSAGE)
                return
        if is_relayed(stream):
            await self._refuse(stream, Status.PERMISSION_DENIED)
        elif request.type == HopType.RESERVE:
            await self._reserve(stream)
        elif request.type == HopType.CONNECT and request.peer is not None:
            await self._connect(stream, request.peer)
        else:
            await self._refuse(stream, Status.UNEXPECTED_MESSAGE)

    # reserving -------------------------------------------------------------------------------------------------------

    async def _reserve(self, stream: INetStream) -> None:
        peer = stream.muxed_conn.peer_id
        status = self._ledger.reserve(name_of(peer), remote_ip(stream) or "?", trio.current_time())
        if status is not Status.OK:
            await self._refuse(stream, status)
            return
        self._counters["relay reservations"] += 1
        expire = int(self._clock()) + self._limits.reservation_s
        us = self._host.get_id()
        promise = Reservation(
            expire=expire,
            addresses=tuple(Multiaddr(f"{address}/p2p/{us}") for address in self._addresses()),
            voucher=self._voucher(peer, expire),
        )
        await self._say(stream, HopMessage(HopType.STATUS, reservation=promise, limit=self._limit, status=Status.OK))
        await stream.close()

    def _voucher(self, peer: ID, expire: int) -> bytes:
        """Our signature under the promise: others may ask for it."""
        payload = encode(((1, self._host.get_id().to_bytes()), (2, peer.to_bytes()), (3, expire)))
        key = self._host.get_private_key()
        signature = key.sign(make_unsigned(_VOUCHER_DOMAIN, _VOUCHER_TYPE, payload))
        return Envelope(key.get_public_key(), _VOUCHER_TYPE, payload, signature).marshal_envelope()

    # connecting ------------------------------------------------------------------------------------------------------

    async def _connect(self, stream: INetStream, raw_target: bytes) -> None:
        source = stream.muxed_conn.peer_id
        target = ID(raw_target)
        status = self._ledger.open(name_of(source), name_of(target), trio.current_time())
        if status is not Status.OK:
            await self._refuse(stream, status)
            return
        onward: INetStream | None = None
        try:
            onward = await self._stop(source, target)
            if onward is None:
                await self._refuse(stream, Status.CONNECTION_FAILED)
                return
            await self._say(stream, HopMessage(HopType.STATUS, limit=self._limit, status=Status.OK))
            self._counters["connections relayed"] += 1
            await self._forward(stream, onward)
        finally:
            self._ledger.close(name_of(source), name_of(target))
            if onward is not None:
                await reset_shielded(onward)
            await reset_shielded(stream)

    async def _stop(self, source: ID, target: ID) -> INetStream | None:
        """A stream to the target, which agreed to the connection."""
        stream: INetStream | None = None
        try:
            with trio.fail_after(ANSWER_S):
                stream = await self._host.new_stream(target, [TProtocol(STOP)])
                if is_relayed(stream):
                    raise BadFrame("the target itself is connected through a relay only")
                request = StopMessage(StopType.CONNECT, peer=source.to_bytes(), limit=self._limit)
                await write_message(stream, request.encode())
                answer = StopMessage.decode(await read_message(receiver(stream)))
            if answer.type == StopType.STATUS and answer.status == Status.OK:
                return stream
            log.debug("%s refuses a relayed connection: %s", target, answer.status)
        except (BaseLibp2pError, BadFrame, MessageTooLarge, OSError, trio.TooSlowError) as error:
            log.debug("no relayed connection to %s: %r", target, error)
        if stream is not None:
            await reset_shielded(stream)
        return None

    async def _forward(self, one: INetStream, other: INetStream) -> None:
        """Copy both ways until both sides ended, or a limit is reached."""
        with trio.move_on_after(self._limits.connection_s or float("inf")) as scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, one, other)
                    nursery.start_soon(self._copy, other, one)
            except* LimitReachedError:
                self._counters["relayed connections ended: bytes"] += 1
            except* (BaseLibp2pError, OSError) as errors:
                log.debug("a relayed connection ended: %r", errors.exceptions)
        if scope.cancelled_caught:
            self._counters["relayed connections ended: time"] += 1

    async def _copy(self, source: INetStream, sink: INetStream) -> None:
        receive = receiver(source)
        left = self._limits.connection_bytes or float("inf")
        while piece := await receive(PIECE_BYTES):
            self._counters["bytes relayed"] += len(piece)
            left -= len(piece)
            if left < 0:
                raise LimitReachedError
            await sink.write(piece)
        await sink.close()

    # saying ----------------------------------------------------------------------------------------------------------

    @property
    def _limit(self) -> Limit | None:
        limit = Limit(self._limits.connection_s, self._limits.connection_bytes)
        return None if limit == Limit() else limit

    async def _refuse(self, stream: INetStream, status: Status) -> None:
        self._counters[f"relay refused: {status.name.lower().replace('_', ' ')}"] += 1
        await self._say(stream, HopMessage(HopType.STATUS, status=status))
        await stream.close()

    async def _say(self, stream: INetStream, message: HopMessage) -> None:
        with trio.fail_after(ANSWER_S):
            await write_message(stream, message.encode())
