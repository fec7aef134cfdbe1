"""Statistics events as release 0.5 had them."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dms.node.machine_payloads import OffboardReply, OnboardingConfig, OnboardReply, OnboardRequest
from dms.node.statistics import TYPES, NtxPayment, float32
from dms.node.watch_payloads import EVENTS, EventsReply, EventsRequest
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types import gojson


async def told(node: SimulatedNode) -> list[tuple[str, dict[str, object]]]:
    reply = await node.user.invoke(EVENTS, EventsRequest(names=("statistics",)), EventsReply)
    return [(event.fields["type"], event.fields["members"]) for event in reply.events]


async def test_a_machine_and_what_runs_on_it_are_told_in_the_old_form(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, bob = await cluster.start("alice"), await cluster.start("bob")
    bob.executor.on("a-1", Script(100))
    offer = OnboardRequest(config=OnboardingConfig(is_onboarded=True, onboarded_resources=FOUR_CORES), no_gpu=True)
    await bob.user.invoke("/dms/node/onboarding/onboard", offer, OnboardReply)
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.wait_until_settled(job)
    await trio.sleep(4 * 3600)
    await bob.user.invoke("/dms/node/onboarding/offboard", None, OffboardReply)
    await bob.user.invoke("/dms/node/onboarding/onboard", offer, OnboardReply)
    events = await told(bob)
    names = [name for name, _ in events]
    assert names[:3] == ["NewDeviceOnboarded", "DeviceStatusChange", "NewService"]
    assert names[-4:] == ["ServiceRemove", "DeviceStatusChange", "DeviceResourceChange", "DeviceStatusChange"]
    first = events[0][1]
    assert first.keys() == {"PeerID", "CPU", "RAM", "Network", "DedicatedTime", "Timestamp"}
    assert (first["PeerID"], first["CPU"], first["RAM"]) == (bob.peer, 4.0, float(FOUR_CORES.ram.size))
    (call,) = [members for name, members in events if name == "ServiceCall"]
    assert call["ServiceID"] == f"{job}_n1.a"
    assert (call["CallID"], call["AmountOfNtx"], call["Status"]) == (1.0, 0, "completed")
    assert 100 <= float(str(call["TimeTaken"])) < 110
    statuses = [members["Status"] for name, members in events if name == "ServiceStatus"]
    assert statuses[0] == "pending"
    assert statuses[-1] == "completed"
    assert all(gojson.convert(members, TYPES[name]) is not None for name, members in events)


def test_all_types_of_release_0_5_are_known() -> None:
    assert len(TYPES) == 9
    payment = b'{"CallID":1,"ServiceID":"s","AmountOfNtx":5,"PeerID":"p","SuccessFailStatus":"ok","Timestamp":7}'
    assert gojson.decode(payment, NtxPayment).amount_of_ntx == 5


def test_numbers_have_32_bits() -> None:
    assert float32(0.1) == 0.10000000149011612
    assert float32(1e300) == 0.0
