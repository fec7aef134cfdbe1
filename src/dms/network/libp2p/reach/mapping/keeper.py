"""Has our port forwarded for as long as the node runs: asks, renews half way to the end of the lease, takes it back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

import trio
from multiaddr import Multiaddr

from dms.network.libp2p.reach.mapping.gateway import Mapped, Mapper, NotMapped, own_address_towards, read_gateway
from dms.network.libp2p.reach.mapping.natpmp import NatPmp
from dms.network.libp2p.reach.mapping.upnp import Upnp
from dms.network.reachability import IP, PortMapping, is_public_ip

log = logging.getLogger(__name__)

AGAIN_S = 600.0
"""After everybody refused; machines move, routers are restarted."""
RENEW_PERMANENT_S = 1800.0
GOODBYE_S = 3.0


def routers() -> Sequence[Mapper]:
    """The ways to ask the router of this machine; none where there is no router, or our address needs none."""
    gateway = read_gateway()
    own = own_address_towards(gateway) if gateway is not None else None
    if gateway is None or own is None or not own.is_private or own.is_loopback:
        return ()
    return (NatPmp(gateway), Upnp(own))


class Keeper:
    """Keeps one port forwarded.

    :param find: the ways there are; asked anew after each failure.
    :param changed: told when the outer address is another than before.
    """

    def __init__(
        self,
        port: int,
        *,
        find: Callable[[], Sequence[Mapper]] = routers,
        changed: Callable[[], None] = lambda: None,
        is_public: Callable[[IP], bool] = is_public_ip,
    ) -> None:
        self._port = port
        self._find = find
        self._changed = changed
        self._is_public = is_public
        self._mapped: Mapped | None = None
        self.state: PortMapping | None = None
        """What came of it; nothing before the first answer, or where there is no router."""

    def address(self) -> Multiaddr | None:
        """Where others reach our port, if the router has a public address."""
        mapped = self._mapped
        if mapped is None or not self._is_public(mapped.external_ip):
            return None
        return Multiaddr(f"/ip4/{mapped.external_ip}/tcp/{mapped.external_port}")

    async def run(self) -> None:
        """Until cancelled; the port is no longer forwarded then."""
        while True:
            for mapper in self._find():
                try:
                    await self._map(mapper)
                except NotMapped as error:
                    log.debug("%s: %s", mapper.name, error)
                    self.state = PortMapping(mapper.name, self._port, problem=str(error))
                    continue
                try:
                    await self._renew(mapper)
                finally:
                    await self._give_back(mapper)
            await trio.sleep(AGAIN_S)

    async def _map(self, mapper: Mapper) -> None:
        mapped = await mapper.map(self._port)
        before, self._mapped = self.address(), mapped
        external = f"{mapped.external_ip}:{mapped.external_port}"
        problem = ""
        if not self._is_public(mapped.external_ip):
            problem = f"the router itself has no public address ({external}): another router follows"
        self.state = PortMapping(mapper.name, self._port, external, problem)
        if self.address() != before:
            log.info("the router forwards %s to port %d (%s)", external, self._port, mapper.name)
            self._changed()

    async def _renew(self, mapper: Mapper) -> None:
        """Until the router refuses."""
        while self._mapped is not None:
            await trio.sleep(self._mapped.lease_s / 2 or RENEW_PERMANENT_S)
            try:
                await self._map(mapper)
            except NotMapped as error:
                self.state = PortMapping(mapper.name, self._port, problem=str(error))
                self._mapped = None
                self._changed()

    async def _give_back(self, mapper: Mapper) -> None:
        self._mapped = None
        with trio.CancelScope(shield=True, deadline=trio.current_time() + GOODBYE_S):
            try:
                await mapper.unmap(self._port)
            except NotMapped as error:
                log.debug("%s: %s", mapper.name, error)


def port_to_map(listening: Sequence[tuple[IPv4Address | None, int]]) -> int | None:
    """The first port that the network outside could use: IPv4, not on loopback; pure."""
    return next((port for ip, port in listening if ip is not None and not ip.is_loopback and port), None)
