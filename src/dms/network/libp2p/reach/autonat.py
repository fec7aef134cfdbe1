"""AutoNAT 1: ask others to dial us, and dial others who ask (``/libp2p/autonat/1.0.0``), as go and js do.

The service dials nothing but the IP address that the asker has on the wire, so that nobody can make us knock at other
doors; it uses a socket of its own, no connection that exists, and gives it up after the handshake.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.messages.streams import receiver
from dms.network.libp2p.reach.connections import is_relayed, remote_ip
from dms.network.libp2p.reach.messages import AUTONAT, DialRequest, DialResponse, DialStatus
from dms.network.libp2p.reach.protobuf import read_message, write_message
from dms.network.libp2p.reach.verdict import Answer
from dms.network.libp2p.streams.opening import reset_shielded
from dms.network.reachability import IP, is_public_ip
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

READ_S = 10.0
DIAL_S = 12.0
MAX_DIALS = 4
"""Addresses of one request that are tried."""
WINDOW_S = 60.0
PER_PEER = 3
"""Requests of one peer that are served in a window,"""
IN_ALL = 30
"""and of all."""
ASK_S = READ_S + MAX_DIALS * DIAL_S


class Allowance:
    """How many requests are served in a window of time; pure."""

    def __init__(self, *, per_peer: int = PER_PEER, in_all: int = IN_ALL, window_s: float = WINDOW_S) -> None:
        self._per_peer = per_peer
        self._in_all = in_all
        self._window_s = window_s
        self._begun_s = float("-inf")
        self._counts: Counter[PeerID] = Counter()

    def take(self, peer: PeerID, now_s: float) -> bool:
        """Whether one more request of the peer is served."""
        if now_s - self._begun_s >= self._window_s:
            self._begun_s = now_s
            self._counts.clear()
        if self._counts[peer] >= self._per_peer or self._counts.total() >= self._in_all:
            return False
        self._counts[peer] += 1
        return True


@dataclass(frozen=True, slots=True)
class DialPolicy:
    """Whom we dial because others ask: public addresses only, but on networks of one's own and in tests."""

    is_public: Callable[[IP], bool] = is_public_ip

    def choose(self, addresses: Sequence[Multiaddr], asker_ip: str | None) -> list[Multiaddr]:
        """Those of the addresses that we dial for an asker with this address on the wire."""
        chosen = []
        for address in addresses:
            ip = ip_of(address)
            if ip is not None and is_plain_tcp(address) and str(ip) == asker_ip and self.is_public(ip):
                chosen.append(_bare(address))
        return list(dict.fromkeys(chosen))[:MAX_DIALS]


class DialBack:
    """Dials others because they ask."""

    def __init__(self, host: GuardedHost, policy: DialPolicy, counters: Counter[str]) -> None:
        self._host = host
        self._policy = policy
        self._counters = counters
        self._allowance = Allowance()
        self._busy: set[PeerID] = set()

    def open(self) -> None:
        """Answer from now on."""
        self._host.set_stream_handler(TProtocol(AUTONAT), self.answer)

    async def answer(self, stream: INetStream) -> None:
        """Serve one request; what it raises ends in a reset, by the guard around us."""
        try:
            with trio.fail_after(READ_S):
                request = DialRequest.decode(await read_message(receiver(stream)))
        except (BadFrame, MessageTooLarge):
            await self._say(stream, DialResponse(DialStatus.BAD_REQUEST, "not a request to dial"))
            return
        await self._say(stream, await self._serve(stream, request))

    async def _serve(self, stream: INetStream, request: DialRequest) -> DialResponse:
        peer = stream.muxed_conn.peer_id
        name = name_of(peer)
        if request.peer != peer.to_bytes():
            return DialResponse(DialStatus.BAD_REQUEST, "you may ask for yourself only")
        addresses = self._policy.choose(request.addresses, remote_ip(stream))
        if not addresses:
            return DialResponse(DialStatus.DIAL_REFUSED, "no public TCP address of the IP that you come from")
        if name in self._busy or not self._allowance.take(name, trio.current_time()):
            self._counters["dials back refused"] += 1
            return DialResponse(DialStatus.DIAL_REFUSED, "too many requests")
        self._busy.add(name)
        try:
            return await self._dial(peer, addresses)
        finally:
            self._busy.discard(name)

    async def _dial(self, peer: ID, addresses: Sequence[Multiaddr]) -> DialResponse:
        problem = ""
        for address in addresses:
            self._counters["dials back"] += 1
            try:
                with trio.fail_after(DIAL_S):
                    await self._host.swarm.knock(peer, address)
            except (BaseLibp2pError, OSError, trio.TooSlowError) as error:
                slow = isinstance(error, trio.TooSlowError)
                problem = f"no answer within {DIAL_S:g} s" if slow else innermost(error)
                log.debug("dialling %s back at %s: %s", peer, address, problem)
                continue
            return DialResponse(DialStatus.OK, address=address)
        return DialResponse(DialStatus.DIAL_ERROR, problem[:200])

    async def _say(self, stream: INetStream, response: DialResponse) -> None:
        with trio.fail_after(READ_S):
            await write_message(stream, response.encode())
            await stream.close()


async def ask_for_dial(host: GuardedHost, peer: ID, addresses: Sequence[Multiaddr]) -> list[Answer]:
    """Ask one connected peer to dial us at these addresses; nothing when it would not, or did not answer.

    Addresses of an IP under which the peer does not see us are not tried; they should not be among these.
    """
    stream: INetStream | None = None
    try:
        with trio.fail_after(ASK_S):
            stream = await host.new_stream(peer, [TProtocol(AUTONAT)])
            if is_relayed(stream):
                return []
            await write_message(stream, DialRequest(host.get_id().to_bytes(), tuple(addresses)).encode())
            response = DialResponse.decode(await read_message(receiver(stream)))
    except (BaseLibp2pError, BadFrame, MessageTooLarge, OSError, trio.TooSlowError) as error:
        log.debug("asking %s to dial us: %r", peer, error)
        return []
    finally:
        if stream is not None:
            await reset_shielded(stream)
    name, now_s = name_of(peer), trio.current_time()
    if response.status == DialStatus.OK:
        told = _bare(response.address) if response.address is not None else addresses[0]
        return [Answer(name, str(told if told in addresses else addresses[0]), True, now_s)]
    if response.status == DialStatus.DIAL_ERROR:
        why = response.text or "could not connect"
        return [Answer(name, str(address), False, now_s, why) for address in addresses]
    log.debug("%s does not dial us: %s %s", peer, response.status, response.text)
    return []


def _bare(address: Multiaddr) -> Multiaddr:
    """Without the peer at its end."""
    return Multiaddr(str(address).partition("/p2p/")[0])
