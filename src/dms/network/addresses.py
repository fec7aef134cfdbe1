"""Addresses of peers: reading them, expanding our own, and remembering those of others.

Pure: no I/O but the question which interfaces this machine has.
"""

from __future__ import annotations

import functools
import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import base58
import psutil
from multiaddr import Multiaddr

from dms.network.errors import InvalidAddress
from dms.types.ids import PeerID

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_PEERS = 4096
"""Peers whose addresses are remembered; the one heard of longest ago goes first."""
MAX_ADDRESSES_PER_PEER = 16

_MAX_ADDRESS_CHARS = 512
_MAX_PEER_ID_CHARS = 128


def parse_peer_id(text: str) -> PeerID:
    """A peer id in base58.

    :raises InvalidAddress: it is not one.
    """
    if len(text) > _MAX_PEER_ID_CHARS:  # decoding costs the square of the length
        raise InvalidAddress(f"not a peer id: {text[:80]!r}…")
    try:
        raw = base58.b58decode(text.encode("ascii"))
    except ValueError as error:
        raise InvalidAddress(f"not a peer id: {text[:80]!r}") from error
    sha256 = len(raw) == 34 and raw[:2] == b"\x12\x20"
    inlined = 2 < len(raw) <= 44 and raw[0] == 0 and raw[1] == len(raw) - 2
    if not (sha256 or inlined):
        raise InvalidAddress(f"not a peer id: {text[:80]!r}")
    return PeerID(text)


def split_address(text: str) -> tuple[Multiaddr, PeerID]:
    """The address without and the peer id with which ``…/p2p/<id>`` ends.

    :raises InvalidAddress: it cannot be parsed, or names no peer.
    """
    address = parse_address(text)
    head, marker, last = text.rstrip("/").rpartition("/p2p/")
    if not marker or "/" in last or not head:
        raise InvalidAddress(f"the address names no peer: {text[:120]!r}")
    peer = parse_peer_id(last)
    return (parse_address(head) if head else address), peer


def parse_address(text: str) -> Multiaddr:
    """A multiaddress.

    :raises InvalidAddress: it cannot be parsed.
    """
    if len(text) > _MAX_ADDRESS_CHARS:
        raise InvalidAddress(f"the address is too long: {text[:80]!r}…")
    try:
        return Multiaddr(text)
    except Exception as error:
        raise InvalidAddress(f"not a multiaddress: {text[:120]!r} ({error})") from error


def is_plain_tcp(address: Multiaddr) -> bool:
    """Whether it is IP or a DNS name, TCP, and nothing on top but perhaps the peer."""
    names = [protocol.name for protocol in address.protocols()]
    if names and names[-1] == "p2p":
        names.pop()
    return len(names) == 2 and names[0] in {"ip4", "ip6", "dns", "dns4", "dns6"} and names[1] == "tcp"


def is_relay(address: Multiaddr) -> bool:
    """Whether it leads through somebody else (``…/p2p/<relay>/p2p-circuit``)."""
    return any(protocol.name == "p2p-circuit" for protocol in address.protocols())


def transport_of(address: Multiaddr) -> str:
    """What carries the bytes: ``tcp``, ``ws``, ``quic-v1``…; of a relayed address, what carries them to the relay."""
    names = [protocol.name for protocol in address.protocols()]
    if "p2p" in names:
        names = names[: names.index("p2p")]
    return names[-1] if names else "tcp"


def dial_order(addresses: Sequence[Multiaddr], most: int) -> list[Multiaddr]:
    """So many of the addresses of one peer, relays last; there is room for two of those however many others there are."""
    relayed = [one for one in addresses if is_relay(one)][:2]
    direct = [one for one in addresses if not is_relay(one)]
    return [*direct[: most - len(relayed)], *relayed]


@functools.lru_cache(maxsize=4096)
def is_dialable(address: Multiaddr) -> bool:
    """Whether we know how to dial it: plain TCP, or such an address of a relay."""
    if not is_relay(address):
        return is_plain_tcp(address)
    try:
        split_circuit(str(address))
    except InvalidAddress:
        return False
    return True


def split_circuit(text: str) -> tuple[Multiaddr, PeerID, PeerID | None]:
    """The relay's address, the relay, and the peer behind it where it is named.

    :raises InvalidAddress: it is not the address of a peer behind one relay.
    """
    before, marker, behind = text.partition("/p2p-circuit")
    if not marker or "p2p-circuit" in behind:
        raise InvalidAddress(f"not an address through a relay: {text[:120]!r}")
    address, relay = split_address(before)
    if not is_plain_tcp(address):
        raise InvalidAddress(f"the relay has no plain TCP address: {text[:120]!r}")
    if not behind:
        return address, relay, None
    if not behind.startswith("/p2p/"):
        raise InvalidAddress(f"not an address of a peer behind a relay: {text[:120]!r}")
    return address, relay, parse_peer_id(behind.removeprefix("/p2p/"))


