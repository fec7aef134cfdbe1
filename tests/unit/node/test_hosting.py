"""What a node that was killed makes good when it is back."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dms.orchestrator.lifecycle.state import Phase
from dms.testing.executor import Script
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble


async def test_what_had_ended_but_was_not_removed_when_the_node_was_killed_is_removed_at_its_next_start(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", Script(duration_s=None))
    id_ = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(id_, Phase.RUNNING)
    ended = trio.Event()

    def cut(what: str, _execution: str) -> None:
        if what.startswith("ended"):
            bob.cut()
            ended.set()

    bob.executor.watch = cut
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.user.shutdown, id_)
        await ended.wait()
        await bob.kill()
        nursery.cancel_scope.cancel()
    await bob.start()

    assert await bob.executor.list() == ()
