"""Machines are told what they must know, again whenever it changes, in whichever way they take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from tests.unit.orchestrator.private_network.test_plan import CONFIG, ENSEMBLE, placed
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.identity.ids import did_of
from dms.orchestrator.bidding.asking import Context
from dms.orchestrator.lifecycle.state import DeploymentState
from dms.orchestrator.messages import Reply
from dms.orchestrator.private_network.telling import MAX_TOLD_AT_ONCE, RETRY_FIRST_S, Teller
from dms.subnet import messages as m
from dms.testing.actors import World
from dms.types.ids import Capability, PeerID

CREATE = m.of_ensemble(ENSEMBLE, "create")


class Machine:
    """Takes what it is told; ``is_original``: one thing after another."""

    def __init__(self, actor: Actor, orchestrator: Actor, *, is_original: bool = False) -> None:
        self.actor, self.is_original = actor, is_original
        self.told: list[m.CreateRequest] = []
        self.asked: list[tuple[str, object]] = []
        self.problem, self.ahead, self.leap = "", 0, 0
        self.streams: tuple[str, ...] = ()
        caps = [Capability(f"/dms/ensemble/{ENSEMBLE}"), Capability("/dms/allocation")]
        actor.grant(orchestrator.handle.did, did_of(actor.security.id.public_key()), caps)
        actor.on(CREATE, self.on_create, payload=m.CreateRequest)
        for behaviour, payload in (
            (m.ADD_PEER, m.PeerRequest),
            (m.ADD_RECORDS, m.RecordsRequest),
            (m.ACCEPT_PEERS, m.PeersRequest),
            (m.REMOVE_PEERS, m.PeersRequest),
            (m.REMOVE_RECORDS, m.NamesRequest),
            (m.MAP_PORT, m.PortRequest),
        ):
            actor.on(behaviour, self.on_asked, payload=payload)

    async def on_create(self, message: Message[m.CreateRequest]) -> m.CreateReply:
        if self.problem:
            return m.CreateReply(ok=False, error=self.problem, revision=0 if self.is_original else 1)
        self.told.append(message.payload)
        if self.is_original:
            again = len(self.told) > 1
            return m.CreateReply(ok=not again, error="subnet with ID x already exists" if again else "")
        return m.CreateReply(
            ok=True,
            revision=max(message.payload.revision + self.leap, self.ahead),
            mode="user",
            by_stream=self.streams,
        )

    async def on_asked(self, message: Message[object]) -> Reply:
        self.asked.append((message.envelope.be, message.payload))
        return Reply(ok=True)


class Scene:
    """A deployment over two machines, and its teller."""

    def __init__(self, orchestrator: Actor, machines: list[Machine]) -> None:
        self.machines = machines
        self.peers = [PeerID(machine.actor.network.peer_id) for machine in machines]
        self.changed = trio.Event()
        self.notes: list[tuple[str, dict[str, object]]] = []
        self.state: DeploymentState
        self.place(0, 1)
        context = Context(ENSEMBLE, CONFIG, orchestrator, self._note)
        self.teller = Teller(lambda: context, lambda: self.state, lambda: self.changed)

    def place(self, first: int, second: int) -> None:
        """Nodes ``n1`` and ``n2`` at these machines."""
        self.show(placed({"n1": self.peers[first], "n2": self.peers[second]}))

    def show(self, state: DeploymentState) -> None:
        self.state = state
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    async def _note(self, kind: str, detail: dict[str, object]) -> None:
        self.notes.append((kind, detail))


@asynccontextmanager
async def scene(*, is_original: bool = False) -> AsyncIterator[Scene]:
    world = World()
    async with (
        world.node("orchestrator") as orchestrator,
        world.node("p0") as first,
        world.node("p1") as second,
        world.node("p2") as third,
    ):
        machines = [Machine(actor, orchestrator, is_original=is_original) for actor in (first, second, third)]
        yield Scene(orchestrator, machines)


async def test_each_machine_is_told_the_whole_once(autojump_clock: MockClock) -> None:
    async with scene() as s:
        for _ in range(3):
            assert [await s.teller.tell(peer) for peer in s.peers[:2]] == ["", ""]
        for machine in s.machines[:2]:
            (request,) = machine.told
            assert len(request.routing_table) == len(request.records) == 3
        assert len(s.machines[0].told[0].members) == 2
        assert not s.machines[2].told


async def test_to_whom_only_streams_lead_is_known_everywhere_before_anything_begins(
    autojump_clock: MockClock,
) -> None:
    async with scene() as s:
        assert s.state.network is not None
        streams = next(ip for id_, ip in s.state.network.addresses.items() if "n2" in id_)
        s.machines[1].streams = (streams, "10.99.99.99")
        assert await s.teller.tell(s.peers[0]) == ""
        assert s.machines[0].told[-1].by_stream == (streams,)
        assert len(s.machines[0].told) == 2
        assert await s.teller.tell(s.peers[1]) == ""
        (told,) = s.machines[1].told
        assert told.by_stream == (), "its own it knows"


async def test_what_a_machine_says_later_is_told_to_the_others(autojump_clock: MockClock) -> None:
    async with scene() as s, trio.open_nursery() as nursery:
        nursery.start_soon(s.teller.run)
        await trio.sleep(1)
        assert s.state.network is not None
        streams = next(ip for id_, ip in s.state.network.addresses.items() if "n2" in id_)
        s.machines[1].streams = (streams,)
        s.show(placed({"n1": s.peers[0], "n2": s.peers[1]}))
        s.place(0, 2)
        s.place(0, 1)
        s.machines[2].streams = (streams,)
        s.place(0, 2)
        await trio.sleep(2)
        assert s.machines[0].told[-1].by_stream == (streams,)
        nursery.cancel_scope.cancel()


async def test_what_changes_is_told_to_everybody_whom_it_concerns(autojump_clock: MockClock) -> None:
    async with scene() as s, trio.open_nursery() as nursery:
        nursery.start_soon(s.teller.run)
        await trio.sleep(1)
        s.place(0, 2)
        await trio.sleep(1)
        assert [len(machine.told) for machine in s.machines] == [2, 1, 1]
        assert s.machines[0].told[-1].routing_table == s.machines[2].told[-1].routing_table
        revisions = [request.revision for request in s.machines[0].told]
        assert revisions == sorted(set(revisions))
        assert s.state.network is not None
        assert s.peers[1] not in s.machines[0].told[-1].routing_table.values()
        nursery.cancel_scope.cancel()


async def test_a_machine_that_knows_a_later_revision_is_told_with_a_later_one_still(autojump_clock: MockClock) -> None:
    async with scene() as s:
        s.machines[0].ahead = 2 * 10**18
        assert await s.teller.tell(s.peers[0]) == ""
        assert [request.revision > s.machines[0].ahead for request in s.machines[0].told] == [False, True]


async def test_who_refuses_is_asked_again_later_and_it_is_written_down(autojump_clock: MockClock) -> None:
    async with scene() as s, trio.open_nursery() as nursery:
        s.machines[0].problem = "network in use"
        assert await s.teller.tell(s.peers[0]) == "network in use"
        nursery.start_soon(s.teller.run)
        await trio.sleep(RETRY_FIRST_S + 1)
        assert ("network_untold", {"peer": s.peers[0], "reason": "network in use"}) in s.notes
        s.machines[0].problem = ""
        await trio.sleep(10 * RETRY_FIRST_S)
        assert len(s.machines[0].told) == 1
        nursery.cancel_scope.cancel()


async def test_the_originals_machines_are_told_one_thing_after_another(autojump_clock: MockClock) -> None:
    async with scene(is_original=True) as s:
        records = {
            key: msgspec.structs.replace(record, ports={"18080": 80} if key == "n2.cache" else {})
            for key, record in s.state.allocations.items()
        }
        s.show(msgspec.structs.replace(s.state, allocations=records))
        assert await s.teller.tell(s.peers[1]) == ""
        assert s.state.network is not None
        cache = s.state.allocations["n2.cache"]
        address = s.state.network.addresses[cache.id]
        assert s.machines[1].asked == [
            (m.ADD_PEER, m.PeerRequest(subnet_id=ENSEMBLE, peer=s.peers[1], ip=address)),
            (m.ADD_RECORDS, m.RecordsRequest(subnet_id=ENSEMBLE, records=s.machines[1].told[0].records)),
            (
                m.MAP_PORT,
                m.PortRequest(subnet_id=ENSEMBLE, source_port="18080", dest_ip=address, dest_port="18080"),
            ),
        ]

        s.machines[1].asked.clear()
        s.show(
            msgspec.structs.replace(
                s.state,
                allocations=s.state.allocations
                | {"n1.db": msgspec.structs.replace(records["n1.db"], status="completed")},
            )
        )
        assert await s.teller.tell(s.peers[1]) == ""
        db = s.state.network.addresses[records["n1.db"].id]
        assert s.machines[1].asked[:2] == [
            (m.REMOVE_RECORDS, m.NamesRequest(subnet_id=ENSEMBLE, names=("db.internal",))),
            (m.REMOVE_PEERS, m.PeersRequest(subnet_id=ENSEMBLE, table={db: s.peers[0]})),
        ]
        assert m.ACCEPT_PEERS in [behaviour for behaviour, _ in s.machines[1].asked]


async def test_where_there_is_no_network_nobody_is_told(autojump_clock: MockClock) -> None:
    async with scene() as s:
        s.show(msgspec.structs.replace(s.state, network=None))
        assert await s.teller.tell(s.peers[0]) == ""
        assert not s.machines[0].told


@pytest.mark.parametrize("leap", [1, 1 << 62])
async def test_a_machine_that_always_knows_of_something_later_harms_itself_only(
    autojump_clock: MockClock, leap: int
) -> None:
    async with scene() as s:
        s.machines[0].leap = leap
        assert await s.teller.tell(s.peers[1]) == ""
        before = len(s.machines[0].told)
        assert bool(await s.teller.tell(s.peers[0])) is (leap == 1)
        assert len(s.machines[0].told) - before <= MAX_TOLD_AT_ONCE
        await s.teller.tell(s.peers[1])
        now_ns = s.machines[1].actor.security.now_ns()
        assert all(request.revision <= now_ns + len(s.machines[1].told) for request in s.machines[1].told)