def host_and_port(address: Multiaddr) -> tuple[str, int]:
    """IP address or name, and TCP port, of a plain TCP address."""
    parts = str(address).split("/")
    return parts[2], int(parts[4])


@functools.lru_cache(maxsize=4096)
def ip_of(address: Multiaddr) -> IPAddress | None:
    """Its IP address, where it has one."""
    try:
        return ipaddress.ip_address(str(address).split("/")[2])
    except (ValueError, IndexError):
        return None


def is_loopback(address: Multiaddr) -> bool:
    """Whether it is reachable on its own machine only."""
    ip = ip_of(address)
    return ip is not None and ip.is_loopback


def expand(address: Multiaddr) -> list[Multiaddr]:
    """``0.0.0.0`` and ``::`` become the addresses of all interfaces: nobody can dial the unspecified address."""
    ip = ip_of(address)
    if ip is None or not ip.is_unspecified:
        return [address]
    _, port = host_and_port(address)
    found = [
        Multiaddr(f"/ip{own.version}/{own}/tcp/{port}")
        for own in interface_addresses()
        if own.version == ip.version and not own.is_link_local
    ]
    return sorted(found, key=lambda one: (is_loopback(one), str(one))) or [address]


def interface_addresses() -> list[IPAddress]:
    """The addresses of this machine."""
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            try:
                found.append(ipaddress.ip_address(entry.address.partition("%")[0]))
            except ValueError:
                continue  # a hardware address
    return found


class AddressBook:
    """Where peers said that they listen; bounded in peers and in addresses of each."""

    def __init__(self, own: PeerID) -> None:
        self._own = own
        self._known: OrderedDict[PeerID, tuple[Multiaddr, ...]] = OrderedDict()

    def learn(self, peer: PeerID, addresses: Iterable[Multiaddr], *, nearby: bool = True) -> None:
        """Add addresses to those known; ``nearby`` says that loopback addresses of the peer mean something here."""
        self._store(peer, addresses, nearby=nearby, before=self._known.get(peer, ()))

    def replace(self, peer: PeerID, addresses: Iterable[Multiaddr], *, nearby: bool = True) -> None:
        """The peer itself told us all its addresses; an empty or unusable list changes nothing."""
        self._store(peer, addresses, nearby=nearby, before=())

    def addresses(self, peer: PeerID) -> tuple[Multiaddr, ...]:
        """The known addresses, most trusted first."""
        return self._known.get(peer, ())

    def all(self) -> dict[PeerID, tuple[str, ...]]:
        """Everybody known, with addresses as text."""
        return {peer: tuple(str(address) for address in known) for peer, known in self._known.items()}

    def forget(self, peer: PeerID, addresses: Sequence[Multiaddr]) -> None:
        """Drop addresses at which somebody else answered."""
        left = tuple(one for one in self._known.get(peer, ()) if one not in addresses)
        if left:
            self._known[peer] = left
        else:
            self._known.pop(peer, None)

    def __len__(self) -> int:
        return len(self._known)

    def _store(
        self, peer: PeerID, addresses: Iterable[Multiaddr], *, nearby: bool, before: tuple[Multiaddr, ...]
    ) -> None:
        usable = [
            bare
            for bare in (_without_peer(one, peer) for one in addresses)
            if bare is not None and is_dialable(bare) and _is_target(bare) and (nearby or not is_loopback(bare))
        ]
        merged = tuple(dict.fromkeys([*usable, *before]))[:MAX_ADDRESSES_PER_PEER]
        if peer == self._own or not usable:
            return
        self._known[peer] = merged
        self._known.move_to_end(peer)
        while len(self._known) > MAX_PEERS:
            self._known.popitem(last=False)


def _is_target(address: Multiaddr) -> bool:
    ip = ip_of(address)
    return (ip is None or not (ip.is_unspecified or ip.is_multicast)) and host_and_port(address)[1] != 0


def _without_peer(address: Multiaddr, peer: PeerID) -> Multiaddr | None:
    """The address without ``/p2p/<peer>`` at its end; nothing for an address of somebody else, or one that cannot be read.

    The trap: what a peer sent is a Multiaddr already, but its bytes are only looked at when it is written out.
    """
    try:
        head, marker, named = str(address).rpartition("/p2p/")
    except Exception:  # noqa: BLE001  any bytes, of any peer
        return None
    if not marker or named.endswith("/p2p-circuit"):
        return address
    return Multiaddr(head) if named == peer and head else None
