"""Tests of :mod:`dms.network.addresses`."""

from __future__ import annotations

import pytest
from multiaddr import Multiaddr

from dms.network import InvalidAddress
from dms.network.addresses import (
    MAX_ADDRESSES_PER_PEER,
    MAX_PEERS,
    AddressBook,
    dial_order,
    expand,
    is_plain_tcp,
    is_relay,
    parse_address,
    parse_peer_id,
    split_address,
    transport_of,
)
from dms.types.ids import PeerID

ME = PeerID("12D3KooWJMtMN1mTNRfgMqUygT7eSXamVzc9ihpSjeairm9PebmB")
PEER = PeerID("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3")
OLD = PeerID("QmQ2irHa8aFTLRhkbkQCRrounE4MbttNp8ki7Nmys4F9NP")


@pytest.mark.parametrize("text", [PEER, OLD])
def test_ids_with_the_key_inside_and_with_its_hash_are_peer_ids(text: str) -> None:
    assert parse_peer_id(text) == text


@pytest.mark.parametrize("text", ["", "0OIl", "abc", PEER[:-3], PEER + "x", "é", "1" * 5000])
def test_other_text_is_no_peer_id(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_peer_id(text)


def test_an_address_is_split_from_its_peer() -> None:
    address, peer = split_address(f"/ip4/10.0.0.1/tcp/9000/p2p/{PEER}")
    assert (str(address), peer) == ("/ip4/10.0.0.1/tcp/9000", PEER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/ip4/10.0.0.1/tcp/9000",
        f"/p2p/{PEER}",
        f"/ip4/10.0.0.1/tcp/9000/p2p/{PEER}/tcp/1",
        "/ip4/10.0.0.1/tcp/9000/p2p/",
        f"/ip4/300.0.0.1/tcp/9000/p2p/{PEER}",
        "/ip4/1.1.1.1" * 100,
        "no address",
    ],
)
def test_what_names_no_peer_at_an_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        split_address(text)


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("/ip4/1.2.3.4/tcp/5", True),
        ("/ip6/::1/tcp/5", True),
        ("/dns4/example.org/tcp/5", True),
        (f"/ip4/1.2.3.4/tcp/5/p2p/{PEER}", True),
        ("/ip4/1.2.3.4/udp/5/quic-v1", False),
        ("/ip4/1.2.3.4/tcp/5/ws", False),
        (f"/ip4/1.2.3.4/tcp/5/p2p/{PEER}/p2p-circuit", False),
        ("/dnsaddr/example.org", False),
    ],
)
def test_only_tcp_with_nothing_on_top_is_plain(text: str, is_plain: bool) -> None:
    assert is_plain_tcp(parse_address(text)) is is_plain


def test_the_unspecified_address_becomes_those_of_the_interfaces() -> None:
    found = [str(address) for address in expand(Multiaddr("/ip4/0.0.0.0/tcp/9"))]
    assert "/ip4/127.0.0.1/tcp/9" in found
    assert not any("0.0.0.0" in address for address in found)
    assert expand(Multiaddr("/ip4/10.1.2.3/tcp/9")) == [Multiaddr("/ip4/10.1.2.3/tcp/9")]


def test_the_book_keeps_what_can_be_dialled() -> None:
    book = AddressBook(ME)
    book.learn(
        PEER,
        [
            Multiaddr(f"/ip4/10.0.0.1/tcp/1/p2p/{PEER}"),
            Multiaddr(f"/ip4/10.0.0.2/tcp/1/p2p/{ME}"),
            Multiaddr("/ip4/10.0.0.3/udp/1/quic-v1"),
            Multiaddr("/ip4/0.0.0.0/tcp/1"),
            Multiaddr("/ip4/224.0.0.1/tcp/1"),
            Multiaddr("/ip4/10.0.0.4/tcp/0"),
            Multiaddr("/ip4/127.0.0.1/tcp/1"),
        ],
        nearby=False,
    )
    assert [str(address) for address in book.addresses(PEER)] == ["/ip4/10.0.0.1/tcp/1"]


