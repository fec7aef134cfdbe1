from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from dms.network.libp2p.connections.limits import MIB, Bucket, Limits, Memory, Origins


def test_the_limits_of_the_specification_are_the_defaults() -> None:
    limits = Limits().within(memory_bytes=1024 * MIB, descriptors=5000)
    assert (limits.inbound_connections, limits.outbound_connections, limits.connections) == (512, 512, 1024)
    assert (limits.inbound_streams, limits.outbound_streams, limits.streams) == (8192, 8192, 16384)
    assert (limits.low_water, limits.high_water, limits.grace_s) == (100, 400, 20.0)


@given(st.integers(1, 10_000), st.integers(1, 1 << 40))
def test_whatever_may_be_used_is_enough_for_one_in_each_direction_and_no_more(fd: int, memory: int) -> None:
    limits = Limits().within(memory_bytes=memory, descriptors=fd)
    assert limits.connections <= max(2, fd)
    assert 1 <= limits.inbound_connections < limits.connections  # one is left for a dial of ours
    assert 1 <= limits.outbound_connections <= limits.connections
    assert limits.low_water <= limits.high_water <= limits.connections
    assert 1 <= limits.memory_bytes_per_peer <= max(1, memory)


def test_a_burst_costs_nothing_and_what_comes_after_it_waits_as_long_as_it_takes() -> None:
    bucket = Bucket(per_s=100.0, burst=200.0)
    assert bucket.charge(200, 10.0) == 0
    assert bucket.charge(50, 10.0) == 0.5
    assert bucket.charge(100, 10.5) == 1.0
    assert bucket.charge(1, 1000.0) == 0  # silence fills it again


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 5)), max_size=50))
def test_whoever_waits_as_told_never_exceeds_burst_and_rate(charges: list[tuple[float, float]]) -> None:
    bucket, now_s, taken = Bucket(per_s=100.0, burst=300.0), 0.0, 0.0
    for amount, pause_s in charges:
        now_s += bucket.charge(amount, now_s)
        taken += amount
        assert taken <= 300.0 + 100.0 * now_s + 1e-6 * (1 + taken)
        now_s += pause_s


def test_too_much_memory_is_relieved_at_once_and_what_is_read_counts_no_more() -> None:
    memory, calls = Memory(100), list[int]()
    memory.relieve = lambda: calls.append(memory.used_bytes)
    memory.change(60)
    assert memory.has_room(40)
    assert not memory.has_room(41)
    memory.change(60)
    memory.change(-100)
    assert (calls, memory.used_bytes) == ([120], 20)


def test_one_machine_and_one_subnet_take_their_share_of_the_connections_and_our_own_machine_takes_any() -> None:
    origins = Origins(Limits(connections_per_ip=2, connections_per_subnet=3))
    first, second, third, elsewhere = map(ip_address, ("8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.9.1"))
    for ip in (first, first, second):
        assert origins.has_room(ip)
        origins.change(ip, 1)
    assert not origins.has_room(first)
    assert not origins.has_room(third)  # of the same /24
    assert origins.has_room(elsewhere)
    origins.change(second, -1)
    assert origins.has_room(third)
    for _ in range(100):
        assert origins.has_room(ip_address("::1"))
        origins.change(ip_address("127.0.0.1"), 1)
    assert origins.has_room(None)


def test_machines_of_one_private_network_are_limited_each_for_itself() -> None:
    origins = Origins(Limits(connections_per_ip=2, connections_per_subnet=3))
    for last in range(1, 100):
        assert origins.has_room(ip_address(f"10.0.0.{last}"))
        origins.change(ip_address(f"10.0.0.{last}"), 1)


def test_who_has_gone_is_forgotten() -> None:
    origins = Origins(Limits())
    for last in range(256):
        for by in (1, -1):
            origins.change(ip_address(f"8.8.{last}.1"), by)
            origins.change(ip_address(f"2600:{last:x}::1"), by)
    assert len(origins) == 0
