from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from dms.subnet.udp import Burst, Endpoint, bursts_of, open_endpoints

DATAGRAMS = [b"a" * 700, b"b" * 700, b"c" * 300, b"d", b"e" * 700, *(bytes([number]) * 1200 for number in range(120))]


@pytest.fixture
def pair() -> Iterator[tuple[Endpoint, Endpoint]]:
    one, other = open_endpoints(0), open_endpoints(0)
    yield one[4], other[4]
    for endpoint in (*one.values(), *other.values()):
        endpoint.close()


@pytest.mark.parametrize("can_segment", [True, False])
async def test_datagrams_arrive_as_they_were_whether_or_not_the_kernel_takes_many_at_once(
    pair: tuple[Endpoint, Endpoint],
    can_segment: bool,
) -> None:
    one, other = pair
    one._can_segment = can_segment
    bursts = [*bursts_of(DATAGRAMS), Burst(b"f" * 500 + b"g" * 500 + b"h" * 20, 500)]
    assert one.send(("127.0.0.1", other.port), bursts) == (0, [])
    wanted = [*DATAGRAMS, b"f" * 500, b"g" * 500, b"h" * 20]
    got: list[bytes] = []
    with trio.fail_after(10):
        while len(got) < len(wanted):
            await trio.lowlevel.wait_readable(other.sock)
            while (received := other.receive()) is not None:
                data, size, source = received
                assert source == ("127.0.0.1", one.port)
                got += [bytes(data[at : at + size]) for at in range(0, len(data), size)]
    assert got == wanted