def test_the_book_does_not_list_ourselves() -> None:
    book = AddressBook(ME)
    book.learn(ME, [Multiaddr("/ip4/10.0.0.1/tcp/1")])
    assert book.addresses(ME) == ()


def test_a_peer_replaces_its_addresses_but_cannot_erase_them() -> None:
    book = AddressBook(ME)
    first, second = Multiaddr("/ip4/10.0.0.1/tcp/1"), Multiaddr("/ip4/10.0.0.2/tcp/1")
    book.learn(PEER, [first])
    book.learn(PEER, [second])
    assert book.addresses(PEER) == (second, first)
    book.replace(PEER, [first])
    assert book.addresses(PEER) == (first,)
    book.replace(PEER, [])
    assert book.addresses(PEER) == (first,)


def test_the_book_is_bounded_in_peers_and_addresses() -> None:
    book = AddressBook(ME)
    book.learn(PEER, [Multiaddr(f"/ip4/10.0.0.1/tcp/{port}") for port in range(1, 100)])
    assert len(book.addresses(PEER)) == MAX_ADDRESSES_PER_PEER

    for number in range(MAX_PEERS):
        book.learn(PeerID(f"peer {number}"), [Multiaddr("/ip4/10.0.0.1/tcp/1")])
    assert len(book) == MAX_PEERS
    assert book.addresses(PEER) == ()


@pytest.mark.parametrize(
    ("text", "transport", "relayed"),
    [
        ("/ip4/1.2.3.4/tcp/9000", "tcp", False),
        (f"/dns4/example.org/tcp/9000/p2p/{PEER}", "tcp", False),
        ("/ip4/1.2.3.4/udp/9000/quic-v1", "quic-v1", False),
        ("/ip4/1.2.3.4/tcp/9000/ws", "ws", False),
        (f"/ip4/1.2.3.4/tcp/9000/p2p/{PEER}/p2p-circuit", "tcp", True),
    ],
)
def test_an_address_tells_its_transport_and_whether_it_is_relayed(text: str, transport: str, relayed: bool) -> None:
    assert (transport_of(parse_address(text)), is_relay(parse_address(text))) == (transport, relayed)


def test_relays_are_dialled_last_and_never_crowded_out() -> None:
    relay = "12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3"
    direct = [Multiaddr(f"/ip4/10.0.0.{number}/tcp/9000") for number in range(1, 13)]
    relayed = [Multiaddr(f"/ip4/5.6.7.{number}/tcp/1/p2p/{relay}/p2p-circuit") for number in range(1, 5)]
    assert dial_order([*relayed, *direct], 8) == [*direct[:6], *relayed[:2]]
    assert dial_order(direct, 8) == direct[:8]
    assert dial_order(relayed[:1], 8) == relayed[:1]


def test_only_addresses_that_we_can_dial_through_relays_are_remembered() -> None:
    relay, peer = (
        "12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3",
        PeerID("12D3KooWJMtMN1mTNRfgMqUygT7eSXamVzc9ihpSjeairm9PebmB"),
    )
    good = f"/ip4/5.6.7.8/tcp/1/p2p/{relay}/p2p-circuit"
    book = AddressBook(PeerID("12D3KooWKjSodxxi7UfRHzuk7eGgUF49MoPUCJvtva9K12TqDDsi"))
    book.learn(
        peer,
        [
            Multiaddr(text)
            for text in (
                f"{good}/p2p/{peer}",
                f"{good}/p2p/{relay}",
                f"/ip4/5.6.7.8/udp/1/quic-v1/p2p/{relay}/p2p-circuit",
                f"/p2p/{relay}/p2p-circuit",
                f"{good}/p2p/{relay}/p2p-circuit",
            )
        ],
    )
    assert book.addresses(peer) == (Multiaddr(good),)
