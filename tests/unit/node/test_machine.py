"""Peers, onboarding, resources and what is public: payloads as they travel."""

from __future__ import annotations

from typing import Any

import msgspec
import trio
from trio.testing import MockClock

from dms.orchestrator.lifecycle.state import Phase
from dms.resources.benchmark import Benchmark
from dms.resources.benchmarks import Benchmarks
from dms.testing.executor import Script
from dms.testing.hardware import EIGHT_CORES, FixedMachine
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types import gojson
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

Json = dict[str, Any]


async def ask(node: SimulatedNode, behaviour: str, payload: object = None) -> Json:
    return await node.user.invoke(behaviour, payload, Json)


async def test_onboarding(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob = await cluster.start("bob")
    nothing = {"is_onboarded": False, "onboarded_resources": {"cpu": {}, "ram": {}, "disk": {}}}
    assert await ask(bob, "/dms/node/onboarding/status") == {"onboarded": False, "error": ""}
    refused = await ask(bob, "/dms/node/resources/onboarded")
    assert (refused["OK"], refused["error"]) == (False, "machine is not onboarded")
    too_much = Resources(cpu=CPU(cores=100.0), ram=RAM(size=8 << 30), disk=Disk(size=50 << 30))
    request = {"Config": {"onboarded_resources": gojson.to_builtins(too_much)}}
    answer = await ask(bob, "/dms/node/onboarding/onboard", request)
    assert answer["success"] is False
    assert answer["error"]
    assert answer["config"].get("is_onboarded", False) is nothing["is_onboarded"]
    request = {"Config": {"onboarded_resources": gojson.to_builtins(FOUR_CORES)}}
    answer = await ask(bob, "/dms/node/onboarding/onboard", request)
    assert (answer["success"], answer["error"], answer["config"]["is_onboarded"]) == (True, "", True)
    assert answer["config"]["onboarded_resources"]["cpu"]["cores"] == 4
    assert await ask(bob, "/dms/node/onboarding/status") == {"onboarded": True, "error": ""}
    await bob.restart()
    assert await ask(bob, "/dms/node/onboarding/status") == {"onboarded": True, "error": ""}
    assert await ask(bob, "/dms/node/onboarding/offboard") == {"success": True, "error": ""}
    again = await ask(bob, "/dms/node/onboarding/offboard")
    assert again["success"] is False
    assert again["error"]


async def test_the_owner_of_a_machine_can_restart_and_stop_what_runs_on_it(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-2", Script(None))
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    ports = (await alice.wait_for(job, Phase.RUNNING)).allocations["n1.web"].ports
    request = {"AllocationID": f"{job}_n1.web"}
    assert await ask(bob, "/dms/node/allocation/restart", request) == {"OK": True}
    assert bob.starts(job) == {"n1.web": 2}
    record = alice.state(job).allocations["n1.web"]
    assert (record.status, record.ports) == ("running", ports)
    assert await ask(bob, "/dms/node/allocation/stop", request) == {"OK": True}
    assert bob.hosted_state(job, "n1.web") == "stopped"
    state = await alice.wait_for(job, Phase.FAILED)
    assert "no sign of life" in state.error
    await alice.wait_until_settled(job)
    await trio.sleep(60)
    cluster.assert_nothing_is_held()
    again = await ask(bob, "/dms/node/allocation/restart", request)
    assert again["OK"] is False
    unknown = await ask(bob, "/dms/node/allocation/stop", {"AllocationID": "x"})
    assert unknown == {"OK": False, "Error": "allocation not found"}


async def test_resources_add_up(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, cores=1.25))
    await alice.wait_for(job, Phase.RUNNING)
    cores = {}
    for kind in ("onboarded", "allocated", "free"):
        answer = await ask(bob, f"/dms/node/resources/{kind}")
        assert answer["OK"] is True
        cores[kind] = answer["Resources"]["cpu"]["cores"]
    assert cores == {"onboarded": 4, "allocated": 1.25, "free": 2.75}
    refused = await ask(bob, "/dms/node/onboarding/offboard")
    assert (refused["success"], "Demand too high" in refused["error"]) == (False, True)
    spec = await ask(bob, "/dms/node/hardware/spec")
    assert spec["Resources"]["cpu"]["cores"] == 8
    assert (await ask(bob, "/dms/node/hardware/usage"))["OK"] is True


CARD = GPU(index=0, uuid="GPU-1", vendor="NVIDIA", model="RTX 3080", vram=10 << 30)


def vram(answer: Json) -> dict[str, int]:
    return {gpu["uuid"]: gpu.get("vram", 0) for gpu in answer["Resources"].get("gpus", ())}


async def test_gpus_are_offered_by_text_and_given_by_memory(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    total = msgspec.structs.replace(EIGHT_CORES, gpus=(CARD,))
    bob = await cluster.start("bob", machine=FixedMachine(total))
    offer = {"GPUs": "0:9", "Config": {"onboarded_resources": gojson.to_builtins(FOUR_CORES)}}
    answer = await ask(bob, "/dms/node/onboarding/onboard", offer)
    assert (answer["success"], answer["error"]) == (True, "")
    jobs = []
    for wanted in ({"vendor": "NVIDIA", "vram": 4 << 30}, {"vram": 3 << 30}):
        resources = {"cpu": {"cores": 1}, "ram": {"size": 1}, "disk": {"size": 1}, "gpus": [wanted]}
        config = ensemble({"n1": {"web": "service"}}, allocation={"resources": resources})
        jobs.append(await alice.user.deploy(config))
        await alice.wait_for(jobs[-1], Phase.RUNNING)
    hosted = (await ask(bob, "/dms/node/allocations/list"))["allocations"]
    given = [allocation["resources"]["gpus"] for allocation in hosted]
    assert sorted((gpu["uuid"], gpu["model"], gpu["vram"] >> 30) for (gpu,) in given) == [
        ("GPU-1", "RTX 3080", 3),
        ("GPU-1", "RTX 3080", 4),
    ]
    assert vram(await ask(bob, "/dms/node/resources/free")) == {"GPU-1": 2 << 30}
    await alice.user.shutdown(jobs[0])
    await alice.wait_for(jobs[0], Phase.COMPLETED)
    assert vram(await ask(bob, "/dms/node/resources/free")) == {"GPU-1": 6 << 30}
    none = {"NoGPU": True, "Config": {"onboarded_resources": gojson.to_builtins(total)}}
    assert (await ask(bob, "/dms/node/onboarding/onboard", none))["success"] is False
    bad = {"GPUs": "0:4", "NoGPU": True, "Config": {"onboarded_resources": gojson.to_builtins(FOUR_CORES)}}
    assert "at once" in (await ask(bob, "/dms/node/onboarding/onboard", bad))["error"]


async def test_what_the_machine_measured_is_told(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob = await cluster.start("bob")
    assert await ask(bob, "/dms/node/hardware/benchmark") == {"OK": True, "benchmarks": []}

    async def figures() -> Benchmark:
        return Benchmark(measured_at=5.0, seconds=1.0, disk_read_bps=7)

    await Benchmarks(bob.store, figures).run()
    answer = await ask(bob, "/dms/node/hardware/benchmark", {"run": False})
    assert answer["benchmarks"] == [{"measured_at": 5, "seconds": 1, "disk_read_bps": 7}]
    assert (await ask(bob, "/dms/node/hardware/spec"))["Resources"]["disk"]["read_speed"] == 7


async def test_what_is_hosted_is_listed(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    ports: dict[str, list[dict[str, object]]] = {"n1": [{"public": 20000, "private": 80, "allocation": "web"}]}
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, ports=ports))
    await alice.wait_for(job, Phase.RUNNING)
    (hosted,) = (await ask(bob, "/dms/node/allocations/list"))["allocations"]
    assert hosted["started_at"]
    assert hosted["created_at"]
    assert {k: hosted[k] for k in hosted.keys() - {"resources", "created_at", "started_at"}} == {
        "id": f"{job}_n1.web",
        "type": "service",
        "orchestrator": alice.peer,
        "status": "running",
        "executor": "null",
        "execution_id": f"{job}_n1.web-1",
        "using_ports": [20000],
    }
    assert (await ask(alice, "/dms/node/allocations/list")) == {"allocations": []}


async def test_peers(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob")
    carol = await cluster.start("carol")
    listed = await ask(alice, "/dms/node/peers/list")
    assert sorted(listed["Peers"]) == sorted([bob.peer, carol.peer])
    assert {c["id"] for c in listed["Connections"]} == {bob.peer, carol.peer}
    ages = [c["age_s"] for c in listed["Connections"]]
    assert all(0 < age_s < trio.current_time() for age_s in ages)
    assert {(c["transport"], c["relayed"], c["score"]) for c in listed["Connections"]} == {("tcp", False, 0.0)}
    await trio.sleep(60)
    later = [c["age_s"] for c in (await ask(alice, "/dms/node/peers/list"))["Connections"]]
    assert all(60 <= then - age_s < 61 for age_s, then in zip(ages, later, strict=True))
    scores = (await ask(alice, "/dms/node/peers/score"))["Score"]
    assert scores.keys() == set(listed["Peers"])
    assert scores[bob.peer]["Topics"] == {}
    own = await ask(alice, "/dms/node/peers/self")
    assert own == {"id": alice.peer, "listen_addr": ",".join(alice.network.listen_addresses)}
    ping = await ask(alice, "/dms/node/peers/ping", {"Host": bob.peer})
    assert (ping["Error"], ping["RTT"]) == ("", 10)
    assert (await ask(alice, "/dms/node/peers/ping", {"Host": alice.peer}))["Error"] == "can't ping self"
    assert (await ask(alice, "/dms/node/peers/ping", {"Host": "junk"}))["Error"]
    connected = await ask(alice, "/dms/node/peers/connect", {"Address": bob.network.listen_addresses[0]})
    assert connected == {"Status": "CONNECTED", "Error": ""}
    for bare in (bob.peer, f"/p2p/{bob.peer}"):
        assert (await ask(alice, "/dms/node/peers/connect", {"Address": bare}))["Status"] == "CONNECTED"
    table = await ask(alice, "/dms/node/peers/dht")
    assert {peer["id"] for peer in table["Peers"]} == {bob.peer, carol.peer}
    assert all(peer["connected"] and peer["addresses"] and peer["bucket"] >= 0 for peer in table["Peers"])
    assert (table["Serving"], table["Protocol"], table["Known"]) == (True, "/nunet/kad/1.0.0", 2)
    wrong = await ask(alice, "/dms/node/peers/connect", {"Address": "/ip4/1.2.3.4/tcp/1"})
    assert wrong["Status"] == ""
    assert wrong["Error"]
    await carol.kill()
    assert (await ask(alice, "/dms/node/peers/list"))["Peers"] == [bob.peer]


async def test_what_anybody_may_know(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    actor, to = alice.node.root, bob.node.root.handle
    assert await actor.invoke(to, "/public/hello", None, Json) == {"DID": bob.node.root.handle.did.uri}
    status = await actor.invoke(to, "/public/status", None, Json)
    assert (status["Status"], status["Resources"]["cpu"]["cores"]) == ("onboarded", 4)
    assert "config" not in {key.lower() for key in status}
    other = await bob.node.root.invoke(alice.node.root.handle, "/public/status", None, Json)
    assert other["Status"] == "not onboarded"


async def test_peers_greet_each_other_and_are_worth_more_then(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob")
    stranger = await cluster.start("stranger", is_member=False)
    assert alice.node.score(bob.peer) == 1
    await trio.sleep(120)
    assert alice.node.score(bob.peer) == 5
    assert alice.node.score(stranger.peer) == 1, "it does not answer to members it does not know"
    assert alice.node.score(alice.peer) == 0
    await bob.kill()
    assert alice.node.score(bob.peer) == 0
