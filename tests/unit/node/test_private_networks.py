"""What a machine knows of private networks: from whom it takes it, what it keeps, when it forgets."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dms.actor.handle import Handle
from dms.node.memberships import Membership
from dms.node.network_engines import UserSpace
from dms.orchestrator.lifecycle.state import Phase
from dms.orchestrator.messages import Reply
from dms.subnet import messages as m
from dms.subnet.errors import InvalidIP, InvalidName, NetworkTaken, SubnetNotFound
from dms.subnet.messages import CreateReply, CreateRequest, of_ensemble
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.errors import BadInput, DMSError
from dms.types.ids import AllocationID, EnsembleID, PeerID

CIDR = "10.9.8.0/24"


class Recorder(UserSpace):
    """An engine that tells what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[Membership] = []
        self.removed: list[EnsembleID] = []
        self.problem: DMSError | None = None

    async def apply(self, membership: Membership) -> str:
        if self.problem is not None:
            raise self.problem
        self.applied.append(membership)
        return ""

    async def remove(self, ensemble: EnsembleID) -> None:
        self.removed.append(ensemble)


class Scene:
    """A service of alice's at bob's."""

    def __init__(self, alice: SimulatedNode, bob: SimulatedNode, id_: EnsembleID) -> None:
        self.alice, self.bob, self.id = alice, bob, id_
        self.orchestrator = alice.node.deployments.live(id_).actor
        self.engine = Recorder()
        bob.node.networks._engine = self.engine
        (self.member,) = (a.spec.id for a in bob.node.hosting)
        self.known = self.find()

    def find(self) -> Membership:
        known = self.bob.node.networks.find(self.id)
        assert known is not None
        return known

    def request(self, **members: object) -> CreateRequest:
        base: dict[str, object] = {
            "subnet_id": self.id,
            "cidr": CIDR,
            "routing_table": {"10.9.8.2": PeerID(self.bob.peer)},
            "records": {"web.internal": "10.9.8.2"},
            "members": {self.member: "10.9.8.2"},
            "revision": self.known.revision + 1,
        }
        return CreateRequest(**(base | members))  # type: ignore[arg-type]

    async def create(self, **members: object) -> CreateReply:
        return await self.bob.node.networks.create(self.id, self.request(**members), self.orchestrator.security.id)


async def start(cluster: Cluster) -> Scene:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES, store_file=True)
    id_ = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(id_, Phase.RUNNING)
    return Scene(alice, bob, id_)


async def test_the_machine_of_a_part_knows_the_network_before_the_part_starts(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    s = await start(cluster)
    state = s.alice.node.deployments.live(s.id).state
    assert state.network is not None
    address = state.network.addresses[s.member]
    assert (s.known.cidr, s.known.table, s.known.records) == (
        state.network.cidr,
        {address: s.bob.peer},
        {"web.internal": address},
    )
    assert s.known.members == {s.member: address}


async def test_what_is_older_changes_nothing(autojump_clock: MockClock, cluster: Cluster) -> None:
    s = await start(cluster)
    assert (await s.create(revision=s.known.revision - 1)).revision == s.known.revision
    assert (await s.create(revision=s.known.revision)).revision == s.known.revision
    assert s.find() == s.known
    assert not s.engine.applied
    assert (await s.create()).revision == s.known.revision + 1
    assert s.find().cidr == CIDR
    assert [each.cidr for each in s.engine.applied] == [CIDR]


async def test_a_restart_puts_it_into_effect_again(autojump_clock: MockClock, cluster: Cluster) -> None:
    s = await start(cluster)
    await s.create()
    await s.bob.kill()
    engines: list[Recorder] = []

    def born(node: object) -> None:
        engines.append(Recorder())
        node.networks._engine = engines[-1]  # type: ignore[attr-defined]

    s.bob.born = born
    await s.bob.start()
    assert [each.cidr for each in engines[0].applied] == [CIDR]
    assert s.find().cidr == CIDR


async def test_with_its_last_part_a_network_is_gone(autojump_clock: MockClock, cluster: Cluster) -> None:
    s = await start(cluster)
    assert (await s.alice.user.shutdown(s.id)).ok
    await s.alice.wait_until_settled(s.id)
    await trio.sleep(1)
    assert not list(s.bob.node.networks)
    assert s.engine.removed == [s.id]
    with pytest.raises(SubnetNotFound):
        await s.create()


async def test_nobody_else_is_believed(autojump_clock: MockClock, cluster: Cluster) -> None:
    s = await start(cluster)
    mallory = await cluster.start("mallory")
    networks, stranger = s.bob.node.networks, mallory.node.root.security.id
    with pytest.raises(SubnetNotFound):
        await networks.create(s.id, s.request(), stranger)
    with pytest.raises(SubnetNotFound):
        await networks.destroy(s.id, stranger)
    for behaviour, payload in (("create", s.request()), ("destroy", s.request())):
        with pytest.raises(DMSError):
            await mallory.node.root.invoke(
                s.bob.node.root.handle, of_ensemble(s.id, behaviour), payload, CreateReply, timeout_s=5
            )
    assert s.find() == s.known
    await networks.destroy(s.id, s.orchestrator.security.id)
    assert networks.find(s.id) is None


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"subnet_id": "x"}, BadInput),
        ({"cidr": "192.168.0.0/24"}, InvalidIP),
        ({"cidr": "10.0.0.0/33"}, InvalidIP),
        ({"routing_table": {"10.9.9.2": PeerID("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3")}}, InvalidIP),
        ({"routing_table": {"10.9.8.2": "nobody"}}, BadInput),
        ({"routing_table": {}}, BadInput),
        ({"records": {"a..b": "10.9.8.2"}}, InvalidName),
        ({"records": {"web": "1.1.1.1"}}, InvalidIP),
        ({"members": {AllocationID("other_n1.web"): "10.9.8.2"}}, BadInput),
        ({"ip": "10.9.8.7"}, BadInput),
        ({"services": {"web.internal": ("sctp/1",)}}, BadInput),
        ({"services": {"web.internal": ("tcp/65536",)}}, BadInput),
        ({"services": {"a..b": ("tcp/1",)}}, InvalidName),
        ({"services": {"web.internal": ("tcp/1",) * 1001}}, BadInput),
    ],
)
async def test_what_makes_no_sense_changes_nothing(
    autojump_clock: MockClock, cluster: Cluster, wrong: dict[str, object], error: type[Exception]
) -> None:
    s = await start(cluster)
    with pytest.raises(error):
        await s.create(**wrong)
    assert (s.find(), s.engine.applied) == (s.known, [])


