"""Meeting on the local network: asks and answers by multicast, and dials who is there.

Where multicast is not to be had (containers, some clouds) this waits and tries again; it never harms the node. A node
that listens on loopback only has nothing to announce there, and neither asks nor answers.
"""

from __future__ import annotations

import errno
import logging
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address

import trio
from multiaddr import Multiaddr

from dms.network.addresses import ip_of, is_loopback, is_plain_tcp
from dms.network.errors import BadFrame, NetworkError
from dms.network.mdns import (
    GROUP,
    MAX_PACKET_BYTES,
    PORT,
    decode,
    encode_answer,
    encode_question,
    peers_in,
    random_name,
)
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

ASK_FIRST_S = 1.0
ASK_MAX_S = 120.0
"""Questions come rarer and rarer up to this."""
ANSWER_EVERY_S = 1.0
"""More questions than this are answered together: everybody hears an answer."""
AGAIN_S = 300.0
"""How long until sockets that could not be had are tried again."""
DIAL_S = 10.0
DIALS_AT_ONCE = 8
REDIAL_S = 60.0
"""How soon somebody who did not answer is dialled again."""
MAX_REMEMBERED = 256

Dial = Callable[[PeerID, Sequence[Multiaddr]], Awaitable[None]]


class Encounters:
    """Whom to dial of those who said that they are there. Pure."""

    def __init__(self) -> None:
        self._dialled_s: dict[PeerID, float] = {}

    def is_new(self, peer: PeerID, now_s: float) -> bool:
        """Whether to dial now: not if that was done a moment ago, and no more than a bounded number at a time."""
        at_s = self._dialled_s.get(peer)
        if at_s is not None and now_s - at_s < REDIAL_S:
            return False
        if len(self._dialled_s) >= MAX_REMEMBERED:
            self._dialled_s = {one: at_s for one, at_s in self._dialled_s.items() if now_s - at_s < REDIAL_S}
        if len(self._dialled_s) >= MAX_REMEMBERED:
            return False
        self._dialled_s[peer] = now_s
        return True


class LocalNetwork:
    """Takes part in the local network's discovery.

    :param service: its name there; another one for every network of one's own.
    :param own_addresses: where we listen.
    """

    def __init__(
        self,
        service: str,
        own: PeerID,
        *,
        own_addresses: Callable[[], Sequence[Multiaddr]],
        is_connected: Callable[[PeerID], bool],
        dial: Dial,
        counters: Counter[str],
        rng: random.Random,
    ) -> None:
        self._service = service
        self._own = own
        self._own_addresses = own_addresses
        self._is_connected = is_connected
        self._dial = dial
        self._counters = counters
        self._rng = rng
        self._name = random_name()
        self._encounters = Encounters()
        self._dials = trio.CapacityLimiter(DIALS_AT_ONCE)
        self._asked = trio.Event()
        self._joined: set[IPv4Address] = set()

    async def run(self) -> None:
        """Take part until cancelled."""
        while True:
            try:
                with _open_socket() as sock:
                    self._joined.clear()
                    await self._serve(sock)
            except* OSError as errors:
                log.info("no discovery on the local network: %s; again in %.0f s", errors.exceptions[0], AGAIN_S)
            await trio.sleep(AGAIN_S)

    async def _serve(self, sock: trio.socket.SocketType) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, sock, nursery)
            nursery.start_soon(self._answer, sock)
            await self._ask(sock)

    async def _ask(self, sock: trio.socket.SocketType) -> None:
        wait_s = ASK_FIRST_S
        await trio.sleep(self._rng.uniform(0, ASK_FIRST_S))
        while True:
            await self._send(sock, encode_question(self._service))
            self._asked.set()  # a question of our own is an occasion to be heard, too
            await trio.sleep(wait_s * self._rng.uniform(0.8, 1.2))
            wait_s = min(2 * wait_s, ASK_MAX_S)

    async def _answer(self, sock: trio.socket.SocketType) -> None:
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            addresses = [one for one in self._own_addresses() if self._is_here(one)]
            await self._send(sock, encode_answer(self._service, self._name, self._own, addresses))
            await trio.sleep(ANSWER_EVERY_S)

    async def _send(self, sock: trio.socket.SocketType, packet: bytes) -> None:
        for ip in self._interfaces(sock):
            try:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, ip.packed)
                await sock.sendto(packet, (GROUP, PORT))
            except OSError as error:  # the interface went, the network is down: others may do
                log.debug("nothing can be sent to the local network at %s: %s", ip, error)

    async def _hear(self, sock: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            data, _ = await sock.recvfrom(MAX_PACKET_BYTES)
            try:
                packet = decode(data)
            except BadFrame as error:
                self._counters["mdns packets malformed"] += 1
                log.debug("malformed packet on the local network: %s", error)
                continue
            if packet.asks_for(self._service):
                self._asked.set()
            for peer, addresses in peers_in(packet, self._service, own=self._own).items():
                if not self._is_connected(peer) and self._encounters.is_new(peer, trio.current_time()):
                    nursery.start_soon(self._meet, peer, addresses)

    async def _meet(self, peer: PeerID, addresses: Sequence[Multiaddr]) -> None:
        async with self._dials:
            try:
                with trio.fail_after(DIAL_S):
                    await self._dial(peer, addresses)
                self._counters["peers met on the local network"] += 1
            except (NetworkError, trio.TooSlowError) as error:
                log.debug("dialling %s, met on the local network: %r", peer, error)

    def _is_here(self, address: Multiaddr) -> bool:
        """Whether it is an address of this local network: neither a relay's nor one that a router has for us."""
        ip = ip_of(address)
        return (
            is_plain_tcp(address)
            and ip is not None
            and not is_loopback(address)
            and (ip in self._joined or (ip.version == 6 and not ip.is_global))
        )

    def _interfaces(self, sock: trio.socket.SocketType) -> list[IPv4Address]:
        """Where we listen and multicast works; new ones are joined."""
        here = dict.fromkeys(ip_of(one) for one in self._own_addresses() if is_plain_tcp(one))
        usable = [ip for ip in here if isinstance(ip, IPv4Address) and not ip.is_loopback and not ip.is_unspecified]
        self._joined.intersection_update(usable)  # one that went and comes back is joined anew
        for ip in usable:
            if ip in self._joined:
                continue
            try:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + ip.packed)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # another address of the same interface
                    log.debug("no multicast at %s: %s", ip, error)
                    continue
            self._joined.add(ip)
        return [ip for ip in usable if ip in self._joined]


def _open_socket() -> trio.socket.SocketType:
    """The socket that all programs of this machine share for this."""
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    try:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        plain.bind(("", PORT))
        return trio.socket.from_stdlib_socket(plain)
    except OSError:
        plain.close()
        raise
