"""Whether to bid: each reason not to, and what was offered to whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from dms.actor.behaviour import Message
from dms.actor.envelope import Envelope, Options, encode_payload
from dms.ensemble.config import LocationConstraints
from dms.identity.ids import ActorID, peer_id_of
from dms.node.bidding import BID_LIFETIME_S, MAX_NODE_REQUESTS, Bidder, Offerings, refusal
from dms.node.errors import InvalidRequest, NoBid
from dms.orchestrator.bidding.sampling import draw, share
from dms.orchestrator.messages import (
    BID,
    BidRequest,
    GeneralRequirements,
    NodeRequest,
    PublicPorts,
    Sampling,
    VersionedNodeRequest,
)
from dms.resources.capability import (
    KYC,
    Connectivity,
    HardwareCapability,
    Library,
    Locality,
    Price,
    StorageUnit,
    Time,
)
from dms.resources.declared import declared
from dms.resources.errors import PortsTaken
from dms.testing.actors import World, key_of, wall_clock_ns
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import CPU, GPU, RAM, Disk, Location, Resources

US = peer_id_of(key_of("us").public)
ENSEMBLE = EnsembleID("e" * 64)
MACHINE = Resources(
    cpu=CPU(cores=4.0, clock_speed=2e9, architecture="x86_64"),
    ram=RAM(size=8 << 30),
    disk=Disk(size=50 << 30),
    gpus=(GPU(index=0, vendor="NVIDIA", model="T4", vram=16 << 30),),
)
OFFER = Offerings(
    peer=US,
    executors=frozenset({"wasm", "docker"}),
    machine=MACHINE,
    free=MACHINE,
    location=Location(continent="EU", country="DE"),
)
WANTED = NodeRequest(
    node_id="n1",
    executors=("wasm",),
    resources=Resources(cpu=CPU(cores=1.0), ram=RAM(size=1 << 30), disk=Disk(size=1 << 30)),
)


def wanting(**members: Any) -> NodeRequest:
    return msgspec.structs.replace(WANTED, **members)


def offering(**members: Any) -> Offerings:
    fields = {f: getattr(OFFER, f) for f in OFFER.__dataclass_fields__}
    return Offerings(**(fields | members))


def busy(_static: Sequence[int], _dynamic: int) -> None:
    raise PortsTaken("ports are already allocated: 80")


def test_what_fits_is_not_refused() -> None:
    assert refusal(WANTED, OFFER, ()) == ""
    assert refusal(wanting(resources=MACHINE), OFFER, (PeerID("another"),)) == "", "all that there is, is enough"


REASONS: list[tuple[NodeRequest, Offerings, tuple[PeerID, ...], str]] = [
    (WANTED, OFFER, (US,), "this peer is excluded"),
    (
        wanting(location=LocationConstraints(accept=(Location(country="FR"),))),
        OFFER,
        (),
        "the location does not match",
    ),
    (
        wanting(location=LocationConstraints(reject=(Location(continent="eu"),))),
        OFFER,
        (),
        "the location does not match",
    ),
    (wanting(executors=("wasm", "firecracker", "qemu")), OFFER, (), "no executor firecracker, qemu"),
    (
        wanting(general=GeneralRequirements(privileged_docker=True)),
        OFFER,
        (),
        "privileged containers are not allowed here",
    ),
    (
        wanting(needs_network=True),
        offering(lacks_network="the process has no CAP_NET_ADMIN"),
        (),
        "no private addresses are given here: the process has no CAP_NET_ADMIN",
    ),
    (
        wanting(resources=Resources(cpu=CPU(cores=4.01))),
        OFFER,
        (),
        "the machine falls short: 4.01 cores wanted, 4 there",
    ),
    (
        wanting(resources=Resources(cpu=CPU(cores=1, architecture="arm64"))),
        OFFER,
        (),
        "the machine falls short: arm64 wanted, the machine is x86_64",
    ),
    (
        wanting(resources=Resources(gpus=(GPU(vendor="AMD/ATI"),))),
        OFFER,
        (),
        "the machine falls short: ",
    ),
    (WANTED, offering(free=Resources(cpu=CPU(cores=0.5))), (), "not enough free resources now"),
    (wanting(public_ports=PublicPorts(static=(80,))), offering(ports=busy), (), "ports are already allocated: 80"),
    (wanting(resources=Resources(cpu=CPU(cores=-1.0))), OFFER, (), "invalid resources: -1.0 cores"),
    (wanting(resources=Resources(cpu=CPU(cores=float("inf")))), OFFER, (), "invalid resources: inf cores"),
]


def sharing(**wants: tuple[GPU, ...]) -> NodeRequest:
    """A node whose allocations want these GPUs."""
    parts = {name: Resources(cpu=CPU(cores=1.0), gpus=gpus) for name, gpus in wants.items()}
    whole = Resources(cpu=CPU(cores=float(len(parts))), gpus=tuple(gpu for part in parts.values() for gpu in part.gpus))
    return wanting(resources=whole, allocations=parts)


EIGHT = (GPU(vram=8 << 30),)
TAKEN = Resources(cpu=CPU(cores=4.0), gpus=(GPU(index=0, vendor="NVIDIA", model="T4", vram=9 << 30),))
REASONS += [
    (sharing(a=EIGHT, b=EIGHT, c=EIGHT), OFFER, (), "the machine falls short: its GPUs cannot serve 3 allocations"),
    (sharing(a=EIGHT * 2), OFFER, (), "the machine falls short: its GPUs cannot serve 1 allocations"),
    (sharing(a=EIGHT, b=(GPU(),)), OFFER, (), "the machine falls short: its GPUs cannot serve 2 allocations"),
    (sharing(a=EIGHT, b=EIGHT), offering(free=TAKEN), (), "not enough free GPU memory now"),
    (sharing(a=EIGHT, b=(GPU(vram=-1),)), OFFER, (), "invalid resources: -1 bytes of VRAM"),
]


def test_allocations_of_a_node_share_a_gpu_as_long_as_its_memory_lasts() -> None:
    assert refusal(sharing(a=EIGHT, b=EIGHT), OFFER, ()) == ""
    assert refusal(sharing(a=EIGHT), offering(free=TAKEN), ()) == ""
    whole = sharing(a=EIGHT, b=EIGHT)
    of_the_original = msgspec.structs.replace(whole, allocations=None)
    assert refusal(of_the_original, OFFER, ()).startswith("the machine falls short"), "one list: different devices"


DECLARED = declared(libraries=("openmpi 4.1.6", "cuda"), prices=("NTX 0.5 2",), proofs=("iso27001 c-77",), max_hours=24)
CAPABILITIES: list[tuple[HardwareCapability, str]] = [
    (HardwareCapability(executor=("wasm", "docker"), type=("batch",)), ""),
    (HardwareCapability(executor=("qemu",)), "executor: no executor qemu"),
    (HardwareCapability(type=("recurring",)), "type: no jobs of type recurring"),
    (HardwareCapability(resources=Resources(cpu=CPU(cores=4.0))), ""),
    (HardwareCapability(resources=Resources(cpu=CPU(cores=5.0))), "cpu.cores: 5 cores wanted, 4 there"),
    (HardwareCapability(libraries=(Library(name="openmpi", constraint=">=", version="4.0"), Library(name="cuda"))), ""),
    (
        HardwareCapability(libraries=(Library(name="openmpi", constraint=">=", version="5"),)),
        "libraries: no library openmpi >=5",
    ),
    (HardwareCapability(locality=(Locality(kind="country", name="DE"),)), ""),
    (HardwareCapability(locality=(Locality(kind="country", name="FR"),)), "locality: no place country FR"),
    (HardwareCapability(storage=(StorageUnit(type="ssd", size=40 << 30),)), ""),
    (HardwareCapability(storage=(StorageUnit(type="hdd", size=1),)), "storage: 1 devices of hdd too few"),
    (HardwareCapability(connectivity=Connectivity(ports=(8080,))), ""),
    (HardwareCapability(connectivity=Connectivity(ports=(80, 8080))), "connectivity: no port 80"),
    (HardwareCapability(connectivity=Connectivity(vpn=True)), "connectivity: no private network"),
    (HardwareCapability(price=(Price(currency="NTX", currency_per_hour=0.5, total_per_job=2.0),)), ""),
    (HardwareCapability(price=(Price(currency="NTX", currency_per_hour=0.4),)), "price: too expensive in NTX"),
    (HardwareCapability(price=(Price(currency="EUR", currency_per_hour=9.0),)), "price: no price in EUR"),
    (HardwareCapability(time=Time(units="days", max_time=1)), ""),
    (HardwareCapability(time=Time(units="days", max_time=2)), "time: 172800 s wanted, 86400 s offered"),
    (HardwareCapability(kycs=(KYC(type="iso27001"),)), ""),
    (HardwareCapability(kycs=(KYC(type="iso27001", data="c-78"),)), "KYCs: no proof iso27001 c-78"),
    (HardwareCapability(time=Time(units="eons", max_time=2)), 'invalid unit of time "eons"'),
    (HardwareCapability(libraries=(Library(name="x", version="?"),)), 'invalid version "?"'),
    (
        HardwareCapability(type=("recurring",), kycs=(KYC(type="x"),)),
        "type: no jobs of type recurring; KYCs: no proof x",
    ),
]


@pytest.mark.parametrize(("wanted", "reason"), CAPABILITIES)
def test_each_rule_of_a_capability_is_held_and_named(wanted: HardwareCapability, reason: str) -> None:
    def no_port_80(static: Sequence[int], dynamic: int) -> None:
        if 80 in static:
            busy(static, dynamic)

    machine = msgspec.structs.replace(MACHINE, disk=Disk(size=50 << 30, type="SSD"))
    offer = offering(machine=machine, free=machine, declared=DECLARED, ports=no_port_80)
    assert refusal(wanting(capability=wanted), offer, ()) == reason


def test_a_machine_that_says_nothing_of_itself_meets_what_asks_for_nothing() -> None:
    assert refusal(wanting(capability=HardwareCapability()), OFFER, ()) == ""
    assert refusal(wanting(capability=HardwareCapability(kycs=(KYC(type="any"),))), OFFER, ()) == "KYCs: no proof any"


def test_a_reason_is_short_whatever_was_asked_for() -> None:
    wanted = HardwareCapability(executor=tuple(f"{number:0100}" for number in range(1000)))
    assert len(refusal(wanting(capability=wanted), OFFER, ())) <= 500


@pytest.mark.parametrize(("wanted", "offer", "excluded", "reason"), REASONS, ids=[r[3][:30] for r in REASONS])
def test_each_reason_not_to_bid_is_told(
    wanted: NodeRequest, offer: Offerings, excluded: tuple[PeerID, ...], reason: str
) -> None:
    assert refusal(wanted, offer, excluded).startswith(reason)


def test_privileged_containers_run_where_they_are_allowed() -> None:
    wanted = wanting(general=GeneralRequirements(privileged_docker=True))
    assert refusal(wanted, offering(allow_privileged=True), ()) == ""


def test_addresses_are_needed_only_where_that_is_said_and_given_where_nothing_is_lacking() -> None:
    assert refusal(WANTED, offering(lacks_network="root is asleep"), ()) == ""
    assert refusal(wanting(needs_network=True), OFFER, ()) == ""


amounts = st.builds(
    Resources,
    cpu=st.builds(CPU, cores=st.floats(width=32), clock_speed=st.floats(width=32)),
    ram=st.builds(RAM, size=st.integers()),
    disk=st.builds(Disk, size=st.integers()),
    gpus=st.lists(st.builds(GPU, index=st.integers(), vram=st.integers()), max_size=3).map(tuple),
)


@settings(max_examples=100)
@given(amounts, st.none() | st.lists(st.text(max_size=5), max_size=3).map(tuple))
def test_no_request_makes_it_stumble(resources: Resources, executors: tuple[str, ...] | None) -> None:
    assert isinstance(refusal(wanting(resources=resources, executors=executors), OFFER, ()), str)


class FakeMachine:
    def __init__(self) -> None:
        self.offer: Offerings | None = OFFER

    async def offerings(self) -> Offerings | None:
        return self.offer


class Desk:
    """A bidder, and somebody who asks it."""

    def __init__(self, world: World, bidder: Bidder, machine: FakeMachine, bids: list[Any], sender: Any) -> None:
        self.world, self.bidder, self.machine, self.bids, self.sender = world, bidder, machine, bids, sender

    async def ask(
        self, *nodes: NodeRequest, nonce: str = "1", id_: str = ENSEMBLE, inbox: str = "root", **members: Any
    ) -> int:
        """How many bids come back."""
        entries = tuple(VersionedNodeRequest(v1=n) for n in nodes)
        request = BidRequest(id=EnsembleID(id_), nonce=nonce, request=entries, **members)
        sender = self.sender.handle
        if inbox != "root":
            sender = msgspec.structs.replace(sender, id=ActorID.of(key_of(inbox).public))
        envelope = Envelope(
            to=self.sender.handle,
            be="/dms/deployment/request",
            from_=sender,
            nonce=1,
            opt=Options(exp=wall_clock_ns() + 10**10, cont=BID),
            msg=encode_payload(request),
        )
        before = len(self.bids)
        await self.bidder.on_request(Message(envelope, request))
        await trio.sleep(1)
        return len(self.bids) - before


async def at_desk(world: World, run: Callable[[Desk], Any]) -> None:
    bids: list[Any] = []

    async def on_bid(message: Message[Any]) -> None:
        bids.append(message.payload)

    async with world.node("us") as us, world.node("asker") as asker:
        await trio.sleep(1)
        asker.on(BID, on_bid)
        machine = FakeMachine()
        await run(Desk(world, Bidder(us, machine), machine, bids, asker))


async def test_one_bid_for_all_nodes_that_fit(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        wanted = (WANTED, wanting(node_id="n2"), wanting(node_id="n3", executors=("qemu",)))
        assert await desk.ask(*wanted, sampling=Sampling()) == 1
        bid = desk.bids[0]
        assert sorted((bid["V1"]["NodeID"], *bid["Offer"]["nodes"])) == ["n1", "n2"]
        who = desk.sender.handle.id
        expiry = desk.bidder.check(ENSEMBLE, "n2", who)
        assert expiry <= wall_clock_ns() + BID_LIFETIME_S * 10**9
        with pytest.raises(NoBid, match="no bid requests for ensemble id"):
            desk.bidder.check(ENSEMBLE, "n3", who)

    await at_desk(World(), run)


async def test_who_knows_no_bids_for_several_nodes_gets_one_for_one_of_them(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        wanted = [wanting(node_id=f"n{number}") for number in range(4)]
        seen = set()
        for nonce in range(30):
            assert await desk.ask(*wanted, nonce=str(nonce)) == 1
            assert "nodes" not in desk.bids[-1]["Offer"]
            seen.add(desk.bids[-1]["V1"]["NodeID"])
        assert seen == {"n0", "n1", "n2", "n3"}, "not always the same, or the others would get no bids"

    await at_desk(World(), run)


async def test_a_bid_for_a_kind_holds_for_all_its_nodes_and_no_others(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        kind = wanting(node_id="w-0001", nodes=("w-0002..w-9999", "x"))
        assert await desk.ask(kind, sampling=Sampling()) == 1
        who = desk.sender.handle.id
        for name in ("w-0001", "w-0002", "w-9999", "x"):
            assert desk.bidder.check(ENSEMBLE, name, who)
        for name in ("w-0000", "w-10000", "w-2", "y", "w-0002..w-9999"):
            with pytest.raises(NoBid):
                desk.bidder.check(ENSEMBLE, name, who)
        assert await desk.ask(wanting(node_id="a", nodes=("w-1..w-999999",)), nonce="2", sampling=Sampling()) == 0

    await at_desk(World(), run)


async def test_only_those_whose_turn_it_is_answer_and_the_others_when_more_are_asked(autojump_clock: MockClock) -> None:
    us = key_of("us")
    turn = draw("1", peer_id_of(us.public))

    async def run(desk: Desk) -> None:
        many = int(10 / turn)
        few = Sampling(target=9, size=many)
        assert share(few) < turn
        assert await desk.ask(WANTED, sampling=few) == 0
        assert await desk.ask(WANTED, sampling=msgspec.structs.replace(few, stage=1)) == 1
        assert await desk.ask(WANTED, sampling=Sampling(stage=2)) == 0, "it has answered"

    await at_desk(World(), run)


async def test_answers_wait_for_their_moment(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        began_s = trio.current_time()
        assert await desk.ask(WANTED, sampling=Sampling(jitter_ms=10**9)) == 1
        assert 1 < trio.current_time() - began_s < 2.1, "a second at most, and the one that the desk waits"

    await at_desk(World(), run)


async def test_a_bid_says_what_it_costs_and_how_long_work_may_last(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        desk.machine.offer = offering(declared=DECLARED)
        assert await desk.ask(WANTED) == 1
        offer = desk.bids[0]["Offer"]
        assert offer["prices"] == [{"currency": "NTX", "per_hour": 0.5, "per_result": 2.0}]
        assert offer["time"] == {"max_s": 24 * 3600}

    await at_desk(World(), run)


async def test_the_same_request_is_answered_once(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        assert await desk.ask(WANTED) == 1
        assert await desk.ask(WANTED) == 0, "the same round again"
        assert await desk.ask(wanting(node_id="n2")) == 1, "other nodes of the round"
        assert await desk.ask(WANTED, nonce="2") == 1, "the next round"

    await at_desk(World(), run)


async def test_nothing_is_offered_by_a_machine_that_offers_nothing(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        desk.machine.offer = None
        assert await desk.ask(WANTED) == 0

    await at_desk(World(), run)


async def test_an_ensemble_belongs_to_who_asked_first_until_the_bid_expires(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        await desk.ask(WANTED)
        mine, theirs = desk.sender.handle.id, ActorID.of(key_of("thief").public)
        await desk.ask(WANTED, nonce="2", inbox="thief")
        desk.bidder.check(ENSEMBLE, "n1", mine)
        with pytest.raises(NoBid):
            desk.bidder.check(ENSEMBLE, "n1", theirs)
        desk.bidder.forget(ENSEMBLE, theirs)
        desk.bidder.check(ENSEMBLE, "n1", mine)
        await trio.sleep(BID_LIFETIME_S + 1)
        with pytest.raises(NoBid, match="expired"):
            desk.bidder.check(ENSEMBLE, "n1", mine)
        await desk.ask(WANTED, nonce="3", inbox="thief")
        desk.bidder.check(ENSEMBLE, "n1", theirs)
        desk.bidder.forget(ENSEMBLE, theirs)
        with pytest.raises(NoBid):
            desk.bidder.check(ENSEMBLE, "n1", theirs)

    await at_desk(World(), run)


async def test_what_expired_is_swept(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        await desk.ask(WANTED)
        desk.bidder.sweep()
        desk.bidder.check(ENSEMBLE, "n1", desk.sender.handle.id)
        await trio.sleep(BID_LIFETIME_S + 1)
        desk.bidder.sweep()
        assert (desk.bidder._bids, desk.bidder._answered) == ({}, {})

    await at_desk(World(), run)


async def test_a_list_without_end_is_cut(autojump_clock: MockClock) -> None:
    async def run(desk: Desk) -> None:
        refused = wanting(executors=("qemu",))
        assert await desk.ask(*[refused] * MAX_NODE_REQUESTS, WANTED) == 0
        with pytest.raises(InvalidRequest):
            await desk.ask(WANTED, id_="../etc")

    await at_desk(World(), run)
