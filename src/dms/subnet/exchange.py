"""The receiving side: streams that peers open, each for one network, handed to it if they are its members.

One for the whole node, because a protocol has one handler. Whoever names a network that is not here, or of which he is
no member, gets the same reset: the answer does not tell which.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import trio

from dms.network import ByteStream
from dms.network.byte_streams import ByteStreams
from dms.subnet import frames
from dms.subnet.datagrams import Datagrams, Incoming
from dms.subnet.errors import BadPacket, SubnetExists
from dms.subnet.sealing import decode_offer, encode_offer
from dms.subnet.segments import Parcel
from dms.subnet.tally import Tally
from dms.types.ids import PeerID

HELLO_S = 10.0
PONG_S = 5.0
READ_BYTES = 256 * 1024


class Receiver(Protocol):
    """A network on this node."""

    def tally_of(self, peer: PeerID) -> Tally:
        """Where what it sends is counted."""
        ...

    @property
    def mtu(self) -> int:
        """What its devices take."""
        ...

    def is_member(self, peer: PeerID) -> bool:
        """Whether the peer has an address in it."""
        ...

    async def receive(self, sender: PeerID, parcels: list[Parcel]) -> None:
        """Packets of a member; nothing is checked but who sent them."""
        ...


class Exchange:
    """All networks of one node."""

    def __init__(self, streams: ByteStreams, datagrams: Datagrams | None = None) -> None:
        self._streams, self._datagrams = streams, datagrams
        self._receivers: dict[str, Receiver] = {}
        self._serving: dict[tuple[str, PeerID], tuple[object, trio.CancelScope]] = {}
        self.refused: Counter[str] = Counter()
        """Streams that were reset, by reason."""

    def open(self) -> None:
        """Serve from now on."""
        self._streams.handle(frames.OWN, self._own)
        self._streams.handle(frames.ORIGINAL, self._original)

    def close(self) -> None:
        """Serve no more, and end what is served."""
        self._streams.unhandle(frames.OWN)
        self._streams.unhandle(frames.ORIGINAL)
        for _, scope in self._serving.values():
            scope.cancel()

    def add(self, subnet_id: str, receiver: Receiver) -> None:
        """A network is here.

        :raises SubnetExists: it is already.
        """
        if subnet_id in self._receivers:
            raise SubnetExists(f"subnet with ID {subnet_id} already exists")
        self._receivers[subnet_id] = receiver

    def remove(self, subnet_id: str) -> None:
        """It is here no more; its streams end."""
        self._receivers.pop(subnet_id, None)
        for (one, _), (_, scope) in list(self._serving.items()):
            if one == subnet_id:
                scope.cancel()

    def drop(self, subnet_id: str, peer: PeerID) -> None:
        """End the stream of a peer that is no member any more."""
        served = self._serving.get((subnet_id, peer))
        if served is not None:
            served[1].cancel()

    async def _own(self, stream: ByteStream) -> None:
        decoder = frames.FrameDecoder()
        try:
            received = await self._begin(stream, decoder)
            if received is None:
                return
            subnet_id, receiver, rest = received
            with self._served(subnet_id, stream.peer) as scope, scope:
                await stream.write(frames.encode_hello(frames.Hello(subnet_id, receiver.mtu)))
                await self._receive(stream, subnet_id, receiver, decoder, rest)
                return
            await stream.reset()
        except BadPacket:
            await self._refuse(stream, "malformed")
        except trio.TooSlowError:
            await self._refuse(stream, "takes no answers")

    async def _begin(
        self, stream: ByteStream, decoder: frames.FrameDecoder
    ) -> tuple[str, Receiver, list[frames.Frame]] | None:
        """The network of a stream of ours and the frames behind its hello; nothing, and the stream reset, if it may not.

        :raises BadPacket: it is not our protocol.
        """
        rest: list[frames.Frame] = []
        with trio.move_on_after(HELLO_S):
            while not rest:
                data = await stream.read(READ_BYTES)
                if not data:
                    break
                rest = decoder.feed(data)
        if not rest:
            await self._refuse(stream, "no hello")
            return None
        hello = frames.decode_hello(rest[0])
        receiver = self._admitted(hello.subnet, stream.peer)
        if receiver is None:
            await self._refuse(stream, "not a member")
            return None
        return hello.subnet, receiver, rest[1:]

    async def _receive(
        self,
        stream: ByteStream,
        subnet_id: str,
        receiver: Receiver,
        decoder: frames.FrameDecoder,
        got: list[frames.Frame],
    ) -> None:
        """To the end of the stream.

        :raises BadPacket: it is not our protocol.
        """
        incoming: Incoming | None = None
        try:
            while True:
                await self._take(stream, receiver, got)
                offers = [frame for frame in got if frame.kind == frames.OFFER]
                if offers and self._datagrams is not None:
                    if incoming is not None:
                        incoming.close()
                    offer = decode_offer(offers[-1].body)
                    incoming, answer = self._datagrams.accept(subnet_id, stream.peer, offer, receiver)
                    await stream.write(frames.encode(frames.OFFER, encode_offer(answer)))
                data = await stream.read(READ_BYTES)
                if not data:
                    return
                got = decoder.feed(data)
        finally:
            if incoming is not None:
                incoming.close()

    async def _take(self, stream: ByteStream, receiver: Receiver, got: list[frames.Frame]) -> None:
        parcels = [frame.parcel for frame in got if frame.kind == frames.PACKET]
        if parcels:
            await receiver.receive(stream.peer, parcels)
        for frame in got:
            if frame.kind == frames.PING and len(frame.body) == frames.PING_BYTES:
                with trio.fail_after(PONG_S):
                    await stream.write(frames.encode(frames.PONG, frame.body))

    async def _original(self, stream: ByteStream) -> None:
        decoder = frames.OriginalDecoder()
        packets: list[bytes] = []
        try:
            with trio.move_on_after(HELLO_S):
                while decoder.subnet_id is None:
                    data = await stream.read(READ_BYTES)
                    if not data:
                        break
                    packets = decoder.feed(data)
            subnet_id = decoder.subnet_id
            if subnet_id is None:
                await self._refuse(stream, "no hello")
                return
            receiver = self._admitted(subnet_id, stream.peer)
            if receiver is None:
                await self._refuse(stream, "not a member")
                return
            with self._served(subnet_id, stream.peer) as scope, scope:
                while True:
                    if packets:
                        await receiver.receive(stream.peer, [Parcel(packet) for packet in packets])
                    data = await stream.read(READ_BYTES)
                    if not data:
                        return
                    packets = decoder.feed(data)
            await stream.reset()
        except BadPacket:
            await self._refuse(stream, "malformed")

    def _admitted(self, subnet_id: str, peer: PeerID) -> Receiver | None:
        receiver = self._receivers.get(subnet_id)
        return receiver if receiver is not None and receiver.is_member(peer) else None

    async def _refuse(self, stream: ByteStream, reason: str) -> None:
        self.refused[reason] += 1
        await stream.reset()

    def _served(self, subnet_id: str, peer: PeerID) -> _Serving:
        return _Serving(self._serving, (subnet_id, peer))


class _Serving:
    """Holds the place of a peer in a network: its newest stream is served, an older one ends."""

    def __init__(
        self, serving: dict[tuple[str, PeerID], tuple[object, trio.CancelScope]], key: tuple[str, PeerID]
    ) -> None:
        self._serving, self._key, self._scope = serving, key, trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        before = self._serving.get(self._key)
        if before is not None:
            before[1].cancel()
        self._serving[self._key] = (self, self._scope)
        return self._scope

    def __exit__(self, *_: object) -> None:
        if self._serving.get(self._key, (None,))[0] is self:
            del self._serving[self._key]
