"""How a local network is laid out."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.devnet.plan import MIN_DISK_BYTES, PORTS, RAM_SHARE_MIN, free_ports, plan_nodes, share_of
from dms.types.resources import CPU, RAM, Disk, Resources

GIB = 1 << 30


def test_each_node_has_a_name_a_directory_and_two_ports_of_its_own() -> None:
    nodes = plan_nodes(Path("/net"), 3, 2, ports=(1, 2, 3, 4, 5, 6))
    assert [(n.name, n.p2p_port, n.rest_port, n.is_provider) for n in nodes] == [
        ("node1", 1, 2, True),
        ("node2", 3, 4, True),
        ("node3", 5, 6, False),
    ]
    assert nodes[1].config_file == Path("/net/node2/dms_config.json")
    assert len({path for n in nodes for path in (n.user_dir, n.work_dir, n.config_file, n.output_file)}) == 12


def test_ports_that_somebody_listens_on_are_left_out() -> None:
    found = free_ports(4, random.Random(7))
    assert len(set(found)) == 4
    assert all(port in PORTS for port in found)
    with socket.create_server(("127.0.0.1", found[0])):
        assert free_ports(4, random.Random(7))[:3] == found[1:]


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if first < PORTS.start:
        pytest.skip(f"here outgoing connections begin at port {first}")
    assert PORTS.stop <= first


@given(
    ram=st.integers(GIB, 512 * GIB),
    used=st.floats(0, 1),
    disk=st.integers(0, 4096 * GIB),
    cores=st.floats(0.5, 256),
    providers=st.integers(1, 50),
)
def test_a_share_is_what_onboarding_accepts(ram: int, used: float, disk: int, cores: float, providers: int) -> None:
    machine = Resources(cpu=CPU(cores=cores), ram=RAM(size=ram), disk=Disk(size=disk))
    busy = Resources(ram=RAM(size=int(ram * used)), disk=Disk(size=int(disk * used)))
    share = share_of(machine, busy, providers)
    assert share.cpu.cores >= 1.0
    assert int(ram * RAM_SHARE_MIN) <= share.ram.size <= ram
    assert MIN_DISK_BYTES <= share.disk.size <= max(disk, MIN_DISK_BYTES)
