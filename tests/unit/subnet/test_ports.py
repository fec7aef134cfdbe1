from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet.errors import NoAddressLeft, PortMapped, PortNotMapped
from dms.subnet.ports import ANY, PortMapping, PortPlan
from dms.types.errors import BadInput

WEB = PortMapping("tcp", 18080, IPv4Address("10.1.2.3"), 80)


def plan() -> PortPlan:
    return PortPlan(Random(1), first=20000, last=20003)


def test_a_request_is_read_with_its_ports_as_text() -> None:
    assert PortMapping.parse("TCP", "0.0.0.0", "18080", "10.1.2.3", "80") == WEB
    assert PortMapping.parse("", "", "0", "10.1.2.3", "80") == replace(WEB, public=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("SCTP", "0.0.0.0", "1", "10.1.2.3", "80"), "unknown protocol"),
        (("tcp", "x", "1", "10.1.2.3", "80"), "invalid IP address"),
        (("tcp", "0.0.0.0", "1", "fd00::1", "80"), "invalid IP address"),
        (("tcp", "0.0.0.0", "65536", "10.1.2.3", "80"), "not a port"),
        (("tcp", "0.0.0.0", "-1", "10.1.2.3", "80"), "not a port"),
        (("tcp", "0.0.0.0", "1", "10.1.2.3", "0"), "not a port"),
        (("tcp", "0.0.0.0", "٣", "10.1.2.3", "80"), "not a port"),
        (("tcp", "0.0.0.0", "", "10.1.2.3", "80"), "not a port"),
    ],
)
def test_a_wrong_part_of_a_request_is_named(wrong: tuple[str, str, str, str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        PortMapping.parse(*wrong)


def test_a_public_port_leads_to_one_place_for_each_protocol() -> None:
    ports = plan()
    assert ports.map("a", WEB) == WEB
    with pytest.raises(PortMapped, match="port 18080 is already mapped"):
        ports.map("b", replace(WEB, private=81))
    with pytest.raises(PortMapped):
        ports.map("b", replace(WEB, private=81, source=IPv4Address("192.0.2.1")))
    udp = ports.map("b", replace(WEB, protocol="udp", private=53))
    assert ports.mappings() == (WEB, udp)
    assert ports.mappings("b") == (udp,)


def test_two_addresses_of_the_machine_have_a_port_each() -> None:
    ports = plan()
    ports.map("a", replace(WEB, source=IPv4Address("192.0.2.1")))
    ports.map("a", replace(WEB, source=IPv4Address("192.0.2.2"), private=81))
    with pytest.raises(PortMapped):
        ports.map("a", replace(WEB, source=ANY))


def test_a_port_that_another_program_listens_on_is_refused() -> None:
    with pytest.raises(PortMapped, match="another program"):
        plan().map("a", WEB, is_busy=lambda protocol, port: (protocol, port) == ("tcp", 18080))


def test_a_dynamic_port_is_free_and_reported_and_the_end_is_said() -> None:
    ports = plan()
    asked = replace(WEB, public=0)
    got = {ports.map("a", asked, is_busy=lambda _protocol, port: port == 20002).public for _ in range(3)}
    assert got == {20000, 20001, 20003}
    with pytest.raises(NoAddressLeft, match="no tcp port from 20000 to 20003 is free"):
        ports.map("a", asked, is_busy=lambda _protocol, port: port == 20002)
    assert ports.map("a", replace(asked, protocol="udp")).public in range(20000, 20004)


def test_what_was_asked_for_twice_is_there_until_it_was_given_back_twice() -> None:
    ports = plan()
    ports.map("a", WEB)
    ports.map("a", WEB)
    assert not ports.unmap("a", WEB)
    assert ports.unmap("a", WEB)
    with pytest.raises(PortNotMapped, match="port 18080 is not mapped"):
        ports.unmap("a", WEB)
    assert ports.mappings() == ()


def test_unmapping_needs_the_network_that_mapped() -> None:
    ports = plan()
    ports.map("a", WEB)
    with pytest.raises(PortNotMapped):
        ports.unmap("b", WEB)
    assert ports.forget("b") == ()
    assert ports.forget("a") == (WEB,)


steps = st.lists(
    st.tuples(st.sampled_from(["map", "unmap", "forget"]), st.sampled_from("ab"), st.integers(1, 3), st.integers(1, 2)),
    max_size=40,
)


@given(steps)
def test_a_mapping_is_there_exactly_while_somebody_wants_it(steps: list[tuple[str, str, int, int]]) -> None:
    ports, wanted = plan(), Counter[tuple[str, PortMapping]]()
    for what, who, public, private in steps:
        mapping = PortMapping("tcp", public, IPv4Address("10.1.2.3"), private)
        there = {one for (_, one), count in wanted.items() if count}
        if what == "forget":
            gone = {one for one in there if not any(wanted[other, one] for other in "ab" if other != who)}
            gone &= {one for (owner, one), count in wanted.items() if owner == who and count}
            assert set(ports.forget(who)) == gone
            for key in [key for key in wanted if key[0] == who]:
                del wanted[key]
        elif what == "map":
            if any(one.public == public and one != mapping for one in there):
                with pytest.raises(PortMapped):
                    ports.map(who, mapping)
            else:
                assert ports.map(who, mapping) == mapping
                wanted[who, mapping] += 1
        elif wanted[who, mapping]:
            wanted[who, mapping] -= 1
            assert ports.unmap(who, mapping) is not any(wanted[other, mapping] for other in "ab")
        else:
            with pytest.raises(PortNotMapped):
                ports.unmap(who, mapping)
        assert set(ports.mappings()) == {one for (_, one), count in wanted.items() if count}
