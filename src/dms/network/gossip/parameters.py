"""The numbers of broadcast (``spec/network.md`` 4); what that leaves open is as in go-libp2p."""

from __future__ import annotations

from dataclasses import dataclass

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class TopicParameters:
    """What a topic contributes to the score of a peer."""

    weight: float = 1.0
    mesh_weight: float = 0.00027
    """P1: for the time in the mesh, in quanta and up to a cap."""
    mesh_quantum_s: float = 1.0
    mesh_cap: float = 1.0
    invalid_weight: float = -1000.0
    """P4: for the square of the number of rejected messages."""
    invalid_decay_s: float = HOUR_S


@dataclass(frozen=True, slots=True)
class ScoreParameters:
    """What is thought of a peer, and what follows from it."""

    topic: TopicParameters = TopicParameters()
    topic_cap: float = 10.0
    """All topics together add at most this much; they may take away without limit."""
    app_weight: float = 1.0
    """P5 of the specification: what the node itself thinks."""

    ip_weight: float = -10.0
    """P6: for the square of the number of peers beyond the threshold that share an address. Thirty-two at one address are
    below the graylist threshold. Only addresses of the open internet count: behind a proxy or in a local network
    everybody may share one."""
    ip_threshold: int = 16

    behaviour_weight: float = -10.0
    """P7: for the square of the number of breaches beyond the threshold: grafts during a backoff, promises not kept."""
    behaviour_threshold: float = 6.0
    behaviour_decay_s: float = HOUR_S

    decay_to_zero: float = 0.001
    """What is left of a counter after its decay time, and the value from which on it is zero."""
    retain_s: float = 6 * HOUR_S
    """How long a peer that left is remembered: else reconnecting would wipe everything off."""
    max_retained: int = 4096
    inspect_s: float = 1.0
    """How old the scores may be that others are shown."""

    gossip_threshold: float = -500.0
    """Below: no gossip with it, in either direction."""
    publish_threshold: float = -1000.0
    """Below: it gets none of our own messages."""
    graylist_threshold: float = -2500.0
    """Below: nothing that it sends is looked at."""
    accept_px_threshold: float = 0.0
    """From here on: peers that it offers are dialled."""
    opportunistic_graft_threshold: float = 2.5
    """A mesh whose median is below looks for better peers."""


@dataclass(frozen=True, slots=True)
class MeshParameters:
    """How many peers, how often, how long."""

    degree: int = 6
    degree_low: int = 5
    degree_high: int = 12
    degree_score: int = 4
    """So many of the best stay when a mesh is cut back."""
    degree_out: int = 2
    """So many of a mesh must be peers that we dialled: who floods us with connections shall not fill it."""
    degree_lazy: int = 6
    gossip_factor: float = 0.25
    """Gossip goes to this part of the peers outside of the mesh, at least to ``degree_lazy``."""
    flood_publish: bool = True
    """Own messages go to every subscriber we know: the first one of a young mesh is not lost."""

    heartbeat_s: float = 1.0
    history_beats: int = 5
    """Messages are kept so long for those who ask."""
    gossip_beats: int = 3
    """And told of so long."""
    seen_s: float = 120.0
    max_seen: int = 1 << 16

    prune_backoff_s: float = 60.0
    unsubscribe_backoff_s: float = 10.0
    graft_flood_s: float = 10.0
    """A graft so soon after a prune counts twice."""
    max_backoff_s: float = HOUR_S
    prune_peers: int = 16
    """Peers offered with a prune."""
    opportunistic_beats: int = 60
    opportunistic_peers: int = 2

    max_transmissions: int = 3
    """How often one peer may ask for one message."""
    max_ihaves: int = 10
    """Taken of one peer in one beat."""
    max_ids: int = 5000
    """Asked of one peer in one beat."""
    promise_s: float = 3.0
    """How long a message that was announced and asked for may take."""
    dont_want_bytes: int = 1024
    """The mesh is told not to send a message of this size that we have."""
    dont_want_beats: int = 3
    max_dont_want: int = 1000

    max_topics: int = 128
    """Subscriptions of one peer."""
    max_topic_chars: int = 256
