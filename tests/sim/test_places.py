"""Machines all over the earth: what light and coordinates spare, and what liars about their place get."""

from __future__ import annotations

import itertools

import trio
from msgspec.structs import replace
from tests.sim.plan import CITIES, NodePlan
from tests.sim.world import fibre_s
from trio.testing import MockClock

from dms.ensemble.config import EdgeConfig, EnsembleConfig, LocationConstraints
from dms.orchestrator.lifecycle.state import DeploymentState, Phase
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble
from dms.types.ids import PeerID
from dms.types.resources import Location

SETTLED_S = 120.0


def place(city: str) -> Location:
    continent, country, _, _ = CITIES[city]
    return Location(continent=continent, country=country, city=city)


def spread(cluster: Cluster, cities: dict[str, str]) -> None:
    """Every connection takes what light takes in a cable."""
    for a, b in itertools.combinations(cities, 2):
        here, there = (NodePlan(name=name, city=cities[name]) for name in (a, b))
        way_s = max(0.002, fibre_s(here, there))
        cluster.network.set_link(cluster.nodes[a].network, cluster.nodes[b].network, delay_s=way_s)


async def machines(cluster: Cluster, cities: dict[str, str], says: dict[str, str] | None = None) -> None:
    for name, city in cities.items():
        claimed = place((says or {}).get(name, city)) if city else Location()
        offers = None if name == "alice" else FOUR_CORES
        await cluster.start(name, offers=offers, location=claimed)
    spread(cluster, cities)
    await trio.sleep(SETTLED_S)


def linked(nodes: int, rtt_ms: int) -> EnsembleConfig:
    config = ensemble({f"n{n}": {f"a{n}": "task"} for n in range(1, nodes + 1)}, cores=3.0)
    edges = tuple(EdgeConfig(s=f"n{n}", t=f"n{n + 1}", rtt=rtt_ms) for n in range(1, nodes))
    return EnsembleConfig(v1=replace(config.v1, edges=edges))


def hosts(cluster: Cluster, state: DeploymentState) -> set[str]:
    return {cluster.of_peer(record.peer).name for record in state.allocations.values()}


def name_pairs(cluster: Cluster, state: DeploymentState) -> set[frozenset[str]]:
    return {frozenset(cluster.of_peer(PeerID(peer)).name for peer in (p.a, p.b)) for p in state.measured}


async def deployed(cluster: Cluster, config: EnsembleConfig) -> DeploymentState:
    alice = cluster.nodes["alice"]
    job = await alice.user.deploy(config)
    state = await alice.wait_for(job, Phase.COMPLETED, Phase.FAILED)
    await alice.wait_until_settled(job)
    return state


async def test_a_pair_that_light_forbids_is_not_measured(autojump_clock: MockClock, cluster: Cluster) -> None:
    await machines(cluster, {"alice": "", "bob": "Tokyo", "carol": "Berlin", "dave": "New York City", "erin": "Paris"})
    state = await deployed(cluster, linked(2, 30))
    assert hosts(cluster, state) == {"carol", "erin"}
    assert name_pairs(cluster, state) == {frozenset({"carol", "erin"})}
    cluster.assert_nothing_is_held()


async def test_what_light_alone_forbids_is_told_with_figures(autojump_clock: MockClock, cluster: Cluster) -> None:
    await machines(cluster, {"alice": "", "bob": "Tokyo", "carol": "Berlin"})
    state = await deployed(cluster, linked(2, 30))
    assert state.phase is Phase.FAILED
    assert not state.measured
    assert "edge n1–n2 (at most 30 ms)" in state.error


async def test_a_machine_that_lies_about_its_place_is_found_out(autojump_clock: MockClock, cluster: Cluster) -> None:
    await machines(cluster, {"alice": "Berlin", "bob": "Berlin", "carol": "Tokyo"}, says={"bob": "Tokyo"})
    config = ensemble({"n1": {"a": "task"}})
    wants = replace(config.v1.nodes["n1"], location=LocationConstraints(accept=(Location(country="JP"),)))
    state = await deployed(cluster, EnsembleConfig(v1=replace(config.v1, nodes={"n1": wants})))
    assert hosts(cluster, state) == {"carol"}


async def test_what_a_liar_says_is_told_to_whoever_asks_why(autojump_clock: MockClock, cluster: Cluster) -> None:
    await machines(cluster, {"alice": "Berlin", "bob": "Berlin"}, says={"bob": "Tokyo"})
    config = ensemble({"n1": {"a": "task"}})
    wants = replace(config.v1.nodes["n1"], location=LocationConstraints(accept=(Location(country="JP"),)))
    alice = cluster.nodes["alice"]
    job = await alice.user.deploy(EnsembleConfig(v1=replace(config.v1, nodes={"n1": wants})))
    await alice.wait_for(job, Phase.FAILED)
    bids = [entry.detail for entry in await alice.user.events(job) if entry.kind == "bid_received"]
    assert "it says JP, Tokyo, but answered in 4.0 ms" in str(bids[0]["doubt"])


async def test_coordinates_tell_what_to_measure_first(autojump_clock: MockClock, cluster: Cluster) -> None:
    """Machines that say nothing of places: of six pairs one is near, and no other is measured."""
    cities = {"alice": "Tokyo"} | {
        f"m{n}": city for n, city in enumerate(("Tokyo", "Berlin", "New York City", "Paris"))
    }
    for name in cities:
        await cluster.start(name, offers=None if name == "alice" else FOUR_CORES)
    spread(cluster, cities)
    await trio.sleep(SETTLED_S)
    state = await deployed(cluster, linked(2, 30))
    assert state.phase is Phase.COMPLETED
    assert len(state.measured) == 1
