"""How real nodes find each other; loopback sockets."""

from __future__ import annotations

import logging
import socket

import pytest
import trio

from dms.network.libp2p import Libp2pNetwork

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


def node(number: int, *bootstrap: str, listen: tuple[str, ...] = LOOPBACK) -> Libp2pNetwork:
    return Libp2pNetwork(seed=(number + (1 << 100)).to_bytes(32, "big"), listen=listen, bootstrap=bootstrap)


async def connected(a: Libp2pNetwork, b: Libp2pNetwork) -> None:
    with trio.fail_after(15):
        while not (a.is_connected(b.peer_id) and b.is_connected(a.peer_id)):  # noqa: ASYNC110
            await trio.sleep(0.005)


async def test_nodes_with_the_same_bootstrap_peer_connect_to_each_other() -> None:
    hub = node(1)
    async with hub.run():
        nodes = [node(number, *hub.listen_addresses) for number in (2, 3, 4)]
        async with nodes[0].run(), nodes[1].run(), nodes[2].run():
            for one in nodes:
                for other in nodes:
                    if one is not other:
                        await connected(one, other)


async def test_a_bootstrap_peer_that_comes_late_or_comes_back_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    hub = node(5, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
    eager = node(6, f"/ip4/127.0.0.1/tcp/{port}/p2p/{hub.peer_id}")
    async with eager.run():
        for _ in range(2):
            async with hub.run():
                await connected(eager, hub)


async def test_a_bootstrap_address_that_is_unusable_only_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="dms.network")
    broken = ("/dnsaddr/does-not-exist.invalid/p2p/12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3", "nonsense")
    async with node(7, *broken).run():
        with trio.fail_after(15):
            while not all(address in caplog.text for address in broken):  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_addresses_that_are_not_tcp_are_skipped_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="dms.network")
    quic = "/ip4/127.0.0.1/udp/0/quic-v1"
    async with node(8, listen=(quic, *LOOPBACK)).run():
        pass
    assert quic in caplog.text
