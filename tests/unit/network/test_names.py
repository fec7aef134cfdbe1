"""Tests of :mod:`dms.network.names`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.network.names import NetworkNames, check_network_id
from dms.types.errors import BadInput

IDS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")


def test_the_public_network_has_the_names_of_the_original() -> None:
    names = NetworkNames()
    assert names.dht_protocol == "/nunet/kad/1.0.0"
    assert names.rendezvous == "nunet-test"
    assert names.mdns_service == "_p2p._udp.local"
    assert names.peers_protocol == "nunet/peers/0.0.1"
    assert names.topic("/nunet/hello") == names.topic_here("/nunet/hello") == "/nunet/hello"


@given(IDS, IDS)
def test_no_two_networks_share_a_name(one: str, two: str) -> None:
    assert check_network_id(one) == one
    if one == two:
        return
    for a, b in ((NetworkNames(one), NetworkNames(two)), (NetworkNames(one), NetworkNames())):
        assert a.dht_protocol != b.dht_protocol
        assert a.rendezvous != b.rendezvous
        assert a.mdns_service != b.mdns_service
        assert a.peers_protocol != b.peers_protocol
        assert a.topic("/nunet/hello") != b.topic("/nunet/hello")


@given(IDS, st.sampled_from(["/nunet/hello", "/nunet/deployment", "/nunet/a/b"]))
def test_topics_are_translated_and_back(network_id: str, topic: str) -> None:
    names = NetworkNames(network_id)
    assert names.topic_here(names.topic(topic)) == topic
    assert names.topic_here("/nunet/hello") is None or network_id == "hello"


def test_a_name_on_the_local_network_does_not_tell_the_id_of_the_network() -> None:
    assert "acme" not in NetworkNames("acme").mdns_service


@pytest.mark.parametrize("text", ["A", "a_b", "-a", "a-", "a/b", "a" * 33, " a", "ä"])
def test_ids_are_short_and_plain(text: str) -> None:
    with pytest.raises(BadInput):
        check_network_id(text)


def test_who_is_of_another_network_is_no_member() -> None:
    public, acme, lab = NetworkNames(), NetworkNames("acme"), NetworkNames("lab")
    for network in (public, acme, lab):
        for protocol in (network.peers_protocol, network.dht_protocol):
            assert network.is_member(["/ipfs/ping/1.0.0", protocol])
            assert not any(other.is_member([protocol]) for other in (public, acme, lab) if other is not network)
    assert public.is_member(["/ipfs/ping/1.0.0"])  # such as a peer of another implementation
    assert not acme.is_member(["/ipfs/ping/1.0.0"])
