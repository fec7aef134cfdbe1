"""AutoNAT 2: others dial *one* address of ours and prove it with a number that we gave them.

``/libp2p/autonat/2/dial-request`` asks, ``/libp2p/autonat/2/dial-back`` brings the number. It tells of single addresses, and
nobody can claim to have reached us who did not. An address with another IP than the asker's is dialled only after the asker
has sent more than the dial costs: so nobody is made to multiply traffic.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from dms.network.addresses import ip_of, is_plain_tcp
from dms.network.errors import BadFrame, MessageTooLarge
from dms.network.libp2p.connections.names import name_of
from dms.network.libp2p.connections.swarm import innermost
from dms.network.libp2p.connections.visiting import visiting
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.messages.streams import receiver
from dms.network.libp2p.reach.autonat import ASK_S, DIAL_S, READ_S, Allowance
from dms.network.libp2p.reach.connections import is_relayed, remote_ip
from dms.network.libp2p.reach.messages import decode_addresses
from dms.network.libp2p.reach.protobuf import Fields, Fixed64, Value, encode, read_message, write_message
from dms.network.libp2p.reach.verdict import Answer
from dms.network.libp2p.streams.opening import reset_shielded
from dms.network.reachability import IP, is_public_ip
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

REQUEST = "/libp2p/autonat/2/dial-request"
BACK = "/libp2p/autonat/2/dial-back"
MIN_TOLL_BYTES, MAX_TOLL_BYTES = 30_000, 100_000
PIECE_BYTES = 4096
MAX_REQUEST_BYTES = 8192
MAX_ADDRESSES = 16
MAX_NONCES = 64


class ResponseStatus(IntEnum):
    """Whether a request was served."""

    INTERNAL_ERROR = 0
    REQUEST_REJECTED = 100
    DIAL_REFUSED = 101
    OK = 200


class DialOutcome(IntEnum):
    """What came of a dial."""

    UNUSED = 0
    DIAL_ERROR = 100
    DIAL_BACK_ERROR = 101
    OK = 200


@dataclass(frozen=True, slots=True)
class Request:
    """Dial the first of these that you are willing to, and say this number there."""

    addresses: tuple[Multiaddr, ...]
    nonce: int

    def encode(self) -> bytes:
        """The bytes of it."""
        addresses: list[tuple[int, Value]] = [(1, address.to_bytes()) for address in self.addresses]
        return encode(((1, encode((*addresses, (2, Fixed64(self.nonce))))),))

    @classmethod
    def decode(cls, fields: Fields) -> Request:
        """Read it.

        :raises BadFrame: it is none.
        """
        inner = fields.message(1)
        if inner is None:
            raise BadFrame("not a request to dial")
        return cls(decode_addresses(inner.all_data(1))[:MAX_ADDRESSES], inner.number(2) or 0)


@dataclass(frozen=True, slots=True)
class Response:
    """What came of a request; ``index`` is that of the address."""

    status: int
    index: int = 0
    outcome: int = 0

    def encode(self) -> bytes:
        """The bytes of it."""
        return encode(((2, encode(((1, int(self.status)), (2, self.index), (3, int(self.outcome))))),))


@dataclass(frozen=True, slots=True)
class Toll:
    """So many bytes first, before the address with this index is dialled."""

    index: int
    size_bytes: int

    def encode(self) -> bytes:
        """The bytes of it."""
        return encode(((3, encode(((1, self.index), (2, self.size_bytes)))),))


def decode_answer(fields: Fields) -> Response | Toll:
    """What a server says.

    :raises BadFrame: nothing of the kind.
    """
    response, toll = fields.message(2), fields.message(3)
    if response is not None:
        return Response(response.number(1) or 0, response.number(2) or 0, response.number(3) or 0)
    if toll is not None:
        return Toll(toll.number(1) or 0, toll.number(2) or 0)
    raise BadFrame("neither an answer nor a toll")


class DialBack2:
    """Dials others because they ask, one address at a time."""

    def __init__(
        self,
        host: GuardedHost,
        counters: Counter[str],
        rng: random.Random,
        *,
        is_public: Callable[[IP], bool] = is_public_ip,
    ) -> None:
        self._host = host
        self._counters = counters
        self._rng = rng
        self._is_public = is_public
        self._allowance = Allowance()
        self._busy: set[PeerID] = set()

    def open(self) -> None:
        """Answer from now on."""
        self._host.set_stream_handler(TProtocol(REQUEST), self.answer)

    async def answer(self, stream: INetStream) -> None:
        """Serve one request; what it raises ends in a reset, by the guard around us."""
        with trio.fail_after(READ_S):
            request = Request.decode(await read_message(receiver(stream), limit_bytes=MAX_REQUEST_BYTES))
        response = await self._serve(stream, request)
        with trio.fail_after(READ_S):
            await write_message(stream, response.encode())
            await stream.close()

    async def _serve(self, stream: INetStream, request: Request) -> Response:
        peer = stream.muxed_conn.peer_id
        chosen = next((n for n, one in enumerate(request.addresses) if self._dials(one)), None)
        if chosen is None or is_relayed(stream):
            return Response(ResponseStatus.DIAL_REFUSED)
        name = name_of(peer)
        if name in self._busy or not self._allowance.take(name, trio.current_time()):
            self._counters["dials back refused"] += 1
            return Response(ResponseStatus.REQUEST_REJECTED)
        self._busy.add(name)
        try:
            address = request.addresses[chosen]
            if str(ip_of(address)) != remote_ip(stream):
                await self._take_toll(stream, chosen)
            self._counters["dials back"] += 1
            return Response(ResponseStatus.OK, chosen, await self._dial(peer, address, request.nonce))
        finally:
            self._busy.discard(name)

    async def _take_toll(self, stream: INetStream, index: int) -> None:
        toll = self._rng.randint(MIN_TOLL_BYTES, MAX_TOLL_BYTES)
        with trio.fail_after(READ_S):
            await write_message(stream, Toll(index, toll).encode())
            while toll > 0:
                piece = (await read_message(receiver(stream), limit_bytes=MAX_REQUEST_BYTES)).message(4)
                paid = piece.data(1) if piece is not None else None
                if not paid:
                    raise BadFrame("a toll is paid in bytes")
                toll -= len(paid)
                self._counters["toll bytes taken"] += len(paid)

    async def _dial(self, peer: ID, address: Multiaddr, nonce: int) -> DialOutcome:
        outcome = DialOutcome.DIAL_ERROR
        try:
            with trio.fail_after(DIAL_S):
                async with visiting(self._host.swarm, peer, address) as open_stream:
                    outcome = DialOutcome.DIAL_BACK_ERROR
                    stream = await open_stream(BACK)
                    await write_message(stream, encode(((1, Fixed64(nonce)),)))
                    await read_message(receiver(stream))
                    outcome = DialOutcome.OK
        except (BaseLibp2pError, BadFrame, MessageTooLarge, OSError, trio.TooSlowError) as error:
            log.debug("dialling %s back at %s: %s", peer, address, innermost(error))
        return outcome

    def _dials(self, address: Multiaddr) -> bool:
        ip = ip_of(address)
        return ip is not None and is_plain_tcp(address) and self._is_public(ip)


class Asker:
    """Asks others to dial us, and hears the numbers that they bring."""

    def __init__(self, host: GuardedHost, rng: random.Random) -> None:
        self._host = host
        self._rng = rng
        self._waiting: dict[int, trio.Event] = {}

    def open(self) -> None:
        """Hear from now on."""
        self._host.set_stream_handler(TProtocol(BACK), self.hear)

    async def hear(self, stream: INetStream) -> None:
        """Somebody dialled us; what this raises ends in a reset, by the guard around us."""
        with trio.fail_after(READ_S):
            nonce = (await read_message(receiver(stream))).number(1)
            came = self._waiting.get(nonce or 0)
            if came is None:
                raise BadFrame("a number that nobody was given")
            came.set()
            await write_message(stream, encode(((1, 0),)))
            await stream.close()

    async def ask(self, peer: ID, address: Multiaddr) -> Answer | None:
        """Ask a connected peer to dial one address; nothing when it would not, did not answer, or only says that it did."""
        nonce = self._rng.getrandbits(63) | 1
        came = self._waiting[nonce] = trio.Event()
        stream: INetStream | None = None
        try:
            with trio.fail_after(ASK_S):
                stream = await self._host.new_stream(peer, [TProtocol(REQUEST)])
                if is_relayed(stream):
                    return None
                await write_message(stream, Request((address,), nonce).encode())
                answer = decode_answer(await read_message(receiver(stream)))
                if isinstance(answer, Toll):
                    await self._pay(stream, answer)
                    answer = decode_answer(await read_message(receiver(stream)))
        except (BaseLibp2pError, BadFrame, MessageTooLarge, OSError, trio.TooSlowError) as error:
            log.debug("asking %s to dial us at %s: %r", peer, address, error)
            return None
        finally:
            del self._waiting[nonce]
            if stream is not None:
                await reset_shielded(stream)
        if isinstance(answer, Toll) or answer.status != ResponseStatus.OK or answer.index != 0:
            return None
        return self._judge(name_of(peer), address, answer.outcome, came=came.is_set())

    async def _pay(self, stream: INetStream, toll: Toll) -> None:
        if toll.index != 0 or toll.size_bytes > MAX_TOLL_BYTES:
            raise BadFrame(f"a toll of {toll.size_bytes} bytes is too much")
        piece = encode(((4, encode(((1, bytes(PIECE_BYTES)),))),))
        for _ in range(-(-toll.size_bytes // PIECE_BYTES)):
            await write_message(stream, piece)

    @staticmethod
    def _judge(peer: PeerID, address: Multiaddr, outcome: int, *, came: bool) -> Answer | None:
        now_s = trio.current_time()
        if came:  # whatever is said: somebody was here, with our number
            return Answer(peer, str(address), True, now_s)
        if outcome == DialOutcome.DIAL_ERROR:
            return Answer(peer, str(address), False, now_s, "could not connect")
        return None
