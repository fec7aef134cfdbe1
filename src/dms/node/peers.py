"""Peers of a node: ``/dms/node/peers/*`` (``spec/orchestration.md`` 2.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.network.protocol import Network, PeerScore
from dms.node import peer_payloads as p
from dms.node.payloads import Nil
from dms.types.errors import DMSError
from dms.types.ids import PeerID

NAMESPACE = "/dms/node/peers"
PING_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 10.0
MAX_ROUTED = 1000
"""Entries of the routing table that one answer tells, the nearest first."""


class PeerBehaviours:
    """Who is connected, how far away, and connecting to more."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        table: tuple[tuple[str, Callable[[Message[Any]], Awaitable[object]], Any], ...] = (
            ("list", self._list, Nil),
            ("self", self._self, Nil),
            ("dht", self._dht, Nil),
            ("score", self._score, Nil),
            ("ping", self._ping, p.PingRequest),
            ("connect", self._connect, p.ConnectRequest),
        )
        for name, handler, payload in table:
            actor.on(f"{NAMESPACE}/{name}", handler, payload=payload)

    async def _list(self, _message: Message[Any]) -> p.PeersList:
        connections, scores = self._network.peers(), self._network.scores()
        return p.PeersList(
            peers=tuple(dict.fromkeys(c.peer for c in connections)),
            connections=tuple(
                p.ConnectionInfo(
                    id=c.peer,
                    addresses=c.addresses,
                    direction="inbound" if c.inbound else "outbound",
                    rtt_ms=round((c.rtt_s or 0.0) * 1000, 3),
                    transport=c.transport,
                    relayed=c.is_relayed,
                    score=round(scores[c.peer].total, 3) if c.peer in scores else 0.0,
                    age_s=round(c.since_s, 3),
                )
                for c in connections
            ),
        )

    async def _dht(self, _message: Message[Any]) -> p.RoutingTable:
        state = self._network.directory.state()
        return p.RoutingTable(
            peers=tuple(
                p.RoutedPeer(
                    id=entry.peer,
                    addresses=entry.addresses,
                    bucket=entry.bucket,
                    since_s=round(entry.since_s, 1),
                    heard_s=round(entry.heard_s, 1),
                    connected=entry.is_connected,
                )
                for entry in state.entries[:MAX_ROUTED]
            ),
            serving=state.is_serving,
            protocol=state.protocol,
            records=state.records,
            provided=state.provided,
            advertised=state.advertised,
            known=len(self._network.known_peers()),
        )

    async def _score(self, _message: Message[Any]) -> p.PeerScores:
        scores = self._network.scores()
        return p.PeerScores(score={peer: _snapshot(score) for peer, score in sorted(scores.items())})

    async def _self(self, _message: Message[Any]) -> p.PeerSelf:
        return p.PeerSelf(id=self._network.peer_id, listen_addr=",".join(self._network.reachability.report().announced))

    async def _ping(self, message: Message[p.PingRequest]) -> p.PingReply:
        try:
            rtt_s = await self._network.ping(PeerID(message.payload.host), timeout_s=PING_TIMEOUT_S)
        except DMSError as exc:
            return p.PingReply(error=exc.message, rtt=0.0)
        return p.PingReply(error="", rtt=round(rtt_s * 1000, 3))

    async def _connect(self, message: Message[p.ConnectRequest]) -> p.ConnectReply:
        try:
            await self._network.connect(_bare_id(message.payload.address), timeout_s=CONNECT_TIMEOUT_S)
        except DMSError as exc:
            return p.ConnectReply(status="", error=exc.message)
        return p.ConnectReply(status="CONNECTED", error="")


def _snapshot(score: PeerScore) -> p.ScoreSnapshot:
    return p.ScoreSnapshot(
        score=score.total,
        app_specific_score=score.app_specific,
        ip=score.ip,
        ip_colocation_score=score.ip_colocation,
        behaviour_penalty=score.breaches,
        behaviour_score=score.behaviour,
        topics={
            name: p.TopicScoreSnapshot(
                score=topic.score,
                time_in_mesh_ns=round(topic.mesh_s * 1e9),
                invalid_message_deliveries=topic.invalid_messages,
            )
            for name, topic in sorted(score.topics.items())
        },
    )


def _bare_id(address: str) -> str:
    """``/p2p/<id>`` without an address before it means the id alone."""
    head, marker, peer = address.strip().rpartition("/p2p/")
    return peer if marker and not head else address.strip()
