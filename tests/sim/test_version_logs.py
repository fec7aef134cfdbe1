"""What the versions of a deployment wrote that are not there any more."""

from __future__ import annotations

from pathlib import Path

import trio
from tests.sim.test_updates import OLD, PROVIDERS, changed, deployed, ended, outcomes, until, update, updated
from trio.testing import MockClock

from dms.node import payloads as p
from dms.orchestrator.logs.finding import MAX_KEPT_BYTES
from dms.orchestrator.updating.state import Stage
from dms.testing.executor import Script
from dms.testing.nodes import Cluster, SimulatedNode
from dms.types.ids import EnsembleID


async def asked(owner: SimulatedNode, job: EnsembleID, version: int, name: str = "", stream: str = "") -> p.LogsReply:
    request = p.LogsRequest(ensemble_id=job, allocation=name, stream=stream, version=version)
    return await owner.user.call("logs", request, p.LogsReply)


def scripted(cluster: Cluster, **scripts: Script) -> None:
    for node in (cluster.nodes[name] for name in PROVIDERS):
        for name, script in scripts.items():
            node.executor.on(f"{name.replace('_', '-')}-1", script)


async def test_why_a_version_failed_can_be_read_once_it_was_taken_back(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster)
    boom = Script(duration_s=2.0, exit_code=3, stdout=((0.0, b"begins\n"),), stderr=((1.0, b"boom\n"),))
    scripted(cluster, web_g1=boom)
    await updated(alice, job, changed(OLD, "web"))
    await until(lambda: not alice.state(job).left)
    assert outcomes(alice, job) == ["current", "reverted"]
    assert (await asked(alice, job, 2)).allocations == ("n1.web",)
    assert [(await asked(alice, job, 2, "web", stream)).data for stream in ("stdout", "stderr")] == [
        b"begins\n",
        b"boom\n",
    ]
    assert (await asked(alice, job, 2, "n1.web", "stdout")).eof
    folder = Path((await asked(alice, job, 2, "web")).written_to)
    assert (folder / "stderr.log").read_bytes() == b"boom\n"
    assert (await asked(alice, job, 1)).allocations == ("n1.web", "n2.web1")
    assert "no logs of version 7" in (await asked(alice, job, 7)).error
    assert "allocation not found" in (await asked(alice, job, 2, "nobody", "stdout")).error
    await ended(cluster, alice, job)


async def test_the_end_of_what_a_version_wrote_outlives_the_next_one(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    whole = b"".join(b"%07d\n" % number for number in range(3 * MAX_KEPT_BYTES // 16))
    alice, job = await deployed(cluster)
    scripted(cluster, web_g1=Script(duration_s=None, stdout=((0.0, whole),)))
    await updated(alice, job, changed(OLD, "web"))
    await updated(alice, job, changed(OLD, "web", cores=1.25))
    await until(lambda: not alice.state(job).left)
    assert outcomes(alice, job) == ["superseded", "superseded", "current"]
    assert (await asked(alice, job, 1)).allocations == ("n1.web",)
    kept = Path((await asked(alice, job, 2, "web")).written_to) / "stdout.log"
    assert kept.read_bytes() == whole[-MAX_KEPT_BYTES:]
    await ended(cluster, alice, job)
    await alice.user.call("delete", p.DeploymentRequest(id=job), p.OKReply)
    assert not kept.exists()


async def test_a_version_of_which_nothing_can_be_read_ends_all_the_same(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    alice, job = await deployed(cluster)
    reply = await update(alice, job, changed(OLD, "web"))
    assert reply.ok

    def is_verified() -> bool:
        under_way = alice.state(job).update
        return under_way is not None and under_way.stage is Stage.VERIFYING

    await until(is_verified)
    await cluster.of_peer(alice.state(job).assignment["n1"].peer).kill()
    await until(lambda: alice.state(job).update is None)
    await trio.sleep(30)
    assert outcomes(alice, job) == ["superseded", "current"]
    assert "no logs of version 1" in (await asked(alice, job, 1)).error
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
