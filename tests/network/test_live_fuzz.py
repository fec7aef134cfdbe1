"""Bad input for everything that a node serves, over real sockets, while another peer goes on talking to it.

The handlers are those that the node has: a new protocol is attacked from its first day on, and the test fails until good
inputs are written for it (``tests/fuzz/live/seeds.py``). ``DMS_TEST_HEAVY=1`` sends 10,000 inputs instead of 400.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
import trio
from google.protobuf.message import DecodeError
from tests.fuzz.live.attack import Attack, intrude
from tests.fuzz.live.seeds import ADDRESS, SUBNET, TOPIC, VICTIM_INBOX, varint
from tests.network.waiting import until

from dms.network import PeerChange, PeerUnreachable
from dms.network.errors import NetworkError
from dms.network.libp2p import Libp2pNetwork, Limits
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.reach.options import ReachOptions, When
from dms.storage.passing.desk import FileDesk
from dms.subnet.exchange import Exchange
from dms.subnet.segments import Parcel
from dms.subnet.tally import Tally
from dms.types.ids import PeerID

# The library, for attackers: only after our package has put its placeholder in place.
from libp2p.abc import INetStream  # isort: skip
from libp2p.custom_types import TProtocol  # isort: skip
from libp2p.exceptions import BaseLibp2pError  # isort: skip
from libp2p.identity.identify.pb.identify_pb2 import Identify  # isort: skip
from libp2p.peer.id import ID  # isort: skip
from multiaddr import Multiaddr  # isort: skip

IS_HEAVY = bool(os.environ.get("DMS_TEST_HEAVY"))
INPUTS, PARTS = (1_250, 8) if IS_HEAVY else (400, 1)
"""To one node, and how many nodes one after the other."""
ECHO = "actor/echo/messages/0.0.1"
ANSWER_S = 10.0
"""A net: what takes this long has been lost."""
MAX_TASKS = 1500
"""Tasks of all nodes of the test at once."""
MAX_GROWTH_BYTES = 96 << 20
"""Of this process, which holds attackers and victim, from a tenth of the inputs on."""
EXPECTED = (BaseLibp2pError, NetworkError, DecodeError, OSError, trio.TooSlowError)
"""What a handler may raise at bad input; anything else means that it stumbled."""

_seeds = itertools.count(1 << 66)


def node() -> Libp2pNetwork:
    seed = next(_seeds).to_bytes(32, "big")
    reach = ReachOptions(relay_service=When.ON)  # so that relaying is attacked, too
    return Libp2pNetwork(seed=seed, listen=["/ip4/127.0.0.1/tcp/0"], limits=Limits(handshake_s=5.0), reach=reach)


class Stumbles(logging.Handler):
    """Which exceptions the guards around handlers and tasks have caught."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.seen: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        args = record.args if isinstance(record.args, tuple) else ()
        for error in args:
            if isinstance(error, BaseException) and not isinstance(error, EXPECTED):
                self.seen[f"{record.getMessage()}"] += 1


@pytest.fixture
def stumbles() -> Iterator[Stumbles]:
    found = Stumbles()
    loggers = [logging.getLogger(f"dms.network.libp2p.{name}") for name in ("core", "services")]
    for logger in loggers:
        logger.addHandler(found)
        logger.setLevel(logging.DEBUG)
    yield found
    for logger in loggers:
        logger.removeHandler(found)
        logger.setLevel(logging.NOTSET)


class OpenHouse:
    """A private network of which everybody is a member."""

    mtu = 1420

    def __init__(self) -> None:
        self._tally = Tally()

    def tally_of(self, _peer: PeerID) -> Tally:
        return self._tally

    def is_member(self, _peer: PeerID) -> bool:
        return True

    async def receive(self, _sender: PeerID, parcels: list[Parcel]) -> None:
        self._tally.took(len(parcels), sum(len(parcel.data) for parcel in parcels))


class Bystander:
    """An honest peer: asks and is answered, publishes and is heard, all the time."""

    def __init__(self, victim: Libp2pNetwork) -> None:
        self.network = node()
        self.rounds = 0
        self.broadcasts = set[bytes]()
        self.published = set[bytes]()
        self.losses = list[str]()
        self._victim = victim
        self._answers = set[bytes]()
        self._over = False
        self._ended = trio.Event()

    async def prepare(self) -> None:
        """Have the victim answer and listen."""

        async def answer(sender: PeerID, data: bytes) -> None:
            await self._victim.send(sender, ECHO, data)

        async def hear(sender: PeerID, data: bytes) -> None:
            if sender == self.network.peer_id:
                self.broadcasts.add(data)

        async def take(_sender: PeerID, data: bytes) -> None:
            self._answers.add(data)

        self._victim.handle(ECHO, answer)
        await self._victim.subscribe(TOPIC, hear)
        self.network.handle(ECHO, take)
        self.network.listen(lambda event: self._lose(event.change, event.peer))

    async def talk(self) -> None:
        """Until told to finish."""
        while not self._over:
            data = b"%d" % self.rounds
            try:
                await self.network.send(self._victim.peer_id, ECHO, data, timeout_s=ANSWER_S)
                await until(lambda data=data: data in self._answers)  # type: ignore[misc]
            except (PeerUnreachable, trio.TooSlowError) as error:
                self.losses.append(f"round {self.rounds}: {error!r}")
            self._answers.discard(data)
            if self.rounds % 10 == 0:
                await self.network.publish(TOPIC, data)
                self.published.add(data)
            self.rounds += 1
            await trio.sleep(0.01)
        self._ended.set()

    async def finish(self) -> None:
        """End the talk; all that was published has arrived."""
        self._over = True
        await self._ended.wait()
        await until(lambda: self.published <= self.broadcasts)

    def _lose(self, change: PeerChange, peer: PeerID) -> None:
        if change is PeerChange.DISCONNECTED and peer == self._victim.peer_id:
            self.losses.append("disconnected")


