"""Payloads of the behaviours about peers (``spec/orchestration.md`` 2). Keys are the original's; ours are marked."""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire


class ConnectionInfo(Wire):
    """Ours: one live connection; the round trip in milliseconds, 0 when it was not measured; its age in seconds."""

    id: str
    addresses: tuple[str, ...]
    direction: str
    rtt_ms: float
    transport: str
    relayed: bool
    score: float
    age_s: float


class PeersList(Wire):
    """Connected peers; ours: how."""

    peers: tuple[str, ...] = msgspec.field(name="Peers")
    connections: tuple[ConnectionInfo, ...] = msgspec.field(name="Connections")


class RoutedPeer(Wire):
    """One peer in the routing table; ``bucket``: how many leading bits of its place are ours, too; times in seconds ago."""

    id: str
    addresses: tuple[str, ...]
    bucket: int
    since_s: float
    heard_s: float
    connected: bool


class RoutingTable(Wire):
    """The hash table as this node sees it.

    Ours: whether it serves it, under which protocol, how many values and provided keys of others it keeps, under what keys
    it advertises, and of how many peers it knows an address.
    """

    peers: tuple[RoutedPeer, ...] = msgspec.field(name="Peers")
    serving: bool = msgspec.field(name="Serving")
    protocol: str = msgspec.field(name="Protocol")
    records: int = msgspec.field(name="Records")
    provided: int = msgspec.field(name="Provided")
    advertised: tuple[str, ...] = msgspec.field(name="Advertised")
    known: int = msgspec.field(name="Known")


class TopicScoreSnapshot(Wire):
    """What one topic contributes to the score of a peer, and why."""

    score: float = msgspec.field(name="Score")
    time_in_mesh_ns: int = msgspec.field(name="TimeInMesh")
    invalid_message_deliveries: float = msgspec.field(name="InvalidMessageDeliveries")


class ScoreSnapshot(Wire):
    """What gossip thinks of one peer.

    The score, the node's own part of it, its address with what sharing it takes away, its breaches of the protocol with
    what these take away, and the topics.
    """

    score: float = msgspec.field(name="Score")
    app_specific_score: float = msgspec.field(name="AppSpecificScore")
    ip: str = msgspec.field(name="IP")
    ip_colocation_score: float = msgspec.field(name="IPColocationScore")
    behaviour_penalty: float = msgspec.field(name="BehaviourPenalty")
    behaviour_score: float = msgspec.field(name="BehaviourScore")
    topics: dict[str, TopicScoreSnapshot] = msgspec.field(name="Topics")


class PeerScores(Wire):
    """The connected peers' scores."""

    score: dict[str, ScoreSnapshot] = msgspec.field(name="Score")


class PeerSelf(Wire):
    """Our id and our addresses, joined by commas."""

    id: str
    listen_addr: str


class PingRequest(Wire):
    """Whom to ping."""

    host: str = msgspec.field(name="Host")


class PingReply(Wire):
    """The round trip in milliseconds."""

    error: str = msgspec.field(name="Error")
    rtt: float = msgspec.field(name="RTT")


class ConnectRequest(Wire):
    """A multiaddress ending in ``/p2p/<id>``, or an id."""

    address: str = msgspec.field(name="Address")


class ConnectReply(Wire):
    """``CONNECTED``, or why not."""

    status: str = msgspec.field(name="Status")
    error: str = msgspec.field(name="Error")
