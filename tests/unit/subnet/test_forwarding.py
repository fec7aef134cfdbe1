from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address

import pytest

from dms.subnet.addresses import private_prefix, to_ipv6
from dms.subnet.forwarding import TO_GATEWAY, Forwarder, ToPeer, ToPort
from dms.subnet.packets import Header, parse_header, udp_packet
from dms.subnet.routing import RoutingTable
from dms.subnet.tally import Drop
from dms.types.ids import PeerID

OWN, OTHER, THIRD = PeerID("own"), PeerID("other"), PeerID("third")
PREFIX = private_prefix("id")


def both(text: str) -> tuple[bytes, bytes]:
    return IPv4Address(text).packed, to_ipv6(PREFIX, IPv4Address(text)).packed


def forwarder() -> Forwarder[str]:
    """Two members here, .2 and .3; one at each of two peers, .4 and .5; .6 is ours but not attached yet."""
    table = RoutingTable(IPv4Network("10.1.2.0/24"), PREFIX)
    table.add_all({"10.1.2.2": OWN, "10.1.2.3": OWN, "10.1.2.6": OWN, "10.1.2.4": OTHER, "10.1.2.5": THIRD})
    made: Forwarder[str] = Forwarder(OWN, table, both("10.1.2.1"))
    made.attach(both("10.1.2.2"), "two")
    made.attach(both("10.1.2.3"), "three")
    return made


def header(source: str, destination: str, family: int) -> Header:
    """Addresses of the network in either family, others as they are."""
    packed = []
    for text in (source, destination):
        if text.startswith("10.1.2."):
            packed.append(both(text)[family])
        else:
            packed.append(ip_address(text).packed)
    return parse_header(udp_packet(packed[0], 1, packed[1], 2, b""))


@pytest.mark.parametrize("family", [0, 1])
def test_where_a_packet_of_a_member_here_goes(family: int) -> None:
    made, allowed = forwarder(), frozenset(both("10.1.2.2"))

    def goes(source: str, destination: str) -> object:
        return made.outbound(header(source, destination, family), allowed)

    assert goes("10.1.2.2", "10.1.2.3") == ToPort("three")
    assert goes("10.1.2.2", "10.1.2.2") == ToPort("two")
    assert goes("10.1.2.2", "10.1.2.4") == ToPeer(OTHER)
    assert goes("10.1.2.2", "10.1.2.5") == ToPeer(THIRD)
    assert goes("10.1.2.2", "10.1.2.1") is TO_GATEWAY
    assert goes("10.1.2.2", "10.1.2.6") is Drop.NO_ROUTE
    assert goes("10.1.2.2", "10.1.2.99") is Drop.NO_ROUTE
    assert goes("10.1.2.3", "10.1.2.4") is Drop.FORGED_SOURCE
    assert goes("10.1.2.1", "10.1.2.4") is Drop.FORGED_SOURCE
    assert goes("10.1.2.2", "8.8.8.8" if family == 0 else "2001:db8::1") is Drop.NO_ROUTE
    assert goes("10.1.2.2", "239.0.0.1" if family == 0 else "ff02::2") is Drop.MULTICAST
    assert goes("10.9.9.9" if family == 0 else "fe80::1", "10.1.2.4") is Drop.FORGED_SOURCE


@pytest.mark.parametrize("family", [0, 1])
def test_where_a_packet_of_a_peer_goes(family: int) -> None:
    made = forwarder()

    def goes(source: str, destination: str, sender: PeerID = OTHER) -> object:
        return made.inbound(header(source, destination, family), sender)

    assert goes("10.1.2.4", "10.1.2.2") == ToPort("two")
    assert goes("10.1.2.5", "10.1.2.2") is Drop.FORGED_SOURCE, "the address of another peer"
    assert goes("10.1.2.3", "10.1.2.2") is Drop.FORGED_SOURCE, "our own address"
    assert goes("10.1.2.1", "10.1.2.2") is Drop.FORGED_SOURCE, "the gateway's"
    assert goes("10.1.2.99", "10.1.2.2") is Drop.FORGED_SOURCE
    assert goes("10.1.2.4", "10.1.2.2", THIRD) is Drop.FORGED_SOURCE
    for elsewhere in ("10.1.2.5", "10.1.2.1", "10.1.2.6", "10.1.2.99"):
        assert goes("10.1.2.4", elsewhere) is Drop.NOT_OURS
    assert goes("10.1.2.4", "239.0.0.1" if family == 0 else "ff02::2") is Drop.NOT_OURS


def test_an_address_that_was_detached_has_no_port() -> None:
    made = forwarder()
    made.detach(both("10.1.2.2"))
    assert made.inbound(header("10.1.2.4", "10.1.2.2", 0), OTHER) is Drop.NOT_OURS
    assert made.inbound(header("10.1.2.4", "10.1.2.3", 0), OTHER) == ToPort("three")
