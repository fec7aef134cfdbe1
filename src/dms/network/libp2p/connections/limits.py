"""How much others may take of us (``spec/network.md`` 2.2), and what of that is used.

Pure: time is passed in, and whoever asks does the waiting and closing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network

from dms.network.addresses import IPAddress

MIB = 1 << 20
CONNECTION_BYTES = 128 << 10
"""What a connection costs without a byte under way, against :attr:`Limits.memory_bytes`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much others may take of us."""

    inbound_connections: int = 512
    outbound_connections: int = 512
    connections: int = 1024
    connections_per_peer: int = 8
    """One more closes the oldest of that peer: after a cable was pulled the newest is the one that works."""
    connections_per_ip: int = 64
    """Inbound ones of one address; those of this machine itself are not counted."""
    connections_per_subnet: int = 128
    """Inbound ones of one public /24 (IPv4) or /48 (IPv6)."""
    low_water: int = 100
    high_water: int = 400
    """More connections than this are trimmed to the low water mark, the least useful first."""
    grace_s: float = 20.0
    """Younger connections are not trimmed."""
    handshakes_per_ip: int = 32
    """Connections of one address that have not yet said who they are."""
    handshake_s: float = 10.0
    dial_s: float = 10.0
    """How long a dial may take, handshake included, at all addresses of a peer together."""
    negotiation_s: int = 10
    """How long a new stream may take to say what it is for."""
    streams_per_peer: int = 256
    inbound_streams: int = 8192
    outbound_streams: int = 8192
    streams: int = 16384
    new_streams_per_s: float = 1000.0
    """Streams that one peer may open; more are accepted later."""
    new_streams_burst: float = 4000.0
    bytes_per_s: float = 128.0 * MIB
    """What is read of one peer; the rest waits in its own buffers."""
    bytes_burst: float = 256.0 * MIB
    gossip_per_s: float = 500.0
    """Frames and messages of gossip that are taken of one peer: checking one costs thousands of times what sending it does.
    The rest waits in the window of its stream."""
    gossip_burst: float = 2000.0
    memory_bytes: int = 1024 * MIB
    """What arrived and was not yet read, all connections together, and what connections cost by themselves."""
    memory_bytes_per_peer: int = 128 * MIB
    handlers_per_peer: int = 128
    handlers: int = 4096
    read_s: float = 30.0
    """How long one message may take to arrive."""
    keepalive_s: float = 5.0
    """Pings go out that often; a peer that leaves two in a row unanswered is frozen."""
    kept_idle_s: float = 60.0
    """A stream kept for messages is closed when there were none for so long."""

    def within(self, *, memory_bytes: int, descriptors: int) -> Limits:
        """The same for a node that may use so much memory and so many file descriptors for connections.

        A connection holds one descriptor. A quarter is kept for those that we open, so that nobody outside can use
        them all up.
        """
        connections = max(2, min(self.connections, descriptors))
        inbound = max(1, min(self.inbound_connections, connections - max(1, connections // 4)))
        high_water = min(self.high_water, connections)
        return replace(
            self,
            connections=connections,
            inbound_connections=inbound,
            outbound_connections=min(self.outbound_connections, connections),
            high_water=high_water,
            low_water=min(self.low_water, high_water),
            memory_bytes=memory_bytes,
            memory_bytes_per_peer=min(self.memory_bytes_per_peer, max(memory_bytes // 4, 1)),
        )


class Bucket:
    """So much at once and so much more each second, as a debt: what is too much is not refused, it is waited for."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst_s = burst / per_s
        self._free_at_s = float("-inf")

    def charge(self, amount: float, now_s: float) -> float:
        """Take it, and tell for how many seconds to wait before the next."""
        self._free_at_s = max(self._free_at_s, now_s) + amount / self._per_s
        return max(0.0, self._free_at_s - now_s - self._burst_s)


class Memory:
    """What all connections hold together; over the limit, ``relieve`` is called, which closes something."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.relieve: Callable[[], None] = lambda: None

    def has_room(self, size: int) -> bool:
        """Whether so much more fits."""
        return self.used_bytes + size <= self.limit_bytes

    def change(self, by_bytes: int) -> None:
        """So much was taken, or given back."""
        self.used_bytes += by_bytes
        if by_bytes > 0 and self.used_bytes > self.limit_bytes:
            self.relieve()


class Share:
    """What one peer takes of us, over all its connections."""

    def __init__(self, limits: Limits) -> None:
        self.buffered_bytes = 0
        self.limit_bytes = limits.memory_bytes_per_peer
        self.incoming = Bucket(limits.bytes_per_s, limits.bytes_burst)
        self.new_streams = Bucket(limits.new_streams_per_s, limits.new_streams_burst)


class Origins:
    """How many inbound connections come from where."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._per_ip: Counter[object] = Counter()
        self._per_subnet: Counter[object] = Counter()

    def has_room(self, ip: IPAddress | None) -> bool:
        """Whether one more may come from there. Those of our own machine may, always."""
        if ip is None or ip.is_loopback:
            return True
        if self._per_ip[ip] >= self._limits.connections_per_ip:
            return False
        return not ip.is_global or self._per_subnet[_subnet_of(ip)] < self._limits.connections_per_subnet

    def change(self, ip: IPAddress | None, by: int) -> None:
        """One came, or went."""
        if ip is None or ip.is_loopback:
            return
        for counter, key in ((self._per_ip, ip), (self._per_subnet, _subnet_of(ip))):
            counter[key] += by
            if counter[key] <= 0:
                del counter[key]

    def __len__(self) -> int:
        return len(self._per_ip)


def _subnet_of(ip: IPAddress) -> object:
    return ip_network((ip, 24 if ip.version == 4 else 48), strict=False)
