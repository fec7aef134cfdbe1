"""A network of its own for each tenant: allocations of one ensemble reach each other, those of others are not there.

The engine keeps packets from passing between its networks, unless its owner has switched its firewall rules off *and*
lets the machine forward packets. The way out and the ports of the machine are as everywhere.

A network is there as long as some execution that we know wants it. It carries the executor's label, so that a later
process finds and removes what a killed one left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import trio

from dms.executor.docker.api import DockerApi
from dms.executor.docker.container import LABEL_EXECUTOR
from dms.executor.docker.engine import Engine
from dms.executor.docker.shapes import CREATED, NETWORK, list_of
from dms.executor.errors import EngineRefused, ExecutorError, StartFailed
from dms.observe.log import get_logger

log = get_logger(__name__)

PREFIX = "nunet-"
POOL = ip_network("198.18.0.0/15")
"""Set aside for measurements (RFC 2544), so that nothing of a provider's own network hides behind it. The engine's own
pool holds some thirty networks in all."""
SUBNET_BITS = 24
MAX_TRIES = 32


class TenantNetworks:
    """On one engine, for one executor. ``is_used`` tells whether an execution wants a network of that name."""

    def __init__(self, api: DockerApi, engine: Engine, executor_id: str, is_used: Callable[[str], bool]) -> None:
        self._api, self._engine, self._executor_id, self._is_used = api, engine, executor_id, is_used
        self._lock = trio.Lock()

    def name(self, tenant: str) -> str:
        """Of a tenant's network; empty: it needs none. Podman without root gives each container one of its own."""
        if not tenant or (self._engine.kind == "podman" and self._engine.is_rootless):
            return ""
        return PREFIX + hashlib.sha256(f"{self._executor_id}\n{tenant}".encode()).hexdigest()[:16]

    async def ensure(self, name: str) -> None:
        """Make it, unless it is there.

        :raises StartFailed: it cannot be made.
        """
        async with self._lock:
            if await self._is_there(name):
                return
            reason = "there is no address left for it"
            for subnet in self._subnets(name):
                try:
                    await self._api.call("POST", "/networks/create", body=self._described(name, subnet), shape=CREATED)
                except EngineRefused as exc:
                    reason = exc.message
                    if not _is_about_addresses(reason):
                        break
                else:
                    return
            raise StartFailed(f"a network for the ensemble cannot be made: {reason}")

    async def gateway(self, name: str) -> str:
        """Where the containers of a network reach this machine; empty where nobody knows."""
        if not name:
            return ""
        try:
            told = await self._api.call("GET", f"/networks/{name}", shape=NETWORK)
        except EngineRefused:
            return ""
        for entry in (told.get("IPAM") or {}).get("Config") or ():
            try:
                subnet = ip_network(str(entry.get("Subnet") or ""))
                return str(ip_address(entry.get("Gateway") or subnet.network_address + 1))
            except ValueError:
                continue
        return ""

    async def drop(self, name: str) -> None:
        """Remove it, unless somebody wants it. A failure is no reason to stop anything: the next start tries again."""
        async with self._lock:
            if name and not self._is_used(name):
                await self._delete(name)

    async def drop_unused(self) -> None:
        """Remove all that nobody wants, those of an earlier process included."""
        query = {"filters": {"label": [f"{LABEL_EXECUTOR}={self._executor_id}"]}}
        async with self._lock:
            for network in list_of(NETWORK, await self._api.call("GET", "/networks", query=query), "networks"):
                name = str(network["Name"])
                if name.startswith(PREFIX) and not self._is_used(name):
                    await self._delete(name)

    async def _is_there(self, name: str) -> bool:
        query = {"filters": {"name": [name]}}
        found = list_of(NETWORK, await self._api.call("GET", "/networks", query=query), "networks")
        same = [network for network in found if network["Name"] == name]  # the filter takes parts of names
        if any((network.get("Labels") or {}).get(LABEL_EXECUTOR) != self._executor_id for network in same):
            raise StartFailed(f"the network {name} belongs to somebody else")
        return bool(same)

    async def _delete(self, name: str) -> None:
        try:
            await self._api.call("DELETE", f"/networks/{name}")
        except EngineRefused as exc:
            if exc.status != 404:
                log.warning("network_not_removed", network=name, reason=exc.message)
        except ExecutorError as exc:
            log.warning("network_not_removed", network=name, reason=exc.message)

    def _subnets(self, name: str) -> list[str]:
        """Where to try, each name elsewhere."""
        count = 1 << (SUBNET_BITS - POOL.prefixlen)
        first = int(name.removeprefix(PREFIX), 16)
        size = 1 << (32 - SUBNET_BITS)
        starts = [POOL.network_address + (first + step) % count * size for step in range(MAX_TRIES)]
        return [f"{start}/{SUBNET_BITS}" for start in starts]

    def _described(self, name: str, subnet: str) -> dict[str, object]:
        options = {"isolate": "true"} if self._engine.kind == "podman" else {}
        return {
            "Name": name,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Attachable": False,
            "Labels": {LABEL_EXECUTOR: self._executor_id},
            "Options": options,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": subnet}]},
        }


def _is_about_addresses(reason: str) -> bool:
    lowered = reason.lower()
    return any(word in lowered for word in ("overlap", "subnet", "address pool", "conflicts with network"))
