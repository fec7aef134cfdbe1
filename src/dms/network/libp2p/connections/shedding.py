"""Closing connections of which there are too many, that hold too much, or that are no longer wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING
from weakref import WeakSet

import trio
from libp2p.abc import INetConn, INetStream
from libp2p.peer.id import ID

from dms.network.addresses import IPAddress
from dms.network.libp2p.connections.limits import Limits, Memory
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.connections.names import name_of
from dms.network.libp2p.connections.trimming import Standing, expendable
from dms.network.libp2p.messages.frames import PROTOCOL

if TYPE_CHECKING:
    from dms.network.libp2p.connections.swarm import GuardedSwarm

TRIM_S = 5.0
"""How often too many connections are looked through."""


class Shedding:
    """Closes connections of a swarm."""

    def __init__(self, swarm: GuardedSwarm, limits: Limits, counters: Counter[str]) -> None:
        self.memory = Memory(limits.memory_bytes)
        self.memory.relieve = self._relieve
        self.protected: frozenset[ID] = frozenset()
        """Peers whose connections are never trimmed."""
        self.is_relay: Callable[[ID], bool] = lambda _: False
        """Whether others come to us through a peer: its connection is worth that of all of them."""
        self.score_of: Callable[[ID], float] = lambda _: 0.0
        """What is thought of a peer; the least liked are trimmed first."""
        self._swarm = swarm
        self._limits = limits
        self._counters = counters
        self._is_trimming = False
        self._going: WeakSet[KeepaliveYamux] = WeakSet()
        """Connections closed for memory that they may not have given back yet."""

    def trim_peer(self, peer: ID) -> None:
        """Keep a peer within its number of connections: the oldest go."""
        conns = self._swarm.get_connections(peer)
        for conn in conns[: max(0, len(conns) - self._limits.connections_per_peer)]:
            self._close(conn, "too many of one peer")

    def trim(self) -> None:
        """Start trimming, if there are too many."""
        if not self._is_trimming and self._is_over():
            self._is_trimming = True
            self._swarm.manager.run_task(self._trim)

    def expel(self) -> None:
        """Close the connections of peers that are refused now."""
        for conn in self._swarm.get_connections():
            if self._swarm.gate.refuses(name_of(conn.muxed_conn.peer_id)):
                self._close(conn, "peer refused")

    def probe(self, gone: Collection[IPAddress]) -> None:
        """These addresses are no longer ours: find out at once whether whoever is connected to one is still there."""
        for _, muxer in self._living():
            if muxer.local_ip in gone:
                muxer.probe()

    def _is_over(self) -> bool:
        return len(self._swarm.get_connections()) > self._limits.high_water

    async def _trim(self) -> None:
        """Close the least useful; again and again while those too young to be judged keep us above the mark."""
        try:
            while self._is_over():
                standings = [self._standing(conn, muxer) for conn, muxer in self._living()]
                low_water, grace_s = self._limits.low_water, self._limits.grace_s
                for conn in expendable(standings, low_water=low_water, grace_s=grace_s):
                    self._close(conn, "trimmed")
                await trio.sleep(TRIM_S)
        finally:
            self._is_trimming = False

    def _standing(self, conn: INetConn, muxer: KeepaliveYamux) -> Standing[INetConn]:
        now_s = trio.current_time()
        return Standing(
            key=conn,
            is_protected=muxer.peer_id in self.protected or self.is_relay(muxer.peer_id),
            open_work=sum(not _is_kept(stream) for stream in conn.get_streams()),
            score=self.score_of(muxer.peer_id),
            idle_s=now_s - muxer.last_used_s,
            age_s=now_s - muxer.opened_s,
        )

    def _relieve(self) -> None:
        """Too much memory is held: close the connection that holds most of it, unless what is about to go suffices."""
        if self.memory.used_bytes - sum(muxer.buffered_bytes for muxer in self._going) <= self._limits.memory_bytes:
            return
        living = [muxer for _, muxer in self._living() if not muxer.is_condemned]
        if not living:
            return
        greediest = max(living, key=lambda muxer: muxer.buffered_bytes)
        greediest.is_condemned = True
        self._going.add(greediest)
        self._counters["connections closed: memory"] += 1
        self._swarm.manager.run_task(greediest.abandon)

    def _living(self) -> Iterator[tuple[INetConn, KeepaliveYamux]]:
        for conn in self._swarm.get_connections():
            if isinstance(conn.muxed_conn, KeepaliveYamux):
                yield conn, conn.muxed_conn

    def _close(self, conn: INetConn, why: str) -> None:
        self._counters[f"connections closed: {why}"] += 1
        self._swarm.manager.run_task(conn.close)


def _is_kept(stream: INetStream) -> bool:
    """Whether it is one of those that peers keep open when there is nothing to say, too: of gossip, and for messages."""
    return str(stream.get_protocol() or "").startswith(("/meshsub/", "/floodsub/", PROTOCOL))
