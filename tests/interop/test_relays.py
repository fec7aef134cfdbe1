"""Relays (circuit v2) with js-libp2p in every role: who forwards, who is dialled, who dials."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import pytest
from tests.interop.javascript import Remote
from tests.interop.nodes import NodeMaker, python_node, until

from dms.network.libp2p import Libp2pNetwork
from dms.network.libp2p.reach.options import ReachOptions, When
from dms.network.swarm_key import SwarmKey
from dms.types.ids import PeerID

pytestmark = pytest.mark.interop

SIZE = 100_000
FILL = 0x2A

_numbers = itertools.count()


class Node(Protocol):
    """One end of a connection through a relay, of either kind."""

    @property
    def peer(self) -> str:
        """Its id."""
        ...

    async def listen_through(self, relay: str) -> str:
        """Reserve a place at a relay; the address at which others reach us now."""
        ...

    async def dial(self, address: str) -> bool:
        """Connect; whether that goes through a relay."""
        ...

    async def attend(self, protocol: str) -> Callable[[], Awaitable[None]]:
        """Receive; returns what waits for a message of :data:`SIZE` bytes."""
        ...

    async def send(self, peer: str, protocol: str) -> None:
        """Send a message of that size."""
        ...

    async def ping(self, peer: str) -> None:
        """One round trip."""
        ...


@dataclass
class InPython:
    """A node of ours."""

    network: Libp2pNetwork

    @property
    def peer(self) -> str:
        return self.network.peer_id

    async def listen_through(self, relay: str) -> str:
        await self.network.connect(relay)
        await until(lambda: self._relayed())
        return self._relayed()[0]

    async def dial(self, address: str) -> bool:
        peer = await self.network.connect(address)
        (info,) = [one for one in self.network.peers() if one.peer == peer]
        return info.is_relayed

    async def attend(self, protocol: str) -> Callable[[], Awaitable[None]]:
        got = list[bytes]()

        async def keep(_sender: PeerID, data: bytes) -> None:
            got.append(data)

        async def arrived() -> None:
            await until(lambda: got)
            assert got == [bytes([FILL]) * SIZE]

        self.network.handle(protocol, keep)
        return arrived

    async def send(self, peer: str, protocol: str) -> None:
        await self.network.send(PeerID(peer), protocol, bytes([FILL]) * SIZE)

    async def ping(self, peer: str) -> None:
        await self.network.ping(PeerID(peer), timeout_s=10)

    def _relayed(self) -> list[str]:
        return [one for one in self.network.reachability.report().announced if "/p2p-circuit/" in one]


@dataclass
class InJavaScript:
    """A node of js-libp2p."""

    remote: Remote

    @property
    def peer(self) -> str:
        return self.remote.peer

    async def listen_through(self, relay: str) -> str:
        addresses = (await self.remote.do("reserve", address=relay))["addresses"]
        return next(str(one) for one in addresses if one.startswith(f"{relay}/p2p-circuit"))

    async def dial(self, address: str) -> bool:
        return bool((await self.remote.do("dial", address=address))["relayed"])

    async def attend(self, protocol: str) -> Callable[[], Awaitable[None]]:
        async def arrived() -> None:
            await self.remote.event("message", protocol=protocol, bytes=SIZE)

        await self.remote.do("handle", protocol=protocol)
        return arrived

    async def send(self, peer: str, protocol: str) -> None:
        await self.remote.do("send", peer=peer, protocol=protocol, bytes=SIZE, fill=FILL)

    async def ping(self, peer: str) -> None:
        await self.remote.do("ping", peer=peer)


KINDS = ("Python", "JavaScript")
ROLES = [
    pytest.param(
        f"{dialling} dials",
        relaying,
        dialled,
        marks=pytest.mark.row(f"Through a relay in {relaying} to a node in {dialled}"),
    )
    for relaying, dialled, dialling in itertools.product(KINDS, KINDS, KINDS)
    if len({relaying, dialled, dialling}) > 1
]


def reach(*, service: bool = False, client: bool = False, punching: bool = False) -> ReachOptions:
    """What a node of ours does, on loopback and without delay."""
    return ReachOptions(
        relay_service=When.ON if service else When.OFF,
        relay_client=When.ON if client else When.OFF,
        hole_punching=punching,
        is_public=lambda _ip: True,
        first_ask_s=0.05 if client else 3600,  # those asked would connect directly
        boot_delay_s=0.05,
    )


@pytest.mark.parametrize(("dialler", "relaying", "dialled"), ROLES)
async def test_messages_pass_through_a_relay(javascript: NodeMaker, dialler: str, relaying: str, dialled: str) -> None:
    dialling = dialler.removesuffix(" dials")
    async with AsyncExitStack() as stack:

        async def javascript_node(*arguments: str, number: int = 0) -> Remote:
            return await stack.enter_async_context(javascript(*arguments, number=number).attached())

        async def python(**options: object) -> Libp2pNetwork:
            return await stack.enter_async_context(python_node(**options))

        if relaying == "JavaScript":
            relay = (await javascript_node("--relay")).address
        else:
            relay = (await python(reach=reach(service=True))).listen_addresses[0]
        here: Node
        there: Node
        if dialling == "JavaScript":
            here = InJavaScript(await javascript_node("--alone", number=5))
        else:
            here = InPython(await python(reach=reach()))
        if dialled == "JavaScript":
            there = InJavaScript(await javascript_node("--alone", number=4))
        else:
            there = InPython(await python(listen=(), reach=reach(client=True)))

        address = await there.listen_through(relay)
        assert address.startswith(f"{relay}/p2p-circuit")
        assert await here.dial(f"{relay}/p2p-circuit/p2p/{there.peer}")
        await here.ping(there.peer)
        for sender, receiver in ((here, there), (there, here)):
            protocol = f"actor/relayed{next(_numbers)}/messages/0.0.1"
            arrived = await receiver.attend(protocol)
            await sender.send(receiver.peer, protocol)
            await arrived()


@pytest.mark.parametrize("dialler", ["JavaScript dials"])  # it never leads towards an address like loopback's
@pytest.mark.row("A connection through a relay in Python becomes a direct one")
async def test_a_relayed_connection_becomes_a_direct_one(javascript: NodeMaker, dialler: str) -> None:
    async with (
        python_node(reach=reach(service=True)) as relay,
        python_node(reach=reach(client=True, punching=True)) as network,
        javascript("--hole-punching").attached() as remote,
    ):
        through = relay.listen_addresses[0]
        await InPython(network).listen_through(through)
        assert await InJavaScript(remote).dial(f"{through}/p2p-circuit/p2p/{network.peer_id}")
        await until(lambda: any(one.peer == remote.peer and not one.is_relayed for one in network.peers()))


@pytest.mark.row("The same network key: through a relay in Python")
async def test_connections_through_a_relay_of_a_private_network_are_private_too(
    javascript: NodeMaker, swarm_key: SwarmKey, dialler: str
) -> None:
    is_python_dialling = dialler == "Python dials"
    async with (
        python_node(swarm_key=swarm_key, reach=reach(service=True)) as relay,
        python_node(
            swarm_key=swarm_key,
            reach=reach(client=not is_python_dialling),
            **({} if is_python_dialling else {"listen": ()}),
        ) as network,
        javascript("--alone", private=True).attached() as remote,
    ):
        ends: tuple[Node, Node] = InPython(network), InJavaScript(remote)
        here, there = ends if is_python_dialling else reversed(ends)
        through = relay.listen_addresses[0]
        await there.listen_through(through)
        assert await here.dial(f"{through}/p2p-circuit/p2p/{there.peer}")
        await here.ping(there.peer)
        protocol = f"actor/relayed{next(_numbers)}/messages/0.0.1"
        arrived = await there.attend(protocol)
        await here.send(there.peer, protocol)
        await arrived()
