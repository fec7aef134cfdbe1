"""What is told about live connections: where the peer is, who opened it, over what, since when."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from libp2p.abc import INetConn
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from dms.network.addresses import AddressBook, is_relay, transport_of
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.connections.names import name_of
from dms.network.protocol import PeerInfo


def describe(conns: Sequence[INetConn], book: AddressBook, protocols: Sequence[str]) -> PeerInfo:
    """The connections of one peer (at least one) as one entry: the best of them counts.

    It is relayed only if no connection is direct, inbound only if we opened none, and as old as the oldest.
    """
    direct = [conn for conn in conns if not _is_relayed(conn)]
    peer = name_of(conns[0].muxed_conn.peer_id)
    seen_at = [address for conn in conns for address in conn.get_transport_addresses()]
    addresses = dict.fromkeys(f"{address}/p2p/{peer}" for address in [*seen_at, *book.addresses(peer)])
    muxers = [conn.muxed_conn for conn in conns if isinstance(conn.muxed_conn, KeepaliveYamux)]
    rtts_s = [muxer.smoothed_rtt_s for muxer in muxers if muxer.smoothed_rtt_s is not None]
    now_s = trio.current_time()
    return PeerInfo(
        peer=peer,
        addresses=tuple(addresses),
        inbound=all(getattr(conn, "direction", None) == Direction.INBOUND for conn in conns),
        protocols=tuple(protocols),
        rtt_s=min(rtts_s, default=None),
        transport=_transport(direct or conns),
        is_relayed=not direct,
        since_s=max((now_s - muxer.opened_s for muxer in muxers), default=0.0),
    )


def _is_relayed(conn: INetConn) -> bool:
    return any(is_relay(address) for address in conn.get_transport_addresses())


def _transport(conns: Sequence[INetConn]) -> str:
    addresses: list[Multiaddr] = [address for conn in conns for address in conn.get_transport_addresses()]
    return transport_of(addresses[0]) if addresses else "tcp"
