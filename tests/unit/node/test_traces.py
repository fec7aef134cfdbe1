"""One deployment, followed from machine to machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from dms.observe.tracing import Kind, Span, add_sink
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.nodes import FOUR_CORES, Cluster, ensemble


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    ended: list[Span] = []
    remove = add_sink(ended.append)
    yield ended
    remove()


async def test_spans_follow_a_deployment_across_nodes(
    autojump_clock: MockClock, cluster: Cluster, spans: list[Span]
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    job = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(job, Phase.RUNNING)
    await trio.sleep(600)
    count = len(spans)
    await trio.sleep(1800)
    assert len(spans) == count  # what is said for as long as it runs is no span
    await alice.user.shutdown(job)
    await alice.wait_until_settled(job)
    await trio.sleep(1)
    of_it = [span for span in spans if span.context.trace_id == job[:32]]
    assert of_it == spans  # nothing else begins a trace
    by_id = {span.context.span_id: span for span in of_it}
    there = {span.name: span for span in of_it if span.kind is Kind.SERVER and span.attributes["peer"] == bob.peer}
    assert {"/dms/deployment/request", "/dms/deployment/commit", "/dms/deployment/allocate"} <= there.keys()
    commit = there["/dms/deployment/commit"]
    above = by_id[commit.parent_id]
    assert (above.name, above.attributes["peer"], commit.attributes["sender"]) == ("Commit", alice.peer, alice.peer)
    execute = next(span for span in of_it if span.name == "execute")
    assert by_id[execute.parent_id].attributes["peer"] == bob.peer
    whole = next(span for span in of_it if span.name == "deployment")
    assert whole.attributes["status"] == "Completed"
    assert above.parent_id == whole.context.span_id
