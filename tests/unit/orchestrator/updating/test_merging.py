"""What is in force while two versions of an ensemble run."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from dms.actor.handle import handle_of_peer
from dms.ensemble.config import EdgeConfig, EnsembleConfig
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.bid import Bid
from dms.orchestrator.lifecycle.machine import begin
from dms.orchestrator.lifecycle.placing import asked_of
from dms.orchestrator.lifecycle.state import Placement
from dms.orchestrator.updating.merging import in_force
from dms.orchestrator.updating.state import Moves, Update
from dms.testing.actors import key_of
from dms.testing.nodes import ensemble
from dms.types.ids import EnsembleID
from dms.types.resources import Resources

ENSEMBLE = EnsembleID("e" * 64)
OLD_MS, NEW_MS = 10, 20


def bound(*pairs: tuple[str, str], rtt: int) -> EnsembleConfig:
    """Nodes ``a``, ``b``, ``c`` with one service each, and edges."""
    whole = ensemble({node: {f"{node}1": "service"} for node in "abc"})
    return EnsembleConfig(v1=replace(whole.v1, edges=tuple(EdgeConfig(s=s, t=t, rtt=rtt) for s, t in pairs)))


OLD = bound(("a", "b"), ("b", "c"), ("a", "c"), rtt=OLD_MS)
NEW = bound(("a", "b"), ("b", "c"), ("a", "c"), rtt=NEW_MS)


def update(*, switched: tuple[str, ...] = (), batch: tuple[str, ...] = (), is_back: bool = False) -> Update:
    moves = Moves(replaced=("a", "b", "c"))
    return Update(
        version=2,
        serial=3,
        ensemble=ENSEMBLE,
        begun_ns=0,
        deadline_ns=1,
        moves=moves,
        switched=switched,
        batch=batch,
        is_back=is_back,
    )


@pytest.mark.parametrize(
    ("given", "edges"),
    [
        (update(), {"a-b": 10, "b-c": 10, "a-c": 10}),
        (update(batch=("a",)), {"a-b": 10, "b-c": 10, "a-c": 10, "a-g3-b": 20, "a-g3-c": 20}),
        (update(batch=("a", "b")), {"a-b": 10, "b-c": 10, "a-c": 10, "a-g3-b-g3": 20, "b-g3-c": 20, "a-g3-c": 20}),
        (update(switched=("a",)), {"a-b": 20, "b-c": 10, "a-c": 20}),
        (update(switched=("a", "b", "c")), {"a-b": 20, "b-c": 20, "a-c": 20}),
        (update(switched=("a", "b", "c"), is_back=True), {"a-b": 20, "b-c": 20, "a-c": 20}),
        (update(switched=("a", "b"), is_back=True), {"a-b": 20, "b-c": 10, "a-c": 10}),
        (
            update(switched=("a", "b"), batch=("a",), is_back=True),
            {"a-b": 20, "b-c": 10, "a-c": 10, "a-g3-b": 10, "a-g3-c": 10},
        ),
    ],
)
def test_each_edge_is_that_of_the_version_whose_nodes_it_binds(given: Update, edges: dict[str, int]) -> None:
    """And what is about to replace a node is bound as it will be."""
    force = in_force(OLD, NEW, given).v1
    assert sorted((f"{edge.s}-{edge.t}", edge.rtt) for edge in force.edges) == sorted(edges.items())
    assert all(end in force.nodes for edge in force.edges for end in (edge.s, edge.t))


def test_edges_to_what_is_not_there_yet_are_not_in_force() -> None:
    """A node that a later batch adds binds nobody."""
    whole = ensemble({node: {f"{node}1": "service"} for node in "abcd"})
    target = EnsembleConfig(v1=replace(whole.v1, edges=(EdgeConfig(s="a", t="d", rtt=NEW_MS),)))
    given = replace(update(switched=("a",)), moves=Moves(added=("d",), replaced=("a",)))
    assert in_force(OLD, target, given).v1.edges == (EdgeConfig(s="b", t="c", rtt=OLD_MS),)
    added = in_force(OLD, target, replace(given, batch=("d",))).v1.edges
    assert added == (EdgeConfig(s="b", t="c", rtt=OLD_MS), EdgeConfig(s="a", t="d", rtt=NEW_MS))


def test_a_node_that_moves_during_an_update_goes_where_its_neighbours_successor_is_near() -> None:
    """Seed 6443: only the neighbour that was about to be replaced was looked at, and the edge did not hold afterwards."""
    peers = [peer_id_of(key_of(name).public) for name in ("one", "two")]
    force = in_force(OLD, NEW, update(batch=("a",)))
    state = replace(
        begin(ENSEMBLE, OLD, now_ns=1, deadline_ns=2),
        assignment={
            node: Bid(node_id=node, peer=peer, handle=handle_of_peer(peer), free=Resources())
            for node, peer in zip(("a", "a-g3"), peers, strict=True)
        },
        placements={"b": Placement()},
    )
    asked = asked_of(state, force, "b").v1
    assert {(edge.s, edge.t, edge.rtt) for edge in asked.edges} == {("b", "a", OLD_MS), ("b", "a-g3", NEW_MS)}
    assert (asked.nodes["a"].peer, asked.nodes["a-g3"].peer) == (peers[0], peers[1])
