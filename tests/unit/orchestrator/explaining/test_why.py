"""Why not? Reports about ensembles, bids and what was heard; and what a plan asks for."""

from __future__ import annotations

from typing import Any

import msgspec

from dms.actor.handle import handle_of_peer
from dms.ensemble.changes import Changes, Difference
from dms.ensemble.config import EdgeConfig, EnsembleConfig
from dms.identity.ids import peer_id_of
from dms.orchestrator.bidding.bid import Bid, PriceBid
from dms.orchestrator.bidding.heard import ANY_NODE, MAX_HEARD, Heard, heard_from, heard_in
from dms.orchestrator.bidding.measured import MeasuredPair
from dms.orchestrator.bidding.refusals import Hearing, RefusedNodes
from dms.orchestrator.explaining.planning import changes_to, nodes_to_place, part_of, running_version
from dms.orchestrator.explaining.report import PeerReason, Report
from dms.orchestrator.explaining.why import MAX_NODES, MAX_PEERS, Evidence, explain, explain_state, place
from dms.orchestrator.journal import DeploymentRecord
from dms.orchestrator.lifecycle.machine import begin
from dms.orchestrator.lifecycle.state import Phase
from dms.store import JournalEntry
from dms.testing.actors import key_of
from dms.testing.nodes import GIB, ensemble
from dms.types import gojson
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import CPU, RAM, Disk, Resources

ALICE, BOB, CAROL = (peer_id_of(key_of(name).public) for name in ("alice", "bob", "carol"))
ID = EnsembleID("e" * 64)


def bid(node: str, peer: PeerID, cores: float = 4.0, **members: Any) -> Bid:
    free = Resources(cpu=CPU(cores=cores), ram=RAM(size=8 * GIB), disk=Disk(size=50 * GIB))
    return Bid(node_id=node, peer=peer, handle=handle_of_peer(peer), free=free, **members)


def told(*reasons: tuple[str, PeerID, str, str]) -> Heard:
    heard = Heard()
    for node, peer, rule, hint in reasons:
        heard.add(node, PeerReason(peer=peer, rule=rule, text=f"{rule} refused", hint=hint))
    return heard


def rules(report: Report) -> dict[str, dict[PeerID, str]]:
    return {row.node: {reason.peer: reason.rule for reason in row.reasons} for row in report.nodes}


TWO = ensemble({"a": {"x": "task"}, "b": {"y": "service"}}, cores=3.0, peers={"b": CAROL})


def test_nodes_without_bids_are_named_with_what_peers_said_and_what_mends_it() -> None:
    heard = told(
        ("a", ALICE, "machine", "ask for less"), ("a", BOB, "machine", "ask for less"), (ANY_NODE, BOB, "x", "")
    )
    report, assignment = place(TWO, Evidence(heard=heard))
    assert assignment == {}
    assert report.summary == "no bids for a, b"
    assert not report.is_placed
    assert rules(report) == {"a": {ALICE: "machine", BOB: "machine"}, "b": {}}
    assert report.mends[0] == "a: ask for less (machine, 2 peers)"
    assert report.mends[1].startswith(f"b: see that {CAROL} is up")
    assert [reason.peer for reason in report.peers] == [BOB]


def test_it_says_in_which_currency_prices_were_compared_and_who_asks_in_others() -> None:
    def asks(peer: PeerID, currency: str) -> Bid:
        return msgspec.structs.replace(bid("a", peer), prices=(PriceBid(currency=currency, per_hour=1.0),))

    config = ensemble({"a": {"x": "task"}})
    report = explain(config, Evidence(bids=(asks(ALICE, "EUR"), asks(BOB, "EUR"), asks(CAROL, "JPY"))))
    assert (report.currency, report.uncompared) == ("EUR", (CAROL,))
    report = explain(config, Evidence(bids=(bid("a", BOB),)))
    assert (report.currency, report.uncompared) == ("", ())


def test_nodes_that_had_a_place_name_who_would_host_them() -> None:
    report = explain(TWO, Evidence(bids=(bid("a", BOB), bid("a", ALICE, 1.0))))
    assert report.summary == "no bids for b"
    assert {row.node: row.could for row in report.nodes} == {"a": (BOB,), "b": ()}
    assert rules(report)["a"] == {ALICE: "resources"}
    assert rules(report)["b"] == {BOB: "bid"}


