"""Who has which address, and what each machine is told."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dms.actor.handle import handle_of_peer
from dms.ensemble.config import EnsembleConfig, SubnetConfig
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.lifecycle.machine import begin
from dms.orchestrator.lifecycle.state import DeploymentState, Network
from dms.orchestrator.private_network.plan import ORCHESTRATOR, addressed, choose, gateway_of, views
from dms.subnet.addresses import parse_network
from dms.testing.actors import key_of
from dms.testing.nodes import ensemble
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import Resources

ENSEMBLE = EnsembleID("e" * 64)
PEERS = [peer_id_of(key_of(f"peer {number}").public) for number in range(3)]
CONFIG = ensemble({"n1": {"web": "service", "db": "service"}, "n2": {"cache": "service"}})
CIDR = "10.20.30.0/24"


def placed(places: dict[str, PeerID], config: EnsembleConfig = CONFIG) -> DeploymentState:
    """A deployment whose nodes are at these peers, with a network."""
    state = begin(ENSEMBLE, config, now_ns=0, deadline_ns=1)
    records = {
        key: msgspec.structs.replace(record, peer=places[record.node_id], handle=handle_of_peer(places[record.node_id]))
        for key, record in state.allocations.items()
    }
    bids = {node: Bid(node_id=node, peer=p, handle=handle_of_peer(p), free=Resources()) for node, p in places.items()}
    return addressed(
        msgspec.structs.replace(state, allocations=records, assignment=bids, network=Network(cidr=CIDR)), config
    )


def ids(state: DeploymentState) -> dict[str, str]:
    assert state.network is not None
    return {key: state.network.addresses[record.id] for key, record in state.allocations.items()}


def test_two_allocations_of_one_node_have_two_addresses_and_neither_is_the_gateway() -> None:
    state = placed({"n1": PEERS[0], "n2": PEERS[1]})
    assert state.network is not None
    assert len(set(ids(state).values())) == 3
    assert gateway_of(state.network) == "10.20.30.1"
    assert "10.20.30.1" not in ids(state).values()


def test_an_allocation_that_moves_keeps_its_address_and_only_the_machine_behind_it_changes() -> None:
    before = placed({"n1": PEERS[0], "n2": PEERS[1]})
    after = placed({"n1": PEERS[0], "n2": PEERS[2]})
    assert ids(before) == ids(after)
    told = views(ENSEMBLE, after, CONFIG)
    assert told.keys() == {PEERS[0], PEERS[2]}
    for view in told.values():
        assert view.request.routing_table == {
            ids(after)["n1.db"]: PEERS[0],
            ids(after)["n1.web"]: PEERS[0],
            ids(after)["n2.cache"]: PEERS[2],
        }
        assert view.request.records == {
            "db.internal": ids(after)["n1.db"],
            "web.internal": ids(after)["n1.web"],
            "cache.internal": ids(after)["n2.cache"],
        }
    assert set(told[PEERS[2]].request.members.values()) == {ids(after)["n2.cache"]}


def test_what_has_ended_is_nowhere_and_its_address_is_not_given_away_while_it_may_come_back() -> None:
    state = placed({"n1": PEERS[0], "n2": PEERS[1]})
    cache = msgspec.structs.replace(state.allocations["n2.cache"], status="completed")
    state = msgspec.structs.replace(state, allocations=state.allocations | {"n2.cache": cache})
    assert views(ENSEMBLE, state, CONFIG).keys() == {PEERS[0]}
    assert addressed(state, CONFIG) is state


def test_a_machine_that_joins_is_told_and_has_a_name() -> None:
    config = EnsembleConfig(v1=msgspec.structs.replace(CONFIG.v1, subnet=SubnetConfig(join=True)))
    state = placed({"n1": PEERS[0], "n2": PEERS[0]}, config)
    assert state.network is not None
    own = handle_of_peer(PEERS[2])
    told = views(ENSEMBLE, state, config, own)
    address = state.network.addresses[ORCHESTRATOR]
    assert told[PEERS[2]].request.ip == address
    assert told[PEERS[0]].request.ip == ""
    assert told[PEERS[0]].request.records["orchestrator.internal"] == address
    assert told[PEERS[0]].request.routing_table[address] == PEERS[2]
    assert ORCHESTRATOR not in placed({"n1": PEERS[0], "n2": PEERS[0]}).network.addresses  # type: ignore[union-attr]


@given(st.lists(st.sets(st.integers(0, 30), max_size=20), min_size=1, max_size=8))
def test_whoever_stays_keeps_an_address_that_nobody_else_has(generations: list[set[int]]) -> None:
    state = begin(ENSEMBLE, CONFIG, now_ns=0, deadline_ns=1)
    pattern = state.allocations["n1.web"]
    state = msgspec.structs.replace(state, network=Network(cidr=CIDR))
    before: dict[str, str] = {}
    for members in generations:
        records = {f"n.a{n}": msgspec.structs.replace(pattern, id=f"{ENSEMBLE}_n.a{n}") for n in members}
        state = addressed(msgspec.structs.replace(state, allocations=records), CONFIG)
        assert state.network is not None
        now = state.network.addresses
        assert now.keys() == {f"{ENSEMBLE}_n.a{n}" for n in members}
        assert len(set(now.values())) == len(now)
        assert all(now[id_] == before[id_] for id_ in now.keys() & before.keys())
        before = now


def test_a_network_has_room_to_grow_and_avoids_what_is_in_use() -> None:
    state = begin(ENSEMBLE, CONFIG, now_ns=0, deadline_ns=1)
    half = ["10.0.0.0/9"]
    chosen = [parse_network(choose(Random(seed), state, half)) for seed in range(20)]
    assert all(network.prefixlen == 24 and not network.overlaps(parse_network("10.0.0.0/9")) for network in chosen)
    assert len(set(chosen)) > 5
    assert choose(Random(1), state, ["10.0.0.0/8"]) == ""
    many = {f"n.a{n}": state.allocations["n1.web"] for n in range(300)}
    large = choose(Random(1), msgspec.structs.replace(state, allocations=many))
    assert parse_network(large).num_addresses >= 600


def test_the_ports_that_the_ensemble_opens_are_told_with_the_names() -> None:
    ports: list[dict[str, object]] = [
        {"public": 0, "private": 80, "allocation": "web"},
        {"public": 20000, "private": 80, "allocation": "web"},
        {"public": 0, "private": 53, "allocation": "db", "protocol": "udp"},
    ]
    config = ensemble({"n1": {"web": "service", "db": "service"}, "n2": {"cache": "service"}}, ports={"n1": ports})
    for view in views(ENSEMBLE, placed({"n1": PEERS[0], "n2": PEERS[1]}, config), config).values():
        assert view.request.services == {"web.internal": ("tcp/80",), "db.internal": ("udp/53",)}
