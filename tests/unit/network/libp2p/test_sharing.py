"""Dialling from the port that we listen on."""

from __future__ import annotations

import socket

import pytest
import trio
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.errors import AddressInUse
from dms.network.libp2p.connections.ports import open_ports
from dms.network.libp2p.connections.sharing import SharingTCP, dial_from


def port_of(address: Multiaddr) -> int:
    return int(str(address).split("/")[4])


async def test_connections_that_we_open_may_come_from_the_port_that_we_listen_on() -> None:
    (ours,) = open_ports(["/ip4/127.0.0.1/tcp/0"])
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    target = Multiaddr(f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}")
    connection = await dial_from(("127.0.0.1", port_of(ours.bound)), target)
    accepted = await listeners[0].accept()
    assert accepted.socket.getpeername()[1] == port_of(ours.bound)

    # the same pair of ports is taken now: any other will do
    again = await SharingTCP(lambda _: ("127.0.0.1", port_of(ours.bound))).dial(target)
    other = await listeners[0].accept()
    assert other.socket.getpeername()[1] != port_of(ours.bound)
    for one in (connection, again, accepted, other, listeners[0], ours):
        await (one.aclose() if isinstance(one, trio.SocketStream | trio.SocketListener) else one.close())


async def test_a_second_program_still_cannot_listen_there() -> None:
    (ours,) = open_ports(["/ip4/127.0.0.1/tcp/0"])
    with pytest.raises(AddressInUse):
        open_ports([str(ours.bound)])
    with socket.socket() as careless:
        careless.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            careless.bind(("127.0.0.1", port_of(ours.bound)))
    await ours.close()


async def test_an_address_that_refuses_is_not_tried_again_from_elsewhere() -> None:
    (ours,) = open_ports(["/ip4/127.0.0.1/tcp/0"])
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = Multiaddr(f"/ip4/127.0.0.1/tcp/{closed.getsockname()[1]}")
    with pytest.raises(OpenConnectionError, match="does not answer"):
        await SharingTCP(lambda _: ("127.0.0.1", port_of(ours.bound))).dial(nobody)
    await ours.close()
