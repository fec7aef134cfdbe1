"""A running node looks at all its parts for its owner."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from dms.hardware.clock import ClockState
from dms.hardware.inventory import Inventory
from dms.hardware.machine import MachineProbe
from dms.node.checkup import Checkup
from dms.node.diagnosis import Finding
from dms.node.doctor_payloads import DOCTOR_CHECKUP, CheckupReply
from dms.store import Store
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode
from dms.types.errors import Unavailable
from dms.types.ids import PeerID


async def no_machine() -> Inventory:
    await trio.lowlevel.checkpoint()
    raise Unavailable("the driver does not answer", hint="install it again")


KEPT = ClockState(True, 0.01)


def checkup_of(node: SimulatedNode, store: Store, work_dir: Path, clock: ClockState = KEPT) -> Checkup:
    return Checkup(
        node.node,
        store,
        work_dir,
        missing={"docker": "no socket"},
        inventory=no_machine,
        clock=lambda: clock,
    )


def told(reply: CheckupReply, about: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in reply.findings if finding.about == about]


async def test_a_node_among_others_is_told_the_time_to_each_and_what_is_missing(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice", offers=FOUR_CORES)
    others = [await cluster.start(name) for name in ("bob", "carol")]
    await trio.sleep(5)
    async with await Store.open(None) as store:
        checkup = checkup_of(alice, store, Path("/nowhere"))
        checkup.register(alice.node.root)
        reply = await alice.user.invoke(DOCTOR_CHECKUP, None, CheckupReply)
    assert reply.ok
    assert {peer.peer for peer in reply.peers} == {other.peer for other in others}
    assert all(peer.rtt_ms is not None and peer.ahead_ms is not None for peer in reply.peers)
    (peers,) = told(reply, "peers")
    assert peers[0] == "ok"
    assert peers[1].startswith("connected to 2 peers; to the nearest and back ")
    assert ("ok", "kept right, to 0.010 s") in told(reply, "clock")
    assert any(text.startswith("as those of 2 peers") for _, text in told(reply, "clock"))
    assert told(reply, "executors") == [("note", "docker is not there: no socket"), ("ok", "there: null")]
    assert told(reply, "gpus") == [("problem", "the driver does not answer")]
    assert told(reply, "disk")[0][0] == "problem", "there is no such directory"
    assert told(reply, "database")[0][0] == "ok"
    levels = [finding.level for finding in reply.findings]
    assert levels == sorted(levels, key=["problem", "note", "ok"].index)


async def test_a_lonely_node_with_a_broken_database_is_told_so(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    store = await Store.open(None)
    await store.aclose()
    reply = await checkup_of(alice, store, Path("/nowhere"), ClockState(False)).run()
    assert told(reply, "peers") == [("problem", "the node is connected to nobody")]
    assert told(reply, "clock")[0][0] == "note"
    assert told(reply, "database")[0][0] == "problem"
    assert reply.peers == ()
    assert all(finding.hint for finding in reply.findings if finding.level == "problem")


async def test_a_silent_peer_is_counted_and_keeps_nobody_waiting(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice = await cluster.start("alice")
    await cluster.start("bob")
    await trio.sleep(5)
    network = alice.node.root.network

    async def unreachable(peer: PeerID, *, timeout_s: float = 1.0) -> float:
        await trio.sleep(timeout_s)
        raise Unavailable(f"no answer of {peer}")

    network.ping = unreachable  # type: ignore[method-assign]  # the line is cut
    async with await Store.open(None) as store:
        begun = trio.current_time()
        reply = await checkup_of(alice, store, Path("/nowhere")).run()
        assert trio.current_time() - begun < 8.0
    assert told(reply, "peers") == [("problem", "connected to 1 peer, of which none answers")]
    assert [peer.rtt_ms for peer in reply.peers] == [None]


async def test_what_a_real_machine_has_is_told(tmp_path: Path) -> None:
    """Nothing of this needs the node."""
    probe = MachineProbe(tmp_path)
    checkup = Checkup.__new__(Checkup)
    checkup._inventory, checkup._work_dir = probe.inventory, tmp_path
    findings: list[Finding] = [*await checkup._graphics(), *await checkup._disk()]
    probe.close()
    assert {finding.about for finding in findings} == {"gpus", "disk"}
    assert any(finding.text.endswith(f"free at {tmp_path}") for finding in findings)