@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_that_is_sent_to_a_node_harms_it_or_those_who_talk_to_it(stumbles: Stumbles, part: int) -> None:
    victim = node()
    bystander = Bystander(victim)
    victim.handle(VICTIM_INBOX, _ignore)
    await bystander.prepare()
    async with victim.run(), bystander.network.run(), trio.open_nursery() as nursery:
        await bystander.network.connect(victim.listen_addresses[0])
        nursery.start_soon(bystander.talk)
        exchange = Exchange(victim.streams)
        exchange.add(SUBNET, OpenHouse())
        exchange.open()
        desk = FileDesk(victim.streams, None)  # type: ignore[arg-type]  # asked only by who has a ticket
        nursery.start_soon(desk.serve)
        await until(lambda: "nunet/files/1.0.0" in served(victim))
        watch = Watch()
        nursery.start_soon(watch.keep)
        attack = Attack(victim, served(victim), f"live fuzz {part}")

        await attack.run(INPUTS // 10)
        await settled()
        tasks, memory = living_tasks(), resident_bytes()
        await attack.run(INPUTS)

        await until(lambda: living_tasks() <= tasks + 8)
        grown = resident_bytes() - memory
        await bystander.finish()
        nursery.cancel_scope.cancel()

    told = (
        f"{attack.tally}, {bystander.rounds} rounds, {watch.tasks} tasks, {grown >> 20} MiB more, {victim.counters()}"
    )
    print(told)
    assert not stumbles.seen, stumbles.seen
    assert victim.counters().get("tasks failed", 0) == 0, told
    assert victim.counters().get("handlers failed", 0) == 0, told
    assert bystander.losses == []
    assert bystander.rounds > INPUTS / 50, told
    assert watch.tasks < MAX_TASKS, told
    assert grown < MAX_GROWTH_BYTES, told
    assert all(attack.tally.sent[target] for target in attack.targets), told


async def test_an_address_that_cannot_be_read_does_not_end_those_who_are_told_of_it() -> None:
    victim = node()
    unreadable = b"\x04\x7f\x00\x00\x01\x06\x00\x09\x82\x2f"  # an address, and then a protocol that nobody knows
    identity = Identify(listen_addrs=[unreadable, ADDRESS], protocols=["/ipfs/ping/1.0.0"])
    message = identity.SerializeToString()
    answer = varint(len(message)) + message
    identified = trio.Event()
    async with victim.run():
        victim.listen(lambda event: identified.set() if event.change is PeerChange.IDENTIFIED else None)

        async def tell(stream: INetStream) -> None:
            await stream.write(answer)
            await stream.close()

        async def push(host: GuardedHost, peer: ID) -> None:
            with trio.fail_after(ANSWER_S):
                await identified.wait()
            ((_, known),) = victim.known_peers().items()
            assert known == (str(Multiaddr(ADDRESS)),)
            await tell(await host.new_stream(peer, [TProtocol("/ipfs/id/push/1.0.0")]))
            await victim.ping(victim.peers()[0].peer, timeout_s=ANSWER_S)

        await intrude(victim, bytes(32), {"/ipfs/id/1.0.0": tell}, push)
    assert victim.counters().get("tasks failed", 0) == 0


async def test_a_peer_that_says_nothing_of_itself_is_listed_and_ends_nothing() -> None:
    victim = node()
    identified = trio.Event()

    async def say_nothing(stream: INetStream) -> None:
        await stream.write(b"\x00")
        await stream.close()

    async def stay(_host: GuardedHost, _peer: ID) -> None:
        with trio.fail_after(ANSWER_S):
            await identified.wait()
        assert [info.protocols for info in victim.peers()] == [()]

    async with victim.run():
        victim.listen(lambda event: identified.set() if event.change is PeerChange.IDENTIFIED else None)
        await intrude(victim, bytes(32), {"/ipfs/id/1.0.0": say_nothing}, stay)
    assert victim.counters().get("tasks failed", 0) == 0


def served(network: Libp2pNetwork) -> list[str]:
    """The protocols that a running node serves."""
    live = network._live
    assert live is not None
    return sorted(protocol for protocol in live.host.multiselect.handlers if protocol is not None and protocol != ECHO)


class Watch:
    """The most tasks that there were at once."""

    def __init__(self) -> None:
        self.tasks = 0

    async def keep(self) -> None:
        while True:
            self.tasks = max(self.tasks, living_tasks())
            await trio.sleep(0.05)


async def settled() -> None:
    """Wait until what attackers left behind has ended."""
    before = -1
    while before != living_tasks():
        before = living_tasks()
        await trio.sleep(0.2)


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


async def _ignore(_sender: PeerID, _data: bytes) -> None:
    return
