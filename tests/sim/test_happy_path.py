"""What should happen when nothing goes wrong."""

from __future__ import annotations

import msgspec
import trio
from trio.testing import MockClock

from dms.ensemble.config import LocationConstraints
from dms.node import payloads as p
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble, until
from dms.types.resources import Location


async def test_tasks_run_to_their_end_and_leave_nothing_behind(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    carol = await cluster.start("carol", offers=FOUR_CORES)
    for node in (bob, carol):
        node.executor.on("a-1", Script(duration_s=3, stdout=((1.0, b"counted 42\n"),)))
        node.executor.on("b-1", Script(duration_s=5, stderr=((1.0, b"warned\n"),)))
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}}))
    await alice.wait_for(job, Phase.RUNNING)
    assert len(bob.executor.started) == len(carol.executor.started) == 1, "the load is spread"
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert state.error == ""
    assert {key: (r.status, r.exit_code) for key, r in state.allocations.items()} == {
        "n1.a": ("completed", 0),
        "n2.b": ("completed", 0),
    }
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()
    assert await alice.user.log(job, "n1.a") == b"counted 42\n"
    assert await alice.user.log(job, "n2.b", "stderr") == b"warned\n"


async def test_a_service_runs_until_it_is_shut_down(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("once-1", Script(duration_s=2, stdout=((1, b"done\n"),)))
    bob.executor.on("web-1", Script(duration_s=None, stdout=((1, b"up\n"), (50, b"still up\n"))))
    job = await alice.user.deploy(ensemble({"n1": {"once": "task", "web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(600)
    status = await alice.user.status(job)
    assert status.status == "Running"
    assert {k: a.status for k, a in status.allocation_info.items()} == {"n1.once": "completed", "n1.web": "running"}
    assert bob.node.resources.allocated().cpu.cores == 1.0, "the ended task has given its part back"
    assert (await alice.user.shutdown(job)).ok
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert (state.error, state.allocations["n1.web"].status) == ("", "terminated")
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()
    assert await alice.user.log(job, "n1.web") == b"up\nstill up\n"
    await bob.kill()
    assert await alice.user.log(job, "n1.once") == b"done\n", "the logs are here, whatever becomes of the provider"


async def test_one_peer_hosts_two_nodes_when_it_has_room(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web1": "service"}, "n2": {"web2": "service"}}, cores=2.0))
    state = await alice.wait_for(job, Phase.RUNNING)
    assert {bid.peer for bid in state.assignment.values()} == {bob.peer}
    assert bob.node.resources.free().cpu.cores == 0.0
    other = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.user.shutdown(job)
    await alice.wait_for(other, Phase.COMPLETED)
    await alice.wait_until_settled(job)
    cluster.assert_nothing_is_held()


async def test_a_node_that_wants_all_that_a_peer_offers_gets_it(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob", offers=FOUR_CORES)
    whole = FOUR_CORES
    job = await alice.user.deploy(
        ensemble({"n1": {"a": "task"}}, cores=4.0, ram_bytes=whole.ram.size, disk_bytes=whole.disk.size)
    )
    await alice.wait_for(job, Phase.COMPLETED)


async def test_a_pinned_node_goes_to_its_peer_only(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    carol = await cluster.start("carol", offers=FOUR_CORES)
    pinned = ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}}, peers={"n1": carol.peer, "n2": carol.peer})
    job = await alice.user.deploy(pinned)
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert {bid.peer for bid in state.assignment.values()} == {carol.peer}
    assert bob.starts(job) == {}


async def test_ports_are_as_asked_and_reported(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    ports: list[dict[str, object]] = [
        {"public": 20000, "private": 80, "allocation": "web"},
        {"public": 0, "private": 81, "allocation": "web"},
    ]
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}, ports={"n1": ports}))
    state = await alice.wait_for(job, Phase.RUNNING)
    mapping = state.allocations["n1.web"].ports
    assert mapping.pop("20000") == 80
    ((dynamic, private),) = mapping.items()
    assert (private, 16384 <= int(dynamic) < 32768) == (81, True)
    bound = {(b.host_port, b.executor_port) for b in bob.executor.started[0].ports}
    assert bound == {(20000, 80), (int(dynamic), 81)}
    taken = await alice.user.deploy(
        ensemble({"n1": {"other": "task"}}, ports={"n1": [ports[0] | {"allocation": "other"}]})
    )
    await trio.sleep(10)
    assert alice.state(taken).phase is Phase.PREPARING, "a static port is given once"
    await alice.user.shutdown(job)
    await alice.wait_for(taken, Phase.COMPLETED)


async def test_ports_for_udp_are_for_udp_and_those_that_were_chosen_are_told_everywhere(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    ports: list[dict[str, object]] = [
        {"public": 20053, "private": 53, "allocation": "web", "protocol": "udp"},
        {"public": 0, "private": 53, "allocation": "web"},
        {"public": 0, "private": 54, "allocation": "web"},
        {"public": 0, "private": 54, "allocation": "web", "protocol": "udp"},
        {"public": 0, "private": 80, "allocation": "web1"},
    ]
    job = await alice.user.deploy(ensemble({"n1": {"web": "service", "web1": "service"}}, ports={"n1": ports}))
    state = await alice.wait_for(job, Phase.RUNNING)
    bound = {r.job_id.rpartition(".")[2]: r.ports for r in bob.executor.started}
    assert sorted((b.executor_port, b.protocol) for b in bound["web"]) == [
        (53, "tcp"), (53, "udp"), (54, "tcp"), (54, "udp"),
    ]  # fmt: skip
    assert [b.host_port for b in bound["web"] if (b.executor_port, b.protocol) == (53, "udp")] == [20053]
    known = {key: record.ports for key, record in state.allocations.items()}
    assert known == {f"n1.{name}": {str(b.host_port): b.executor_port for b in each} for name, each in bound.items()}
    assert len({port for each in known.values() for port in each}) == 5, "each once on the machine"
    info = await alice.user.call("info", p.DeploymentRequest(id=job), p.InfoReply)
    assert {key: each.ports for key, each in info.allocations.items()} == known
    udp = {str(b.host_port) for b in bound["web"] if b.protocol == "udp"}
    assert {key: set(each.udp_ports) for key, each in info.allocations.items()} == {"n1.web": udp, "n1.web1": set()}
    manifest = await alice.user.call("manifest", p.DeploymentRequest(id=job), p.ManifestReply)
    assert isinstance(manifest.manifest, dict)
    assert {key: each["ports"] for key, each in manifest.manifest["allocations"].items()} == known
    await bob.restart()
    await alice.node.deployments.live(job).orders.restart(("n1.web",))
    await until(lambda: len(bob.executor.started) == 1)
    assert set(bob.executor.started[0].ports) == set(bound["web"]), "a restart keeps them"


async def test_allocations_start_in_the_order_of_their_dependencies(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    config = ensemble({"n1": {"c": "task", "b": "task", "a": "task"}})
    v1 = config.v1
    allocations = {
        "a": v1.allocations["a"],
        "b": msgspec.structs.replace(v1.allocations["b"], depends_on=("a",)),
        "c": msgspec.structs.replace(v1.allocations["c"], depends_on=("b",)),
    }
    config = msgspec.structs.replace(config, v1=msgspec.structs.replace(v1, allocations=allocations))
    job = await alice.user.deploy(config)
    await alice.wait_for(job, Phase.RUNNING)
    assert [r.job_id.rpartition(".")[2] for r in bob.executor.started] == ["a", "b", "c"]


async def test_the_network_is_asked_no_longer_than_needed(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob", offers=FOUR_CORES)
    await trio.sleep(60)
    begun = trio.current_time()
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    assert trio.current_time() - begun < 0.5, "the window of bids lasts 5 s at most, and less when all is found"


async def test_providers_in_the_wrong_place_do_not_bid(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob", offers=FOUR_CORES, location=Location(country="FR"))
    carol = await cluster.start("carol", offers=FOUR_CORES, location=Location(country="DE"))
    config = ensemble({"n1": {"a": "task"}})
    node = msgspec.structs.replace(
        config.v1.nodes["n1"], location=LocationConstraints(accept=(Location(country="DE"),))
    )
    config = msgspec.structs.replace(config, v1=msgspec.structs.replace(config.v1, nodes={"n1": node}))
    state = await alice.wait_for(await alice.user.deploy(config), Phase.COMPLETED)
    assert state.assignment["n1"].peer == carol.peer


async def test_pinned_and_free_nodes_may_be_mixed(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}}, peers={"n1": bob.peer}))
    state = await alice.wait_for(job, Phase.COMPLETED)
    assert {bid.peer for bid in state.assignment.values()} == {bob.peer}
    assert state.round == 1, "asked twice in one round, it answers twice"
