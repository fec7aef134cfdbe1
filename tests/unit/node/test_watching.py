"""What happens on a node, watched from outside."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from dms.node import watch_payloads as w
from dms.node.machine_payloads import OnboardingConfig, OnboardReply, OnboardRequest
from dms.node.watching import LogRing, WatchBehaviours
from dms.observe import Event, configure_logging, get_logger
from dms.observe.catalogue import CATALOGUE
from dms.observe.ring import Ring
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble


async def two(cluster: Cluster) -> tuple[SimulatedNode, SimulatedNode, list[Event]]:
    """Alice, who deploys, and Bob, whose events are kept too."""
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    heard: list[Event] = []
    bob.node.root.events.listen(heard.append)
    return alice, bob, heard


async def watch(node: SimulatedNode, **asked: object) -> w.EventsReply:
    return await node.user.invoke(w.EVENTS, w.EventsRequest(**asked), w.EventsReply)  # type: ignore[arg-type]


async def test_a_deployment_is_told_on_both_sides_by_events_of_the_catalogue(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, bob, heard = await two(cluster)
    bob.executor.on("a-1", Script(1, exit_code=3))
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}, "n2": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(3 * 3600)
    for node in (alice, bob):
        assert node.node.root.events.undeclared == {}
    names = [event.name for event in heard]
    assert set(names) <= CATALOGUE.keys()
    assert names.index("bid_sent") < names.index("resources_committed") < names.index("allocation_changed")
    changes = [event.fields for event in heard if event.name == "allocation_changed"]
    web = [fields["state"] for fields in changes if fields["allocation"] == f"{job}_n2.web"]
    assert web[0] == "pending"
    assert "running" in web
    assert "allocation_forgotten" in names
    told = await watch(alice, names=("deployment_*",), ensemble=job[:8])
    kinds = [event.name for event in told.events]
    assert kinds[0] == "deployment_submitted"
    assert kinds[-1] == "deployment_settled"
    assert {event.fields["ensemble"] for event in told.events} == {job}
    assert all(event.name in CATALOGUE for event in told.events)
    entries = await alice.user.events(job)
    assert [f"deployment_{entry.kind}" for entry in entries] == kinds


async def test_who_watches_waits_for_news_and_goes_on_where_it_was(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    first = await watch(alice)
    assert first.ok
    waited: list[w.EventsReply] = []

    async def wait() -> None:
        waited.append(await watch(alice, after=first.next, wait_ms=20_000, names=("machine_onboarded",)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        assert not waited
        offer = OnboardRequest(config=OnboardingConfig(is_onboarded=True, onboarded_resources=FOUR_CORES), no_gpu=True)
        reply = await alice.user.invoke("/dms/node/onboarding/onboard", offer, OnboardReply)
        assert reply.success
    (event,) = waited[0].events
    assert event.fields == {
        "cores": 4.0,
        "ram_bytes": FOUR_CORES.ram.size,
        "disk_bytes": FOUR_CORES.disk.size,
        "gpus": 0,
    }
    assert (await watch(alice, after=waited[0].next)).events == ()
    assert len((await watch(alice, after=-1)).events) == 1
    assert (await watch(alice, after=0, wait_ms=-1)).error


async def test_the_comings_and_goings_of_peers_are_told(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob")
    peer = bob.peer
    await bob.stop()
    await trio.sleep(120)
    told = await watch(alice, names=("peer_*",))
    assert [(e.name, e.fields["peer"]) for e in told.events][:2] == [
        ("peer_connected", peer),
        ("peer_disconnected", peer),
    ]


@pytest.fixture
def log_ring() -> Iterator[LogRing]:
    configure_logging("DEBUG", None, console=io.StringIO())
    ring = LogRing()
    yield ring
    ring.close()
    for handler in [h for h in logging.getLogger().handlers if getattr(h, "installed_by_dms", False)]:
        logging.getLogger().removeHandler(handler)
        handler.close()
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("dms").setLevel(logging.NOTSET)


async def test_the_log_is_watched_by_level_module_and_text(
    autojump_clock: MockClock, cluster: Cluster, log_ring: LogRing
) -> None:
    alice = await cluster.start("alice")
    WatchBehaviours(Ring(), log_ring.ring).register(alice.node.root)
    log = get_logger("dms.storage.s3")
    start = await alice.user.invoke(w.LOG, w.LogRequest(after=-1), w.LogReply)
    log.info("s3_download_success", bucket="B", api_key="hunter2")
    log.debug("chatter")
    get_logger("dms.storages").warning("volume_create_failure", reason="no room")

    async def ask(**asked: object) -> list[object]:
        request = w.LogRequest(after=start.next, **asked)  # type: ignore[arg-type]
        reply = await alice.user.invoke(w.LOG, request, w.LogReply)
        return [e.entry["message"] for e in reply.entries if not str(e.entry["logger"]).startswith("dms.actor")]

    assert await ask() == ["s3_download_success", "chatter", "volume_create_failure"]
    assert await ask(level="WARN") == ["volume_create_failure"]
    assert await ask(logger="dms.storage") == ["s3_download_success", "chatter"]
    assert await ask(match="NO ROOM") == ["volume_create_failure"]
    assert await ask(match="hunter2") == []
    wrong = await alice.user.invoke(w.LOG, w.LogRequest(level="loud"), w.LogReply)
    assert "is not a level" in wrong.error


async def test_a_node_without_a_log_says_so(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    reply = await alice.user.invoke(w.LOG, w.LogRequest(), w.LogReply)
    assert (reply.ok, reply.error) == (False, "this node keeps no log")
