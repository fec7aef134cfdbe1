"""The manifest tells what is placed and what is not."""

from __future__ import annotations

from tests.unit.ensemble.documents import allocation, ensemble, load

from dms.actor.handle import NOBODY
from dms.ensemble.manifest import AllocationPlacement, EnsembleManifest, NodePlacement, build_manifest
from dms.types import gojson
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import Location

EID = EnsembleID("e1")


def manifest(placed: dict[str, NodePlacement], running: dict[str, AllocationPlacement]) -> EnsembleManifest:
    config = load(
        ensemble(
            {"web": allocation(dns_name="front"), "db": allocation(type="service")},
            nodes={"n1": {"allocations": ["web"], "redundancy": 2}, "n2": {"allocations": ["db"]}},
            metadata={"team": "x"},
            contracts={"c1": {"did": "did:a:b", "host": "did:c:d"}},
        )
    ).config
    return build_manifest(config, ensemble_id=EID, orchestrator=NOBODY, nodes=placed, allocations=running)


def test_before_anything_is_placed_all_primaries_are_listed() -> None:
    found = manifest({}, {})
    assert list(found.nodes) == ["n1", "n2"]
    assert list(found.allocations) == ["n1.web", "n2.db"]
    assert found.allocations["n1.web"].id == "e1_n1.web"
    assert found.allocations["n1.web"].dns_name == "front.internal"
    assert found.nodes["n1"].status == ""
    assert found.metadata == {"team": "x"}
    assert found.contracts["c1"].id == "c1"


def test_what_is_placed_has_peer_address_and_status() -> None:
    found = manifest(
        {"n1": NodePlacement(peer=PeerID("P"), location=Location(country="IT"), pub_address=("/ip4/1.2.3.4",))},
        {"n1.web": AllocationPlacement(status="running", priv_addr="10.1.2.3", ports={"16480": 80})},
    )
    node, member = found.nodes["n1"], found.allocations["n1.web"]
    assert (node.peer, node.status, node.redundancy_role, node.allocations) == ("P", "active", "primary", ("n1.web",))
    assert (member.status, member.priv_addr, member.ports) == ("running", "10.1.2.3", {"16480": 80})
    assert member.redundancy_group == "n1"


def test_standby_nodes_appear_once_they_are_placed() -> None:
    found = manifest({"n1": NodePlacement(PeerID("P")), "n1-standby-2": NodePlacement(PeerID("Q"))}, {})
    standby = found.nodes["n1-standby-2"]
    assert (standby.redundancy_role, standby.primary_node, standby.standby_index) == ("standby", "n1", 2)
    assert standby.status == "standby"
    assert found.nodes["n1"].standby_nodes == ("n1-standby-2",)
    assert found.allocations["n1-standby-2.web"].is_standby


def test_it_survives_json() -> None:
    found = manifest(
        {"n1": NodePlacement(PeerID("P"), handle=NOBODY)}, {"n1.web": AllocationPlacement(ports={"0": 80})}
    )
    assert gojson.decode(gojson.encode(found), EnsembleManifest) == found
