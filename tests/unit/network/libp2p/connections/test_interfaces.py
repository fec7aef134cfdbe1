from __future__ import annotations

from ipaddress import ip_address

import trio
from trio.testing import MockClock

from dms.network.addresses import IPAddress, interface_addresses
from dms.network.libp2p.connections.interfaces import watch_addresses


class Machine:
    def __init__(self, *texts: str) -> None:
        self.addresses: list[IPAddress] = [ip_address(text) for text in texts]
        self.changes = 0
        self.gone = frozenset[IPAddress]()

    def read(self) -> list[IPAddress]:
        return self.addresses

    def changed(self, gone: frozenset[IPAddress]) -> None:
        self.changes += 1
        self.gone = gone

    def has(self, *texts: str) -> None:
        self.addresses = [ip_address(text) for text in texts]


async def test_another_address_is_noticed_once_and_what_nobody_outside_sees_is_not(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    machine = Machine("127.0.0.1", "192.168.1.4")

    async def watch() -> None:
        await watch_addresses(machine.changed, read=machine.read, poll_s=10.0)

    nursery.start_soon(watch)
    for texts, changes, gone in (
        (("127.0.0.1", "192.168.1.4"), 0, []),
        (("127.0.0.1", "192.168.1.4", "fe80::1"), 0, []),
        (("192.168.1.4", "127.0.0.1"), 0, []),
        (("127.0.0.1", "10.0.0.7"), 1, ["192.168.1.4"]),
        (("127.0.0.1",), 2, ["10.0.0.7"]),
        (("127.0.0.1", "10.0.0.7"), 3, []),
    ):
        machine.has(*texts)
        await trio.sleep(25)
        assert (machine.changes, sorted(map(str, machine.gone))) == (changes, gone)
    nursery.cancel_scope.cancel()


def test_this_machine_has_addresses() -> None:
    assert ip_address("127.0.0.1") in interface_addresses()
