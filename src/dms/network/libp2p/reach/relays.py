"""Relays of our own choosing, while nobody can reach us directly (AutoRelay, ``spec/network.md`` 2.2).

Candidates are the connected, identified peers that speak HOP (the source of the original yields none). Up to
:data:`WANTED` of them hold a reservation, renewed half way to its end; who refuses is left alone for :data:`BACKOFF_S`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from dms.network.addresses import ip_of, is_plain_tcp
from dms.network.errors import BadFrame, MessageTooLarge, PeerUnreachable
from dms.network.libp2p.connections.names import name_of
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.messages.streams import receiver
from dms.network.libp2p.reach.circuits import status_text
from dms.network.libp2p.reach.connections import is_relayed
from dms.network.libp2p.reach.messages import HOP, HopMessage, HopType, Limit, Status
from dms.network.libp2p.reach.protobuf import read_message, write_message
from dms.network.libp2p.streams.opening import reset_shielded
from dms.network.reachability import RelayReservation

log = logging.getLogger(__name__)

WANTED = 2
CANDIDATES = 3
"""Asked at once while relays are missing."""
BACKOFF_S = 30.0
ANSWER_S = 10.0
MAX_ADDRESSES = 4
"""Of one relay that we announce."""
_SHORTEST_S = 30.0
_LONGEST_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation: the relay's addresses, when it ends, when it is to be renewed (on trio's clock), and its limit."""

    relay: ID
    addresses: tuple[Multiaddr, ...]
    until_s: float
    renew_s: float
    limit: Limit


def choose(
    candidates: Sequence[ID], held: Sequence[ID], refused_until: dict[ID, float], now_s: float, *, wanted: int = WANTED
) -> list[ID]:
    """Whom to ask now: nobody when there are enough; otherwise a few more than are missing, the nearest first. Pure."""
    missing = wanted - len(held)
    if missing <= 0:
        return []
    free = [one for one in candidates if one not in held and refused_until.get(one, 0.0) <= now_s]
    return free[: min(CANDIDATES, missing + 1)]


class Relays:
    """The reservations that we hold.

    :param candidates: connected peers that speak HOP, the nearest first.
    :param clock: seconds since 1970; relays tell the end of a reservation in them.
    """

    def __init__(
        self,
        host: GuardedHost,
        *,
        candidates: Callable[[], Sequence[ID]],
        clock: Callable[[], float],
        wanted: int = WANTED,
    ) -> None:
        self._host = host
        self._candidates = candidates
        self._clock = clock
        self._wanted = wanted
        self._held: dict[ID, Held] = {}
        self._asked: set[ID] = set()
        self._refused_until: dict[ID, float] = {}

    def is_held(self, relay: ID) -> bool:
        """Whether we have, or just ask for, a reservation there; nobody else may forward connections to us."""
        return relay in self._held or relay in self._asked

    def addresses(self) -> list[Multiaddr]:
        """Ours, through the relays."""
        return [
            Multiaddr(f"{address}/p2p/{one.relay}/p2p-circuit")
            for one in self._held.values()
            for address in one.addresses
        ]

    def report(self) -> tuple[RelayReservation, ...]:
        """The reservations, for people."""
        now_s = trio.current_time()
        return tuple(
            RelayReservation(
                name_of(one.relay),
                tuple(map(str, one.addresses)),
                max(0.0, one.until_s - now_s),
                one.limit.data_bytes,
                one.limit.duration_s,
            )
            for one in self._held.values()
        )

    def lose(self, relay: ID) -> bool:
        """The relay is gone; whether we had a reservation there."""
        return self._held.pop(relay, None) is not None

    def drop_all(self) -> bool:
        """We need no relays; whether there were any. They forget us by themselves."""
        had = bool(self._held)
        self._held.clear()
        return had

    def next_s(self, now_s: float) -> float:
        """How long until something is to be done again."""
        times = [one.renew_s for one in self._held.values()]
        if len(self._held) < self._wanted:
            times.append(now_s + BACKOFF_S)
        return max(1.0, min(times, default=now_s + BACKOFF_S) - now_s)

    async def keep(self) -> bool:
        """Renew what is due, and ask for what is missing; whether our addresses changed."""
        now_s = trio.current_time()
        before = self.addresses()
        self._refused_until = {one: until for one, until in self._refused_until.items() if until > now_s}
        self._held = {relay: one for relay, one in self._held.items() if one.until_s > now_s}
        due = [relay for relay, one in self._held.items() if one.renew_s <= now_s]
        new = choose(self._candidates(), list(self._held), self._refused_until, now_s, wanted=self._wanted)
        async with trio.open_nursery() as nursery:
            for relay in (*due, *new):
                nursery.start_soon(self._ask, relay)
        return self.addresses() != before

    async def _ask(self, relay: ID) -> None:
        self._asked.add(relay)
        try:
            held = await self.reserve(relay)
        except PeerUnreachable as error:
            log.debug("no reservation at %s: %s", relay, error)
            self._refused_until[relay] = trio.current_time() + BACKOFF_S
            return
        finally:
            self._asked.discard(relay)
        if relay in self._held or len(self._held) < self._wanted:
            self._held[relay] = held

    async def reserve(self, relay: ID) -> Held:
        """Ask a connected relay for a reservation, or to renew it.

        :raises PeerUnreachable: it refuses, or does not answer.
        """
        stream: INetStream | None = None
        try:
            with trio.fail_after(ANSWER_S):
                stream = await self._host.new_stream(relay, [TProtocol(HOP)])
                if is_relayed(stream):
                    raise PeerUnreachable(f"the relay {relay} itself is connected through a relay only")
                await write_message(stream, HopMessage(HopType.RESERVE).encode())
                answer = HopMessage.decode(await read_message(receiver(stream)))
        except (BaseLibp2pError, BadFrame, MessageTooLarge, OSError, trio.TooSlowError) as error:
            raise PeerUnreachable(f"the relay {relay} does not answer: {error!r}") from error
        finally:
            if stream is not None:
                await reset_shielded(stream)
        if answer.status != Status.OK or answer.reservation is None:
            raise PeerUnreachable(f"the relay {relay} refuses: {status_text(answer.status)}")
        lasts_s = min(max(answer.reservation.expire - self._clock(), _SHORTEST_S), _LONGEST_S)
        addresses = self._usable(relay, answer.reservation.addresses)
        if not addresses:
            raise PeerUnreachable(f"the relay {relay} has no address that others could use")
        now_s = trio.current_time()
        return Held(relay, addresses, now_s + lasts_s, now_s + lasts_s / 2, answer.limit or Limit())

    def _usable(self, relay: ID, told: Sequence[Multiaddr]) -> tuple[Multiaddr, ...]:
        """Addresses under which others reach the relay: those it told, and the one that we reached it at; public first."""
        bare = [Multiaddr(str(one).partition("/p2p/")[0]) for one in told if "/p2p-circuit" not in str(one)]
        ours = [
            address
            for conn in self._host.swarm.get_connections(relay)
            if not is_relayed(conn) and _is_dialled(conn)
            for address in conn.get_transport_addresses()
        ]
        found = [one for one in dict.fromkeys([*ours, *bare]) if is_plain_tcp(one) and ip_of(one) is not None]
        public = [one for one in found if _is_global(one)]
        return tuple((public or found)[:MAX_ADDRESSES])


def _is_dialled(conn: INetConn) -> bool:
    return getattr(conn, "direction", None) == Direction.OUTBOUND


def _is_global(address: Multiaddr) -> bool:
    ip = ip_of(address)
    return ip is not None and ip.is_global
