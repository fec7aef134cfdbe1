"""Commands inside what somebody deployed: through the orchestrator, for the owner alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.allocation.exec import LINGER_S
from dms.identity.ids import did_of
from dms.node.hosting import HostingOptions
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.node_user import UserClient
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble
from dms.types.ids import EnsembleID

Json = dict[str, Any]


async def running(
    cluster: Cluster, hosting: HostingOptions | None = None
) -> tuple[SimulatedNode, SimulatedNode, EnsembleID]:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES, hosting=hosting)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    return alice, bob, job


async def call(node: SimulatedNode, name: str, payload: Json) -> Json:
    return await node.user.call(f"exec/{name}", payload, Json)


async def test_a_command_talks_with_its_user(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob, job = await running(cluster)
    where = {"id": job[:8], "allocation": "web"}
    begun = await call(alice, "start", where | {"command": ["cat"], "stdin": True})
    assert begun.keys() == {"ok", "session"}
    turn = where | {"session": begun["session"], "wait_ms": 5000}
    answer = await call(alice, "io", turn | {"input": "aGVsbG8=", "input_end": True})
    assert answer["output"] == [{"stream": "stdout", "data": "aGVsbG8="}]
    assert (answer["next_offset"], answer["input_taken"]) == (5, 5)
    while not answer.get("ended"):
        answer = await call(alice, "io", turn | {"offset": 5})
    assert answer["exit_code"] == 0
    assert bob.executor.commands[-1].request.argv == ("cat",)
    told = {event.kind: event.detail for event in await alice.user.events(job)}
    assert told["exec_started"] == {
        "allocation": "n1.web",
        "program": "cat",
        "by": did_of(cluster.user_key.public).uri,
    }
    assert told["exec_ended"] == {"allocation": "n1.web", "exit_code": 0}


async def test_a_session_outlives_a_restart_of_the_orchestrator(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, job = await running(cluster)
    where = {"id": job, "allocation": "n1.web"}
    begun = await call(alice, "start", where | {"command": ["cat"], "stdin": True})
    await alice.restart()
    await trio.sleep(2)
    answer = await call(alice, "io", where | {"session": begun["session"], "input": "aGk=", "wait_ms": 1000})
    assert answer["output"] == [{"stream": "stdout", "data": "aGk="}]


async def test_a_command_that_is_stopped_is_over(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob, job = await running(cluster)
    where = {"id": job, "allocation": "web"}
    begun = await call(alice, "start", where | {"command": ["sleep"]})
    stopped = await call(alice, "stop", where | {"session": begun["session"]})
    assert stopped["ok"]
    await trio.sleep(LINGER_S + 1)
    assert bob.executor.commands[-1].is_closed
    again = await call(alice, "stop", where | {"session": begun["session"]})
    assert (again["ok"], again["error"]) == (False, "the command is not running any more")


async def test_only_the_owner_runs_commands_however_much_others_may_do(
    autojump_clock: MockClock, cluster: Cluster, tmp_path: Path
) -> None:
    """The machine's owner is root of its orchestrator; this deployment is somebody else's."""
    alice, bob, job = await running(cluster)
    where = {"id": job, "allocation": "web"}
    begun = await call(alice, "start", where | {"command": ["cat"], "stdin": True})
    live = alice.node.deployments.live(job)
    live.state = type(live.state)(**{f: getattr(live.state, f) for f in live.state.__struct_fields__} | {"owner": "x"})
    for name in ("start", "io", "stop"):
        payload = where | {"command": ["cat"], "session": begun["session"]}
        refused = await call(alice, name, payload)
        assert (refused["ok"], refused["error"]) == (False, "only who submitted the deployment may do this"), name
    assert len(bob.executor.commands) == 1


async def test_a_stranger_gets_no_answer(autojump_clock: MockClock, cluster: Cluster) -> None:
    from dms.actor.errors import InvocationTimeout
    from dms.testing.actors import key_of

    alice, _, job = await running(cluster)
    stranger = UserClient(alice, key_of("stranger"))
    with pytest.raises(InvocationTimeout):
        await stranger.call("exec/start", {"id": job, "allocation": "web", "command": ["cat"]}, Json, timeout_s=5)


async def test_a_provider_may_refuse_all_commands(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, bob, job = await running(cluster, HostingOptions(allow_exec=False))
    refused = await call(alice, "start", {"id": job, "allocation": "web", "command": ["cat"]})
    assert refused == {"ok": False, "error": "this machine runs no commands in the jobs of others"}
    assert bob.executor.commands == []


async def test_what_does_not_run_takes_no_commands(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, _, job = await running(cluster)
    assert (await call(alice, "start", {"id": job, "allocation": "x", "command": ["cat"]})) == {
        "ok": False,
        "error": "allocation not found: x",
        "hint": "this deployment has n1.web",
    }
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    refused = await call(alice, "start", {"id": job, "allocation": "web", "command": ["cat"]})
    assert refused["error"] == "deployment is not running: it is Completed"