def test_where_nobody_answered_it_says_where_to_look() -> None:
    [mend] = explain(ensemble({"a": {"x": "task"}}), Evidence()).mends
    assert "nunet peers" in mend
    assert "nunet cap explain" in mend


def test_the_smallest_conflict_is_one_sentence_and_each_of_its_parts_can_be_mended() -> None:
    both = ensemble({"a": {"x": "task"}, "b": {"y": "service"}}, cores=3.0)
    names = {"a", "b"}
    report = explain(both, Evidence(bids=tuple(bid(name, BOB) for name in names)))
    assert report.is_proven
    assert report.summary == "the peers that bid cannot hold a, b together"
    assert report.mends == ("ask for less in a, b, or have peers bid that have more free",)


def test_edges_that_cannot_hold_are_in_the_conflict() -> None:
    base = ensemble({"a": {"x": "task"}, "b": {"y": "service"}}, cores=3.0)
    config = EnsembleConfig(v1=msgspec.structs.replace(base.v1, edges=(EdgeConfig(s="a", t="b", rtt=10),)))
    bids = tuple(bid(name, peer) for name in ("a", "b") for peer in (ALICE, BOB))
    far = (MeasuredPair(a=ALICE, b=BOB, rtt_ms=50.0),)
    report = explain(config, Evidence(bids=bids, measured=far))
    assert "edge a–b (at most 10 ms)" in report.summary
    assert "loosen or leave out the edge a–b (at most 10 ms)" in report.mends
    assert explain(config, Evidence(bids=bids)).unmeasured == 1, "never measured: not certain"


def test_with_a_place_for_every_node_the_others_lost_by_rank_or_what_they_said() -> None:
    heard = told(("a", CAROL, "location", ""))
    report, found = place(
        ensemble({"a": {"x": "task"}}), Evidence(bids=(bid("a", ALICE), bid("a", BOB, 2.0)), heard=heard)
    )
    assert report.is_placed
    assert found == {"a": ALICE}
    assert (report.nodes[0].peer, rules(report)) == (ALICE, {"a": {BOB: "rank", CAROL: "location"}})


def test_bids_that_do_not_hold_their_node_are_told() -> None:
    report = explain(ensemble({"a": {"x": "task"}}, cores=3.0), Evidence(bids=(bid("a", BOB, 1.0),)))
    [reason] = report.nodes[0].reasons
    assert (reason.peer, reason.rule, reason.text) == (BOB, "resources", "cores: 3 wanted, 1 free")


def test_equal_nodes_are_told_once_and_rows_are_bounded() -> None:
    crowd = ensemble({f"n{i:03}": {f"x{i}": "task"} for i in range(300)})
    heard = told(*(("n000", PeerID(f"p{i:03}"), "free", "") for i in range(99)))
    report = explain(crowd, Evidence(heard=heard))
    [row] = report.nodes
    assert (row.node, row.count) == ("n000", 300)
    assert len(row.reasons) == MAX_PEERS
    assert row.more == 99 - MAX_PEERS
    many = {f"n{i:03}": {f"x{i}": "task"} for i in range(90)}
    pinned = explain(ensemble(many, peers={name: PeerID(f"peer-{name}") for name in many}), Evidence())
    assert (len(pinned.nodes), pinned.more_nodes) == (MAX_NODES, 90 - MAX_NODES)
    assert len(pinned.mends) <= 10


def test_a_deployment_is_explained_with_the_bids_that_it_chose() -> None:
    config = ensemble({"a": {"x": "task"}})
    state = begin(ID, config, now_ns=1, deadline_ns=2)
    chosen = msgspec.structs.replace(state, phase=Phase.RUNNING, assignment={"a": bid("a", BOB)})
    report = explain_state(config, chosen, Evidence())
    assert (report.is_placed, report.nodes[0].peer, report.nodes[0].reasons) == (True, BOB, ())


def entries(*steps: tuple[str, object]) -> list[JournalEntry]:
    return [JournalEntry(ID, number, kind, payload, number) for number, (kind, payload) in enumerate(steps, 1)]


