"""What should happen when nothing goes wrong."""

from __future__ import annotations

from trio.testing import MockClock

from dms.orchestrator.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble


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
