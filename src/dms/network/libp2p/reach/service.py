"""Everything about reachability together: finds out how others reach us, and does what helps."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

import trio
from libp2p.abc import INetConn
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from multiaddr import Multiaddr

from dms.network.addresses import host_and_port, ip_of, is_loopback, is_plain_tcp, parse_address
from dms.network.errors import InvalidAddress, PeerUnreachable
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.connections.names import id_of, name_of
from dms.network.libp2p.connections.sharing import Source
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.reach import autonat2
from dms.network.libp2p.reach.autonat import PER_PEER, DialBack, DialPolicy, ask_for_dial
from dms.network.libp2p.reach.autonat2 import Asker, DialBack2
from dms.network.libp2p.reach.circuits import Circuits
from dms.network.libp2p.reach.connections import is_relayed, local_port
from dms.network.libp2p.reach.mapping.keeper import Keeper, port_to_map
from dms.network.libp2p.reach.messages import AUTONAT, HOP
from dms.network.libp2p.reach.observed import ObservedAddresses
from dms.network.libp2p.reach.options import ReachOptions, When
from dms.network.libp2p.reach.punching import HolePunching
from dms.network.libp2p.reach.relay import RelayService
from dms.network.libp2p.reach.relays import Relays
from dms.network.libp2p.reach.verdict import Verdict, Verdicts
from dms.network.libp2p.reach.wording import why
from dms.network.protocol import PeerChange, PeerEvent
from dms.network.reachability import Reach, ReachabilityReport
from dms.types.ids import PeerID

log = logging.getLogger(__name__)

AGAIN_S = 90.0
"""Others are asked again after this, while little is known,"""
KNOWN_S = 900.0
"""and after this, once three agree."""
ENOUGH = 3
ASK_AT_ONCE = 3
PROBE_AT_ONCE = 8
SETTLE_S = 0.2
"""Changes within this are told to others together."""
FRAMING_BYTES = 8 * 1024
"""What opening a stream, encryption and signs of life add to a message, generously."""
_MAX_CANDIDATES = 8


class ReachService:
    """Implements :class:`dms.network.reachability.Reachability`; outlives the runs of its network."""

    def __init__(self, options: ReachOptions, counters: Counter[str], rng: random.Random) -> None:
        self._options = options
        self._counters = counters
        self._rng = rng
        self._announce = tuple(_announced_address(text) for text in options.announce)
        self._observed = ObservedAddresses(is_public=options.is_public)
        self._verdicts = Verdicts()
        self._status = Verdict()
        self._live: _Live | None = None

    # what is told ----------------------------------------------------------------------------------------------------

    def public_ip(self) -> str | None:
        """Our address as others see it, once enough of them agree; or one that we listen on."""
        if self._observed.accepted is not None:
            return self._observed.accepted
        ips = (ip_of(address) for address in (*self._announce, *self._listening()))
        return next((str(ip) for ip in ips if ip is not None and self._options.is_public(ip)), None)

    def report(self) -> ReachabilityReport:
        """What is known now."""
        if self._live is None:
            return ReachabilityReport(Reach.UNKNOWN, why="the network does not run")
        now_s = trio.current_time()
        verdict = self._verdicts.verdict(now_s)
        relays = self._live.relays.report()
        return ReachabilityReport(
            status=verdict.status,
            confidence=verdict.confidence,
            announced=tuple(map(str, self._live.host.get_addrs())),
            observed=self._observed.all(),
            checks=self._verdicts.checks(now_s),
            mapping=self._live.keeper.state if self._live.keeper is not None else None,
            relays=relays,
            has_relay_service=self._live.service.is_on,
            circuits=self._live.service.circuits,
            punched=self._counters["holes punched"],
            why=why(
                verdict,
                candidates=bool(self._candidates()),
                servers=len(self._servers()),
                relays=len(relays),
                only_local=all(map(is_loopback, self._listening())),
            ),
        )

    async def probe(self, *, timeout_s: float = 20.0) -> ReachabilityReport:
        """Ask connected peers to dial us back, now."""
        if self._live is not None:
            with trio.move_on_after(timeout_s):
                await self._ask(self._live, PROBE_AT_ONCE)
        return self.report()

    # life ------------------------------------------------------------------------------------------------------------

    def open(self, host: GuardedHost) -> None:
        """Answer others from now on; :meth:`run` does the rest."""
        live = _Live(
            host,
            RelayService(
                host,
                self._options.relay_limits,
                addresses=self._direct,
                clock=time.time,
                counters=self._counters,
            ),
            Relays(host, candidates=lambda: _hops(host), clock=time.time),
            Circuits(host, self._counters),
            HolePunching(
                host,
                self._counters,
                addresses=self._candidates,
                source_of=self._port_for,
                is_public=self._options.is_public,
            ),
            Asker(host, self._rng),
        )
        self._live = live
        host.swarm.source_of = self._source_of
        host._observed_addr_manager = _Reports(self._take_report)  # type: ignore[assignment]  # noqa: SLF001
        host.announced = self._announced
        DialBack(host, DialPolicy(self._options.is_public), self._counters).open()
        DialBack2(host, self._counters, self._rng, is_public=self._options.is_public).open()
        live.asker.open()
        live.circuits.is_reserved = live.relays.is_held
        host.swarm.shedding.is_relay = live.relays.is_held
        live.circuits.open()
        if self._options.hole_punching:
            live.punching.open()
        live.service.switch(on=self._options.relay_service is When.ON)

    def close(self) -> None:
        """Answer no more."""
        self._live = None
        self._verdicts.clear()
        self._status = Verdict()

    async def run(self) -> None:
        """Ask, reserve and announce until cancelled."""
        if self._live is None:
            return
        live = self._live
        async with trio.open_nursery() as nursery:
            if self._options.hole_punching:
                live.circuits.on_accepted = lambda peer: nursery.start_soon(live.punching.lead, peer)
            if self._options.port_mapping and not live.host.swarm.gate.server_mode:
                port = port_to_map([(_ip4(one), host_and_port(one)[1]) for one in self._listening()])
                if port is not None:
                    live.keeper = Keeper(port, changed=self._changed, is_public=self._options.is_public)
                    nursery.start_soon(live.keeper.run)
            nursery.start_soon(self._ask_around, self._live)
            nursery.start_soon(_tell_around, self._live, self._counters)
            if self._options.relay_client is not When.OFF:
                nursery.start_soon(self._keep_relays, self._live)

    def heard(self, event: PeerEvent) -> None:
        """Somebody came, was identified, or left."""
        if self._live is None:
            return
        peer = id_of(event.peer)
        if event.change is PeerChange.DISCONNECTED:
            self._live.service.forget(event.peer)
            if self._live.relays.lose(peer):
                self._changed()
        elif event.change is PeerChange.IDENTIFIED:
            if not self._verdicts.verdict(trio.current_time()).confidence:
                self._live.met.set()  # somebody who may know
            if peer in _hops(self._live.host):
                self._live.wake()

    def moved(self) -> None:
        """This machine has other addresses than before: what others said about the old ones holds no longer."""
        self._verdicts.clear()
        if self._live is not None:
            self._live.met.set()
            self._live.wake()

    def is_used_up(self, peer: PeerID, size_bytes: int) -> bool:
        """Whether our only connection to a peer goes through a relay that would end it under such a message.

        :raises PeerUnreachable: no connection through that relay could carry it.
        """
        if self._live is None:
            return False
        target = id_of(peer)
        stream = self._live.circuits.stream_to(target)
        if stream is None or any(not is_relayed(conn) for conn in self._live.host.swarm.get_connections(target)):
            return False
        needed_bytes = size_bytes + size_bytes // 64 + FRAMING_BYTES
        if stream.limit_bytes is not None and needed_bytes > stream.limit_bytes:
            raise PeerUnreachable(
                f"peer {peer} is connected through a relay that lets only {stream.limit_bytes} bytes pass a connection",
                hint="let one of both be reachable directly, or raise p2p.relay_limit_bytes of the relay",
            )
        return stream.left_bytes is not None and needed_bytes > stream.left_bytes

    # addresses -------------------------------------------------------------------------------------------------------

    def _listening(self) -> list[Multiaddr]:
        return [] if self._live is None else self._live.host.get_transport_addrs()

    def _direct(self) -> list[Multiaddr]:
        """Ours, without relays: what the owner says, where others reached us, where we listen."""
        reached = [parse_address(text) for text in self._verdicts.reached(trio.current_time())]
        return list(dict.fromkeys([*self._announce, *self._mapped(), *reached, *self._listening()]))

    def _mapped(self) -> list[Multiaddr]:
        """Ours at the router, where it forwards."""
        keeper = None if self._live is None else self._live.keeper
        address = None if keeper is None else keeper.address()
        return [] if address is None else [address]

    def _port_for(self, target: Multiaddr) -> Source | None:
        """The port of ours from which an address may be dialled: one that listens in the same family, not on loopback."""
        if self._live is None:
            return None
        ip = ip_of(target)
        for port in self._live.host.swarm.listeners.values():
            bound = getattr(port, "bound", None)
            own = None if bound is None else ip_of(bound)
            if own is not None and ip is not None and own.version == ip.version and own.is_loopback == ip.is_loopback:
                return str(own), host_and_port(bound)[1]
        return None

    def _source_of(self, target: Multiaddr) -> Source | None:
        """Public addresses are dialled from the listening port, so that peers tell where the router has put it.

        A node that everybody can dial does not need that, and has more ports to dial from without it.
        """
        if self._status.status is Reach.PUBLIC or not is_plain_tcp(target) or not self._is_public(target):
            return None
        return self._port_for(target)

    def _announced(self, listening: list[Multiaddr]) -> list[Multiaddr]:
        relayed = [] if self._live is None else self._live.relays.addresses()
        direct = self._direct()
        return [*dict.fromkeys([*direct, *listening]), *relayed]

    def _candidates(self) -> list[Multiaddr]:
        """Public addresses at which we might be reachable."""
        guesses = [*self._announce, *self._mapped()]
        endpoint = self._observed.endpoint()
        if endpoint is not None:
            guesses.append(endpoint)
        for observed in self._observed.all()[:2]:
            family = 6 if ":" in observed.ip else 4
            guesses += [
                Multiaddr(f"/ip{family}/{observed.ip}/tcp/{host_and_port(address)[1]}")
                for address in self._listening()
                if not is_loopback(address)
            ]
        guesses += self._listening()
        public = (one for one in guesses if is_plain_tcp(one) and self._is_public(one))
        return list(dict.fromkeys(public))[:_MAX_CANDIDATES]

    def _is_public(self, address: Multiaddr) -> bool:
        ip = ip_of(address)
        return ip is not None and self._options.is_public(ip)

    def _take_report(self, conn: INetConn, observed: Multiaddr) -> None:
        if self._live is None:
            return
        peer = conn.muxed_conn.peer_id
        if self._observed.report(
            name_of(peer),
            observed,
            listens_at=_addresses_of(self._live.host, peer),
            is_relayed=is_relayed(conn),
            is_listening_port=local_port(conn) in {host_and_port(address)[1] for address in self._listening()},
        ):
            log.info("others see this node at %s", self._observed.accepted)

    # asking ----------------------------------------------------------------------------------------------------------

    def _servers(self) -> list[ID]:
        """Peers whom we may ask to dial us."""
        if self._live is None:
            return []
        host = self._live.host
        return list(dict.fromkeys([*_speakers(host, autonat2.REQUEST), *_speakers(host, AUTONAT)]))

    async def _ask_around(self, live: _Live) -> None:
        await trio.sleep(self._options.first_ask_s)
        while True:
            live.met = trio.Event()
            await self._ask(live, ASK_AT_ONCE)
            verdict = self._verdicts.verdict(trio.current_time())
            with trio.move_on_after(KNOWN_S if verdict.confidence >= ENOUGH else AGAIN_S):
                await live.met.wait()
                await trio.sleep(self._options.first_ask_s)

    async def _ask(self, live: _Live, most: int) -> None:
        candidates, servers = self._candidates(), self._servers()
        if candidates and servers:
            chosen = self._rng.sample(servers, min(most, len(servers)))
            async with trio.open_nursery() as nursery:
                for peer in chosen:
                    nursery.start_soon(self._ask_one, live, peer, candidates)
        self._judge(live)

    async def _ask_one(self, live: _Live, peer: ID, candidates: Sequence[Multiaddr]) -> None:
        if autonat2.REQUEST in live.host.protocols_of(peer):
            for address in candidates[:PER_PEER]:
                answer = await live.asker.ask(peer, address)
                if answer is not None:
                    self._verdicts.add(answer)
            return
        seen_at = self._observed.seen_by(name_of(peer))
        fitting = [one for one in candidates if seen_at is None or str(ip_of(one)) == seen_at]
        if fitting:
            for answer in await ask_for_dial(live.host, peer, fitting):
                self._verdicts.add(answer)

    def _judge(self, live: _Live) -> None:
        """Act upon what is known: offer what a public node offers, announce where others reached us."""
        verdict = self._verdicts.verdict(trio.current_time())
        if verdict.status is Reach.UNKNOWN:
            return
        if verdict.status is not self._status.status:
            log.info("this node is %s, say %d peers", verdict.status, verdict.confidence)
        self._status = verdict
        if self._options.relay_service is When.AUTO:
            live.service.switch(on=verdict.status is Reach.PUBLIC)
        self._changed()

    # relays ----------------------------------------------------------------------------------------------------------

    def _needs_relays(self) -> bool:
        if self._options.relay_client is When.ON:
            return True
        if self._status.status is Reach.UNKNOWN:
            # nobody dials us back to tell; yet we are seen at an address that is not ours
            return not any(map(self._is_public, (*self._announce, *self._listening()))) and bool(self._observed.all())
        return self._status.status is Reach.PRIVATE

    async def _keep_relays(self, live: _Live) -> None:
        await trio.sleep(self._options.boot_delay_s)
        while True:
            changed = live.changed
            if self._needs_relays():
                is_new = await live.relays.keep()
                wait_s = live.relays.next_s(trio.current_time())
            else:
                is_new, wait_s = live.relays.drop_all(), KNOWN_S
            if is_new:
                live.dirty.set()
            with trio.move_on_after(wait_s):
                await changed.wait()
                await trio.sleep(SETTLE_S)

    # telling ---------------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        if self._live is not None:
            self._live.wake()
            self._live.dirty.set()


def _announced_address(text: str) -> Multiaddr:
    """As the owner wrote it, without the peer.

    :raises InvalidAddress: it is not plain TCP, or no port is named.
    """
    address = parse_address(text.partition("/p2p/")[0])
    if not is_plain_tcp(address) or not host_and_port(address)[1]:
        raise InvalidAddress(
            f"p2p.announce_addresses: {text} cannot be announced", hint="write /ip4/<address>/tcp/<port>"
        )
    return address


def _ip4(address: Multiaddr) -> IPv4Address | None:
    ip = ip_of(address)
    return ip if isinstance(ip, IPv4Address) else None


class _Live:
    """What exists only while the network runs."""

    def __init__(
        self,
        host: GuardedHost,
        service: RelayService,
        relays: Relays,
        circuits: Circuits,
        punching: HolePunching,
        asker: Asker,
    ) -> None:
        self.host = host
        self.service = service
        self.relays = relays
        self.circuits = circuits
        self.punching = punching
        self.asker = asker
        self.keeper: Keeper | None = None
        self.met = trio.Event()
        self.changed = trio.Event()
        self.dirty = trio.Event()

    def wake(self) -> None:
        """Let those who wait for a change look again."""
        self.changed.set()
        self.changed = trio.Event()


class _Reports:
    """Stands where the library keeps what others say about our address; it hands it on to us."""

    def __init__(self, take: Callable[[INetConn, Multiaddr], None]) -> None:
        self._take = take

    def record_observation(self, conn: INetConn, observed: Multiaddr, _listening: Sequence[Multiaddr]) -> None:
        self._take(conn, observed)

    def addrs(self) -> list[Multiaddr]:
        return []

    def remove_conn(self, conn: INetConn) -> None:
        return


async def _tell_around(live: _Live, counters: Counter[str]) -> None:
    """Push our addresses and protocols to whom we are connected, when they changed."""
    told = _identity(live.host)
    while True:
        await live.dirty.wait()
        live.dirty = trio.Event()
        await trio.sleep(SETTLE_S)
        now = _identity(live.host)
        if now == told:
            continue
        told = now
        counters["identities pushed"] += 1
        await live.host.announce()


def _hops(host: GuardedHost) -> list[ID]:
    """Peers that speak HOP, the nearest first."""
    return sorted(_speakers(host, HOP), key=lambda peer: _rtt_s(host, peer))


def _speakers(host: GuardedHost, protocol: str) -> list[ID]:
    """Identified peers that speak a protocol, connected directly."""
    found = []
    for peer, conns in host.swarm.get_connections_map().items():
        if protocol in host.protocols_of(peer) and not all(map(is_relayed, conns)):
            found.append(peer)
    return found


def _addresses_of(host: GuardedHost, peer: ID) -> list[Multiaddr]:
    try:
        return list(host.swarm.peerstore.addrs(peer))
    except PeerStoreError:
        return []


def _rtt_s(host: GuardedHost, peer: ID) -> float:
    muxers = [conn.muxed_conn for conn in host.swarm.get_connections(peer)]
    rtts_s = [one.smoothed_rtt_s for one in muxers if isinstance(one, KeepaliveYamux)]
    return min((rtt_s for rtt_s in rtts_s if rtt_s is not None), default=float("inf"))


def _identity(host: GuardedHost) -> tuple[frozenset[str], frozenset[str]]:
    protocols = host.get_mux().get_protocols()
    return frozenset(map(str, host.get_addrs())), frozenset(str(one) for one in protocols if one is not None)
