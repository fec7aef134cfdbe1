"""Our address as others see it (``spec/network.md`` 2.4): what peers report, and what is believed.

A report counts when its sender has a public listening address, the connection is not relayed and the address is public;
an IP is accepted once :data:`NEEDED` *different* peers report it (the original counts reports, so one peer suffices).
Pure.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from multiaddr import Multiaddr

from dms.network.addresses import host_and_port, ip_of, is_plain_tcp
from dms.network.reachability import IP, ObservedAddress, is_public_ip
from dms.types.ids import PeerID

NEEDED = 3
MAX_REPORTERS = 128
"""Whose last report is kept; the one heard of longest ago goes first."""


@dataclass(frozen=True, slots=True)
class _Report:
    ip: str
    port: int | None


class ObservedAddresses:
    """The last report of each peer."""

    def __init__(self, *, needed: int = NEEDED, is_public: Callable[[IP], bool] = is_public_ip) -> None:
        self._needed = needed
        self._is_public = is_public
        self._reports: OrderedDict[PeerID, _Report] = OrderedDict()
        self._accepted: str | None = None

    @property
    def accepted(self) -> str | None:
        """The IP that is believed; it stays until another is."""
        return self._accepted

    def report(
        self,
        reporter: PeerID,
        observed: Multiaddr,
        *,
        listens_at: Iterable[Multiaddr],
        is_relayed: bool,
        is_listening_port: bool = False,
    ) -> bool:
        """Take a report in; whether the accepted address changed by it.

        ``is_listening_port`` says that the connection has, on our side, a port on which we listen: only then the port that
        the reporter sees means something.
        """
        if is_relayed or not is_plain_tcp(observed) or not any(map(self._is_public_address, listens_at)):
            return False
        ip = ip_of(observed)
        if ip is None or not self._is_public(ip):
            return False
        self._reports[reporter] = _Report(str(ip), host_and_port(observed)[1] if is_listening_port else None)
        self._reports.move_to_end(reporter)
        if len(self._reports) > MAX_REPORTERS:
            self._reports.popitem(last=False)
        before = self._accepted
        self._accepted = self._judge()
        return self._accepted != before

    def seen_by(self, reporter: PeerID) -> str | None:
        """The IP under which a peer sees us."""
        report = self._reports.get(reporter)
        return None if report is None else report.ip

    def endpoint(self) -> Multiaddr | None:
        """Where those see our listening port who report the likeliest IP: where a router may let others in."""
        ips = Counter(report.ip for report in self._reports.values())
        if not ips:
            return None
        ip = self._accepted or ips.most_common(1)[0][0]
        ports = Counter(one.port for one in self._reports.values() if one.ip == ip and one.port is not None)
        if not ports:
            return None
        port, times = ports.most_common(1)[0]
        if times < 2 and len(ports) > 1:
            return None  # another port for everybody: the router maps by destination
        return Multiaddr(f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}")

    def all(self) -> tuple[ObservedAddress, ...]:
        """Every IP that somebody reports, the likeliest first."""
        by_ip: dict[str, list[PeerID]] = {}
        for peer, report in self._reports.items():
            by_ip.setdefault(report.ip, []).append(peer)
        found = [ObservedAddress(ip, tuple(sorted(peers)), ip == self._accepted) for ip, peers in by_ip.items()]
        return tuple(sorted(found, key=lambda one: (not one.is_accepted, -len(one.reporters), one.ip)))

    def _judge(self) -> str | None:
        counts = Counter(report.ip for report in self._reports.values())
        enough = {ip: count for ip, count in counts.items() if count >= self._needed}
        if not enough or enough.get(self._accepted or "") == max(enough.values()):
            return self._accepted
        return max(sorted(enough), key=lambda ip: enough[ip])

    def _is_public_address(self, address: Multiaddr) -> bool:
        ip = ip_of(address)
        return ip is not None and is_plain_tcp(address) and self._is_public(ip)