def test_the_journal_tells_who_declined_broke_a_bid_or_could_not_be_reached() -> None:
    heard = heard_in(
        entries(
            ("bid_declined", {"peer": ALICE, "nodes": ["a", "b"], "rule": "free", "reason": "full", "hint": "wait"}),
            ("bid_received", {"peer": ALICE, "node": "b"}),
            ("peer_unreachable", {"peer": CAROL, "reason": "no route"}),
            ("bid_refused", {"peer": ALICE, "reason": "bid has expired"}),
            ("bids_collected", {"chosen": {"a": BOB}}),
            ("commits_done", {"refused": {"a.x": "not enough free"}}),
            ("starts_done", {"failed": {"a.x": "no such image", "ghost.x": "?"}}),
            ("bid_received", {"peer": BOB, "node": "a"}),
        )
    )
    assert {(node, peer): r.rule for node, rows in heard.by_node.items() for peer, r in rows.items()} == {
        ("a", ALICE): "free",
        ("", CAROL): "unreachable",
        ("", ALICE): "bad-bid",
        ("a", BOB): "start",
    }
    assert heard.about("a")[BOB].text == "a.x: no such image"


def test_events_that_are_not_understood_are_left_out() -> None:
    heard = heard_in(
        entries(
            ("bid_declined", {"peer": ALICE}),
            ("bid_declined", {"nodes": 7, "peer": ALICE}),
            ("bids_collected", {"chosen": 7}),
            ("starts_done", {"failed": ["a"]}),
            ("bid_received", {}),
            ("peer_unreachable", None),
            ("submitted", "text"),
        )
    )
    assert heard.by_node == {}


def test_what_was_heard_is_bounded() -> None:
    heard = Heard()
    for number in range(MAX_HEARD + 10):
        heard.add("a", PeerReason(peer=PeerID(str(number)), rule="free", text=""))
    assert len(heard.by_node["a"]) == heard.count == MAX_HEARD


def test_answers_to_the_last_request_count_as_heard() -> None:
    hearing = Hearing()
    hearing.take(BOB, [RefusedNodes(rule="free", text="full", nodes=("a",))])
    assert heard_from(hearing).about("a") == {BOB: PeerReason(peer=BOB, rule="free", text="full")}


def test_a_report_survives_the_journal() -> None:
    report = explain(TWO, Evidence(heard=told(("a", ALICE, "machine", "ask for less"))))
    assert gojson.convert(gojson.parse(gojson.encode(report)), Report) == report


# plans ---------------------------------------------------------------------------------------------------------------

ONE = ensemble({"a": {"x": "task"}})
MORE = ensemble({"a": {"x": "task"}, "b": {"y": "service"}})


def record(config: EnsembleConfig, phase: Phase, at_ns: int, ensemble_id: str) -> DeploymentRecord:
    state = msgspec.structs.replace(begin(ID, config, now_ns=at_ns, deadline_ns=9), phase=phase)
    return DeploymentRecord(EnsembleID(ensemble_id), config, state)


def named(config: EnsembleConfig, name: str) -> EnsembleConfig:
    return EnsembleConfig(v1=msgspec.structs.replace(config.v1, metadata={"name": name}))


def test_without_a_running_version_everything_is_new() -> None:
    assert changes_to(MORE, None) == Changes(Difference(added=("a", "b")), Difference(added=("x", "y")))
    assert nodes_to_place(MORE, changes_to(MORE, None)) == ("a", "b")


def test_only_what_is_new_or_not_what_it_was_needs_a_place() -> None:
    running = record(ONE, Phase.RUNNING, 1, "1")
    assert nodes_to_place(MORE, changes_to(MORE, running)) == ("b",)
    assert nodes_to_place(ONE, changes_to(ONE, running)) == ()
    larger = ensemble({"a": {"x": "task"}}, cores=2.0)
    assert nodes_to_place(larger, changes_to(larger, running)) == ("a",), "what is on it changed"
    part = part_of(MORE, ["b"])
    assert set(part.v1.nodes) == {"b"}


def test_the_running_version_is_the_newest_live_one_of_the_same_name_or_the_same_nodes() -> None:
    old, new = record(ONE, Phase.RUNNING, 1, "old"), record(ONE, Phase.RUNNING, 2, "new")
    ended, other = record(ONE, Phase.COMPLETED, 3, "ended"), record(MORE, Phase.RUNNING, 4, "other")
    blue = record(named(MORE, "blue"), Phase.RUNNING, 5, "blue")
    records = [old, new, ended, other, blue]
    assert running_version(records, ONE) is new
    assert running_version(records, MORE) is other, "one without a name is not one that has one"
    assert running_version(records, named(ONE, "blue")) is blue
    assert running_version(records, named(ONE, "green")) is None
    assert running_version([ended, record(ONE, Phase.PREPARING, 9, "waits")], ONE) is None
