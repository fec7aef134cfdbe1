"""Why this machine gets no work: findings from facts, and from whole nodes that did not bid, bid in vain, or won."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.actor.errors import RemoteNotAuthorized
from dms.hardware.clock import ClockState
from dms.identity.ids import did_of
from dms.node.diagnosis import Admits, Facts, diagnose, summary
from dms.node.doctor import who_is_admitted
from dms.node.doctor_payloads import DOCTOR_WORK, DoctorReply, DoctorRequest
from dms.node.node import NodeOptions
from dms.node.reasons import Rule
from dms.node.worklog import HeardRequest, RefusedHere, Stranger
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.actors import World
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID, PeerID
from dms.types.resources import CPU, RAM, Disk, Location, Resources


def facts(**members: Any) -> Facts:
    """Of a machine against which nothing stands, but for ``members``."""
    good: dict[str, Any] = {
        "hours": 24,
        "is_ready": True,
        "onboarded": FOUR_CORES,
        "free": FOUR_CORES,
        "hosted": 0,
        "executors": frozenset({"wasm"}),
        "missing": {},
        "peers": 3,
        "admits": Admits.OTHERS,
        "location": Location(country="DE"),
        "clock": ClockState(True, 0.01),
        "expired": 0,
        "counts": {"requests": 5, "bids": 2, "won": 2},
    }
    return Facts(**(good | members))


def test_against_a_good_machine_nothing_stands() -> None:
    findings = diagnose(facts())
    assert {finding.level for finding in findings} == {"ok"}
    assert summary(findings) == "nothing stands against work here"


REQUEST = HeardRequest(
    ensemble=EnsembleID("e" * 64),
    peer=PeerID("alice"),
    did="did:key:alice",
    first_ns=1,
    last_ns=2,
    rounds=1,
    nodes=1,
    bid=0,
    refused=(RefusedHere(rule="executor", reason="no executor docker", remedy="", nodes=1),),
)
STRANGER = Stranger(
    peer=PeerID("mallory"), did="did:key:mallory", times=7, last_ns=1, reason="not authorized: no token"
)
EMPTY = Resources(cpu=CPU(cores=0), ram=RAM(size=1), disk=Disk(size=1))
CASES: list[tuple[dict[str, Any], str, str, str, str]] = [
    ({"onboarded": None, "free": None}, "problem", "offer", "this machine offers nothing", "nunet onboard"),
    ({"is_ready": False}, "problem", "offer", "still finding", "wait"),
    ({"free": EMPTY}, "problem", "offer", "no cores free", "nunet onboard"),
    ({"free": EMPTY, "hosted": 2}, "note", "offer", "all cores offered are in use", ""),
    ({"peers": 0}, "problem", "network", "connected to nobody", "bootstrap"),
    ({"admits": Admits.NOBODY}, "problem", "authority", "nobody may ask", "nunet cap anchor"),
    ({"admits": Admits.OWNER}, "note", "authority", "only the owner", "nunet cap anchor"),
    (
        {"strangers": (STRANGER,)},
        "note",
        "authority",
        "7 requests of 1 caller denied, the last of did:key:m",
        "exp",
    ),
    ({"counts": {}}, "note", "requests", "0 requests for bids in the last 24 h", "quiet"),
    ({"counts": {"refused.executor": 3}, "requests": (REQUEST,)}, "problem", "refused", "executor: no exec", "install"),
    ({"counts": {"refused.location": 3}, "location": Location()}, "problem", "refused", "location", "host_country"),
    ({"counts": {"refused.location": 3}}, "note", "refused", "not bid 3 times by the rule location", "host_country"),
    ({"counts": {"refused.free": 3}}, "note", "refused", "by the rule free", "offer more"),
    ({"counts": {"bids": 3, "lost": 3}}, "note", "bids", "3 bids sent, 0 taken, 3 lost", "cheaper"),
    ({"executors": frozenset()}, "problem", "executors", "no executor", "Docker"),
    ({"missing": {"docker": "no socket"}}, "note", "executors", "docker is not there: no socket", "install"),
    ({"expired": 50}, "problem", "clock", "50 messages came when their time was over", "chrony"),
    ({"clock": ClockState(False)}, "note", "clock", "nothing keeps the clock", "chrony"),
]


@pytest.mark.parametrize(("changed", "level", "about", "text", "hint"), CASES)
def test_each_thing_that_stands_against_work_is_named_with_what_mends_it(
    changed: dict[str, Any], level: str, about: str, text: str, hint: str
) -> None:
    findings = diagnose(facts(**changed))
    assert [f for f in findings if f.about == about and f.level == level and text in f.text and hint in f.hint], (
        findings
    )
    assert [f.level for f in findings] == sorted((f.level for f in findings), key=["problem", "note", "ok"].index)
    assert (summary(findings) != "nothing stands against work here") == (level == "problem")


def test_every_rule_that_refused_is_told() -> None:
    counts = {f"refused.{rule.value}": 1 for rule in Rule}
    told = [f.text for f in diagnose(facts(counts=counts)) if f.about == "refused"]
    assert len(told) == len(Rule)


def test_a_clock_of_which_nothing_is_known_is_not_blamed() -> None:
    assert not [f for f in diagnose(facts(clock=ClockState())) if f.about == "clock"]


async def ask(node: SimulatedNode, hours: int = 0) -> DoctorReply:
    return await node.user.invoke(DOCTOR_WORK, DoctorRequest(hours=hours), DoctorReply)


async def test_a_machine_that_offers_nothing_hears_that_it_was_asked(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    idle = await cluster.start("idle")
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.wait_for(job, Phase.FAILED)
    reply = await ask(idle)
    assert reply.ok
    assert reply.summary.startswith("this machine offers nothing")
    assert reply.counts["refused.offered"] >= 1
    assert [(r.peer, r.bid, r.refused[0].rule) for r in reply.requests] == [(alice.peer, 0, "offered")]


async def test_bids_that_were_taken_lost_and_never_sent_are_told_apart(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    won = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.wait_for(won, Phase.COMPLETED)
    big = ensemble({"n1": {"a": "task"}, "n2": {"b": "task"}}, cores=3.0)
    lost = await alice.user.deploy(big)
    await alice.wait_for(lost, Phase.FAILED)
    refused = await alice.user.deploy(ensemble({"n1": {"a": "task"}}, cores=9.0))
    await alice.wait_for(refused, Phase.FAILED)
    await trio.sleep(600)
    reply = await ask(bob)
    assert {r.ensemble: (r.outcome, bool(r.bid)) for r in reply.requests} == {
        won: ("won", True),
        lost: ("lost", True),
        refused: ("", False),
    }
    assert (reply.counts["bids"], reply.counts["won"], reply.counts["lost"]) == (2, 1, 1)
    assert [f.text for f in reply.findings if f.about == "bids"] == ["2 bids sent, 1 taken, 1 lost"]
    assert any("9 cores wanted, 4 there" in f.text for f in reply.findings if f.about == "refused")


async def test_who_may_not_deploy_here_is_named(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob = await cluster.start("bob", offers=FOUR_CORES)
    mallory = await cluster.start("mallory", is_member=False)
    job = await mallory.user.deploy(ensemble({"n1": {"a": "task"}}, peers={"n1": bob.peer}))
    await mallory.wait_for(job, Phase.FAILED)
    reply = await ask(bob)
    assert [s.peer for s in reply.strangers] == [mallory.peer]
    assert reply.counts.get("requests", 0) == 0
    assert reply.counts["denied"] >= 1
    assert any("denied" in f.text for f in reply.findings if f.about == "authority")


async def test_nobody_else_may_ask_the_doctor(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob = await cluster.start("bob", offers=FOUR_CORES)
    alice = await cluster.start("alice")
    with pytest.raises(RemoteNotAuthorized):
        await alice.node.root.invoke(bob.node.root.handle, DOCTOR_WORK, None, DoctorReply, timeout_s=5)


async def test_nonsense_is_answered_in_one_line(autojump_clock: MockClock, cluster: Cluster) -> None:
    bob = await cluster.start("bob")
    assert (await bob.user.invoke(DOCTOR_WORK, None, DoctorReply)).hours == 24
    assert (await ask(bob, 10**9)).hours == 48
    reply = await bob.user.invoke(DOCTOR_WORK, {"hours": "many"}, DoctorReply)
    assert not reply.ok
    assert reply.error


async def test_only_anchors_that_cover_bid_requests_let_others_in(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("member") as member, world.node("lonely", is_member=False) as lonely:
        assert who_is_admitted(member.security.capabilities) is Admits.OTHERS
        assert who_is_admitted(lonely.security.capabilities) is Admits.OWNER
        lonely.security.capabilities.remove_roots((did_of(world.user.public),))
        assert who_is_admitted(lonely.security.capabilities) is Admits.NOBODY


async def test_the_diary_outlives_the_node(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob")
    path = cluster.work_dir / "bob" / "provider" / "work-log.json"
    bob.node.provider.bidder.work._path = path
    job = await alice.user.deploy(ensemble({"n1": {"a": "task"}}))
    await alice.wait_for(job, Phase.FAILED)
    before = await ask(bob)
    await bob.stop()
    assert path.exists()
    assert NodeOptions(cluster.work_dir).work_log is None, "in simulations it is in memory"
    assert before.requests
