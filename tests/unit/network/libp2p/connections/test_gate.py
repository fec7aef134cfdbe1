from __future__ import annotations

from ipaddress import ip_address

import pytest
from multiaddr import Multiaddr

from dms.network.libp2p.connections.gate import Gate, is_private
from dms.types.ids import PeerID

A, B = PeerID("12D3KooWA"), PeerID("12D3KooWB")


def test_everybody_is_let_in_by_default() -> None:
    assert Gate().refuses(A) == ""
    assert not Gate().refuses_ip(ip_address("10.0.0.1"))


def test_denied_peers_are_refused_and_with_a_list_of_allowed_ones_all_others_too() -> None:
    assert "deny_peers" in Gate(deny=[A]).refuses(A)
    assert Gate(deny=[A]).refuses(B) == ""
    assert "allow_peers" in Gate(allow=[A]).refuses(B)
    assert Gate(allow=[A]).refuses(A) == ""
    assert Gate(deny=[A], allow=[A]).refuses(A) != ""


def test_a_change_counts_from_then_on() -> None:
    gate = Gate(deny=[A])
    gate.change(deny=[B], allow=[])
    assert (gate.refuses(A), bool(gate.refuses(B))) == ("", True)


@pytest.mark.parametrize(
    "text",
    [
        "10.255.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.19.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "240.0.0.1",
        "100::1",
        "2001:2::1",
        "2001:db8::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ],
)
def test_private_addresses_are_left_alone_in_server_mode(text: str) -> None:
    assert is_private(ip_address(text))
    assert Gate(server_mode=True).refuses_ip(ip_address(text))
    assert not Gate().refuses_ip(ip_address(text))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "100.63.0.1", "100.128.0.1", "172.32.0.1", "127.0.0.1", "::1", "2600::1", "::ffff:8.8.8.8"]
)
def test_public_addresses_and_those_of_the_machine_itself_are_not(text: str) -> None:
    assert not Gate(server_mode=True).refuses_ip(ip_address(text))


def test_of_addresses_only_those_pass_that_mean_the_same_everywhere() -> None:
    addresses = [Multiaddr(f"/ip4/{ip}/tcp/9000") for ip in ("192.168.1.4", "8.8.8.8", "127.0.0.1")]
    addresses.append(Multiaddr("/dns4/example.org/tcp/9000"))
    assert Gate(server_mode=True).passing(addresses) == addresses[1:]
    assert Gate().passing(addresses) == addresses
