from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dms.subnet.addresses import private_prefix, to_ipv6
from dms.subnet.errors import InvalidIP
from dms.subnet.routing import RoutingTable
from dms.types.ids import PeerID

NETWORK = IPv4Network("10.1.2.0/24")
PREFIX = private_prefix("id")
A, B, C = PeerID("a"), PeerID("b"), PeerID("c")

addresses = st.integers(1, 6).map(lambda n: f"10.1.2.{n}")
peers = st.sampled_from([A, B, C])


class Model(RuleBasedStateMachine):
    """The table beside a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.table = RoutingTable(NETWORK, PREFIX)
        self.model: dict[str, PeerID] = {}

    @rule(address=addresses, peer=peers)
    def add(self, address: str, peer: PeerID) -> None:
        before = self.model.get(address)
        assert self.table.add(address, peer) == (before if before != peer else None)
        self.model[address] = peer

    @rule(address=addresses, peer=st.none() | peers)
    def remove(self, address: str, peer: PeerID | None) -> None:
        there = address in self.model and peer in (None, self.model[address])
        assert self.table.remove(address, peer) is there
        if there:
            del self.model[address]

    @rule(peer=peers)
    def remove_peer(self, peer: PeerID) -> None:
        gone = {str(each) for each in self.table.remove_peer(peer)}
        assert gone == {address for address, owner in self.model.items() if owner == peer}
        self.model = {address: owner for address, owner in self.model.items() if owner != peer}

    @invariant()
    def agrees(self) -> None:
        assert self.table.to_wire() == self.model
        assert len(self.table) == len(self.model)
        assert set(self.table.peers()) == set(self.model.values())
        for number in range(1, 7):
            address = IPv4Address(f"10.1.2.{number}")
            wanted = self.model.get(str(address))
            assert self.table.peer_of(address) == wanted
            assert self.table.lookup(address.packed) == wanted
            assert self.table.lookup(to_ipv6(PREFIX, address).packed) == wanted
        for peer in (A, B, C):
            own = [IPv4Address(address) for address, owner in self.model.items() if owner == peer]
            assert sorted(self.table.addresses_of(peer)) == sorted(own)
            assert (peer in self.table) is bool(own)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=30, stateful_step_count=30)


def test_removing_one_address_leaves_the_others_of_the_peer() -> None:
    table = RoutingTable(NETWORK, PREFIX)
    table.add_all({"10.1.2.2": A, "10.1.2.3": A})
    assert table.remove("10.1.2.2")
    assert table.to_wire() == {"10.1.2.3": A}


def test_a_table_with_one_wrong_address_adds_nothing() -> None:
    table = RoutingTable(NETWORK, PREFIX)
    with pytest.raises(InvalidIP, match=r"invalid IP address 10\.9\.9\.9"):
        table.add_all({"10.1.2.2": A, "10.9.9.9": B})
    assert len(table) == 0


def test_addresses_of_other_prefixes_have_no_owner() -> None:
    table = RoutingTable(NETWORK, PREFIX)
    table.add("10.1.2.2", A)
    other = to_ipv6(private_prefix("other"), IPv4Address("10.1.2.2"))
    assert table.lookup(other.packed) is None
    assert table.lookup(b"") is None
