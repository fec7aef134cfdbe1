"""Who is let in: by peer id for everybody who wants that, by address for machines in data centres. Pure.

A node in server mode (``spec/network.md`` 2.3) neither dials nor accepts nor announces private addresses: data centres
take dials into private ranges for a scan of their network. Loopback stays usable; nobody scans there.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_network

from multiaddr import Multiaddr

from dms.network.addresses import IPAddress, ip_of
from dms.types.ids import PeerID

PRIVATE_RANGES = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "240.0.0.0/4",
        "100::/64",
        "2001:2::/48",
        "2001:db8::/32",
        "fc00::/7",
        "fe80::/10",
    )
)


class Gate:
    """Decides about peers and addresses.

    :param deny: peers that are never let in.
    :param allow: if there are any, only these are.
    :param server_mode: whether private addresses are left alone.
    """

    def __init__(self, *, deny: Iterable[PeerID] = (), allow: Iterable[PeerID] = (), server_mode: bool = False) -> None:
        self.server_mode = server_mode
        self._deny = frozenset(deny)
        self._allow = frozenset(allow)

    def change(self, *, deny: Iterable[PeerID], allow: Iterable[PeerID]) -> None:
        """From now on these."""
        self._deny, self._allow = frozenset(deny), frozenset(allow)

    def refuses(self, peer: PeerID) -> str:
        """Why a peer is not let in; empty: it is."""
        if peer in self._deny:
            return "p2p.deny_peers names it"
        if self._allow and peer not in self._allow:
            return "p2p.allow_peers does not name it"
        return ""

    def refuses_ip(self, ip: IPAddress | None) -> bool:
        """Whether nobody is dialled or let in from there."""
        return self.server_mode and ip is not None and is_private(ip)

    def passing(self, addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
        """Those that may be dialled and announced; names are resolved later, and what they give is looked at again."""
        return [address for address in addresses if not self.refuses_ip(ip_of(address))]


def is_private(ip: IPAddress) -> bool:
    """Whether the address means something different in every network; an IPv4 address inside IPv6 counts as itself."""
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    found = mapped or ip
    return any(found in network for network in PRIVATE_RANGES if network.version == found.version)