async def test_two_networks_of_one_machine_do_not_overlap(autojump_clock: MockClock, cluster: Cluster) -> None:
    s = await start(cluster)
    await s.create()
    other_id = await s.alice.user.deploy(ensemble({"n1": {"web2": "service"}}))
    await s.alice.wait_for(other_id, Phase.RUNNING)
    orchestrator = s.alice.node.deployments.live(other_id).actor.security.id
    (member,) = (a.spec.id for a in s.bob.node.hosting if a.spec.ensemble_id == other_id)
    known = s.bob.node.networks.find(other_id)
    assert known is not None
    request = CreateRequest(
        subnet_id=other_id,
        cidr="10.9.0.0/16",
        routing_table={"10.9.8.2": PeerID(s.bob.peer)},
        members={member: "10.9.8.2"},
        revision=known.revision + 1,
    )
    with pytest.raises(NetworkTaken):
        await s.bob.node.networks.create(other_id, request, orchestrator)


async def test_what_cannot_be_put_into_effect_is_not_known(autojump_clock: MockClock, cluster: Cluster) -> None:
    s = await start(cluster)
    s.engine.problem = NetworkTaken()
    with pytest.raises(NetworkTaken):
        await s.create()
    assert s.find() == s.known


async def test_an_orchestrator_of_the_original_tells_one_thing_after_another(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    s = await start(cluster)
    networks = s.bob.node.networks
    await networks.destroy(s.id, s.orchestrator.security.id)
    (allocation,) = s.bob.node.hosting
    other = PeerID("12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3")

    async def ask(to: Handle, behaviour: str, payload: object) -> Reply:
        return await s.orchestrator.invoke(to, behaviour, payload, Reply, timeout_s=5)

    create = CreateRequest(subnet_id=s.id, routing_table={"10.9.8.2": s.bob.peer, "10.9.8.3": other})
    root, actor = s.bob.node.root.handle, allocation.actor.handle
    assert (await ask(root, of_ensemble(s.id, "create"), create)).ok
    assert "already exists" in (await ask(root, of_ensemble(s.id, "create"), create)).error
    peer = m.PeerRequest(subnet_id=s.id, peer=PeerID(s.bob.peer), ip="10.9.8.2")
    port = m.PortRequest(subnet_id=s.id, source_port="16400", dest_ip="10.9.8.2", dest_port="16400")
    for behaviour, payload in (
        (m.ADD_PEER, peer),
        (m.ADD_RECORDS, m.RecordsRequest(subnet_id=s.id, records={"web": "10.9.8.2", "db": "10.9.8.3"})),
        (m.ADD_RECORD, m.RecordRequest(subnet_id=s.id, name="old", ip="10.9.8.3")),
        (m.MAP_PORT, port),
        (m.ACCEPT_PEERS, m.PeersRequest(subnet_id=s.id, table={"10.9.8.4": other})),
        (m.REMOVE_PEER, m.PeerRequest(subnet_id=s.id, peer=other, ip="10.9.8.3")),
        (m.REMOVE_RECORD, m.RecordRequest(subnet_id=s.id, name="old")),
        (m.REMOVE_RECORDS, m.NamesRequest(subnet_id=s.id, names=("db",))),
    ):
        reply = await ask(actor, behaviour, payload)
        assert reply.ok, (behaviour, reply)
    known = s.find()
    assert (known.cidr, known.members) == (CIDR, {s.member: "10.9.8.2"})
    assert known.table == {"10.9.8.2": s.bob.peer, "10.9.8.4": other}
    assert known.records == {"web": "10.9.8.2"}
    assert s.engine.applied[-1] == known
    wrong = m.RecordsRequest(subnet_id=s.id, records={"web": "8.8.8.8"})
    assert "invalid IP" in (await ask(actor, m.ADD_RECORDS, wrong)).error
    assert "does not exist" in (await ask(actor, m.ADD_PEER, m.PeerRequest(subnet_id="x", peer=other, ip="1"))).error
    assert s.find() == known


async def test_what_ran_before_the_original_told_of_a_network_is_connected_then_or_it_is_told_why_not(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    s = await start(cluster)
    networks, (allocation,) = s.bob.node.networks, s.bob.node.hosting
    await networks.destroy(s.id, s.orchestrator.security.id)
    s.engine.mode, s.engine.lacks = "kernel", ""
    create = CreateRequest(subnet_id=s.id, routing_table={"10.9.8.2": s.bob.peer})
    await networks.create(s.id, create, s.orchestrator.security.id)
    assert networks.problem_of(s.id, s.member) == ""
    peer = m.PeerRequest(subnet_id=s.id, peer=PeerID(s.bob.peer), ip="10.9.8.2")
    reply = await s.orchestrator.invoke(allocation.actor.handle, m.ADD_PEER, peer, Reply, timeout_s=5)
    assert reply.ok
    assert networks.problem_of(s.id, s.member) == "the null executor connects nothing that runs already"
