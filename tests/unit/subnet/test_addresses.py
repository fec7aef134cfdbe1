from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.subnet.addresses import (
    POOL,
    AddressPlan,
    choose_network,
    host_of,
    parse_network,
    private_prefix,
    to_ipv4,
    to_ipv6,
)
from dms.subnet.errors import InvalidIP, NoAddressLeft

networks = st.builds(
    lambda start, bits: IPv4Network((int(POOL.network_address) + (start >> (32 - bits) << (32 - bits)), bits)),
    st.integers(0, POOL.num_addresses - 1),
    st.integers(9, 32),
)


@given(st.integers(), st.lists(networks, max_size=20), st.integers(1, 5000))
def test_a_chosen_network_overlaps_nothing_in_use_and_has_room(
    seed: int, in_use: list[IPv4Network], members: int
) -> None:
    try:
        found = choose_network(Random(seed), in_use, members=members)
    except NoAddressLeft:
        free = POOL.num_addresses - sum(each.num_addresses for each in in_use)
        assert free < POOL.num_addresses  # an empty pool is never full
        return
    assert found.subnet_of(POOL)
    assert not any(found.overlaps(each) for each in in_use)
    assert found.num_addresses - 3 >= members
    assert found.prefixlen == 24 or members > 253


@given(st.integers(), st.integers(0, 65535))
@settings(max_examples=30)
def test_the_last_free_network_is_found_wherever_the_search_begins(seed: int, index: int) -> None:
    hole = IPv4Network((int(POOL.network_address) + index * 256, 24))
    assert choose_network(Random(seed), POOL.address_exclude(hole)) == hole


def test_a_full_pool_and_too_many_members_are_said() -> None:
    with pytest.raises(NoAddressLeft, match="is free"):
        choose_network(Random(1), ["10.0.0.0/9", "10.128.0.0/9", "192.168.0.0/16"])
    with pytest.raises(NoAddressLeft, match="cannot have 20000000 members"):
        choose_network(Random(1), members=20_000_000)
    assert choose_network(Random(1), members=POOL.num_addresses - 3) == POOL


def test_different_seeds_choose_different_networks() -> None:
    assert len({choose_network(Random(seed)) for seed in range(20)}) > 15


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([f"n{i}" for i in range(12)])), max_size=60))
def test_assigned_addresses_are_distinct_hosts_and_stable_under_any_order(steps: list[tuple[bool, str]]) -> None:
    plan = AddressPlan("10.1.2.0/28")
    for assigns, name in steps:
        before = plan.addresses()
        if assigns:
            got = plan.assign(name)
            assert got == before.get(name, got)
            assert got in plan.network
            assert got not in (plan.network.network_address, plan.gateway, plan.network.broadcast_address)
        else:
            plan.release(name)
        now = plan.addresses()
        assert len(set(now.values())) == len(now)
        assert all(now[one] == before[one] for one in before.keys() & now.keys())


def test_the_lowest_free_address_is_taken_and_the_end_is_said() -> None:
    plan = AddressPlan("10.1.2.0/24", {"b": "10.1.2.3"})
    assert [str(plan.assign(name)) for name in "acb"] == ["10.1.2.2", "10.1.2.4", "10.1.2.3"]
    plan.release("a")
    assert str(plan.assign("d")) == "10.1.2.2"
    for number in range(250):
        plan.assign(f"x{number}")
    with pytest.raises(NoAddressLeft, match="is taken"):
        plan.assign("one too many")


def test_a_reserved_address_belongs_to_one_name() -> None:
    plan = AddressPlan("10.1.2.0/24")
    assert plan.reserve("a", "10.1.2.9") == plan.reserve("a", "10.1.2.9") == IPv4Address("10.1.2.9")
    for name, address in (("b", "10.1.2.9"), ("a", "10.1.2.10")):
        with pytest.raises(NoAddressLeft):
            plan.reserve(name, address)
    for wrong in ("10.1.3.1", "10.1.2.0", "10.1.2.255", "fd00::1", "x"):
        with pytest.raises(InvalidIP, match="invalid IP address"):
            plan.reserve("c", wrong)


def test_networks_of_requests_are_checked() -> None:
    assert parse_network("10.1.2.0/24") == IPv4Network("10.1.2.0/24")
    for wrong in ("10.1.2.1/24", "192.168.1.0/24", "fd00::/64", "10.0.0.0/31", "0.0.0.0/0", "x"):
        with pytest.raises(InvalidIP):
            parse_network(wrong)
    assert host_of(parse_network("10.1.2.0/24"), "10.1.2.1") == IPv4Address("10.1.2.1")


@given(st.text(), st.ip_addresses(v=4))
def test_the_ipv6_address_of_a_member_leads_back_to_its_ipv4_address(subnet_id: str, address: IPv4Address) -> None:
    prefix = private_prefix(subnet_id)
    six = to_ipv6(prefix, address)
    assert six in prefix
    assert six.is_private
    assert to_ipv4(prefix, six) == address


def test_prefixes_of_different_networks_differ_and_foreign_addresses_lead_nowhere() -> None:
    prefix = private_prefix("one")
    assert prefix.prefixlen == 64
    assert prefix.network_address.packed[0] == 0xFD
    assert prefix != private_prefix("two")
    assert to_ipv4(prefix, IPv6Address(int(prefix.network_address) + (1 << 32))) is None
    assert to_ipv4(prefix, IPv6Address("::1")) is None
