"""Where a port of an allocation is tried."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from dms.executor.protocol import NetInfo, PortBinding
from dms.node.endpoints import Endpoint, connect, connect_to_first, endpoints_of, is_on_link, with_ports
from dms.subnet.errors import NamespaceGone, NotConnected
from dms.subnet.pipes import Pipe

INSIDE = Path("/proc/7/ns/net")
NET = NetInfo("eth0", "br", "198.18.3.2", "198.18.3.2/24", namespace=INSIDE)


def test_a_member_is_tried_at_its_addresses_and_its_owner_also_finds_the_loopback() -> None:
    member = endpoints_of(NET, {"18000": 80}, 80, private="10.1.2.3")
    assert member == [
        Endpoint("10.1.2.3", 80, INSIDE),
        Endpoint("198.18.3.2", 80, INSIDE),
        Endpoint("127.0.0.1", 18000),
    ]
    owner = endpoints_of(NET, {"18000": 80}, 80, private="10.1.2.3", is_owner=True)
    assert owner == [Endpoint("127.0.0.1", 80, INSIDE), *member]


def test_without_a_namespace_the_address_is_tried_only_where_an_interface_leads_there() -> None:
    net = NetInfo("eth0", "br", "198.18.3.2", "198.18.3.2/24")
    assert endpoints_of(net, {}, 80) == []
    assert endpoints_of(net, {}, 80, is_on_link=lambda _: True) == [Endpoint("198.18.3.2", 80)]


def test_a_public_number_means_the_port_behind_it_and_nothing_else_of_the_machine_is_tried() -> None:
    assert endpoints_of(None, {"18000": 80}, 18000) == [Endpoint("127.0.0.1", 18000)]
    assert endpoints_of(None, {"18000": 80}, 22) == []
    assert endpoints_of(None, {"18000": 80, "80": 90}, 80) == [Endpoint("127.0.0.1", 18000)]


def test_what_the_backend_knows_of_ports_counts_too() -> None:
    net = NetInfo(mapped_ports=(PortBinding("0.0.0.0", 18001, 81), PortBinding("", 18002, 53, "udp")))
    assert with_ports(net, {"18000": 80}) == {"18000": 80, "18001": 81}


def test_only_what_is_in_the_network_of_an_interface_is_on_link() -> None:
    from ipaddress import IPv4Interface

    assert is_on_link(IPv4Interface("127.0.0.1/8"))
    assert not is_on_link(IPv4Interface("203.0.113.7/24"))


async def test_a_port_that_listens_is_connected() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        pipe = await connect(Endpoint("127.0.0.1", listener.socket.getsockname()[1]))
        async with await listener.accept() as other:
            await pipe.write(b"hello")
            assert await other.receive_some() == b"hello"
        await pipe.reset()


async def test_the_reason_of_the_last_one_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(NotConnected, match=f"port {port} is not reached: Connection refused"):
            await connect_to_first([Endpoint("127.0.0.1", port)], connect, port)
    with pytest.raises(NotConnected, match="no port of the machine leads to it"):
        await connect_to_first([], connect, 80)


async def test_a_namespace_that_cannot_be_entered_is_passed_over() -> None:
    tried = []

    async def try_(endpoint: Endpoint) -> Pipe:
        tried.append(endpoint)
        raise NamespaceGone

    with pytest.raises(NotConnected, match="The network namespace is gone"):
        await connect_to_first([Endpoint("a", 1, INSIDE), Endpoint("b", 1)], try_, 1)
    assert len(tried) == 2
