from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dms.observe import tracing
from dms.observe.entries import entry_of
from dms.observe.tracing import Kind, Span, add_sink, joined, span
from dms.types.traceparent import TraceContext, parse_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    ended: list[Span] = []
    remove = add_sink(ended.append)
    yield ended
    remove()


def test_a_span_stands_below_the_one_around_it(spans: list[Span]) -> None:
    with span("outer", is_root=True, n=1) as outer, span("inner") as inner:
        assert outer is not None
        assert inner is not None
        inner.note(found=True)
    assert [s.name for s in spans] == ["inner", "outer"]
    assert inner.context.trace_id == outer.context.trace_id
    assert (inner.parent_id, outer.parent_id) == (outer.context.span_id, "")
    assert (inner.attributes, outer.attributes) == ({"found": True}, {"n": 1})
    assert outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns


def test_outside_of_a_trace_nothing_is_recorded(spans: list[Span]) -> None:
    with span("alone") as made:
        assert made is None
        assert tracing.current_traceparent() == ""
    assert spans == []


def test_without_an_output_nothing_is_recorded_and_the_context_is_passed_on() -> None:
    with span("a", is_root=True) as made:
        assert made is None
    with span("served", parent=parse_traceparent(PARENT)) as made:
        assert made is None
        assert tracing.current_traceparent() == PARENT
    assert tracing.current() is None


def test_what_comes_from_elsewhere_goes_on_below_it(spans: list[Span]) -> None:
    with span("served", kind=Kind.SERVER, parent=parse_traceparent(PARENT)) as served, span("work"):
        assert served is not None
        assert tracing.current_traceparent().startswith("00-0af7651916cd43dd8448eb211c80319c-")
    work, served_ended = spans
    assert served_ended.parent_id == "b7ad6b7169203331"
    assert work.context.entry_id == served_ended.context.span_id
    with span("unsampled", parent=parse_traceparent(PARENT[:-1] + "0")), span("below"):
        assert tracing.current_traceparent() == PARENT[:-1] + "0"
    assert len(spans) == 2


def test_a_failure_is_recorded_and_goes_on(spans: list[Span]) -> None:
    with pytest.raises(ValueError, match="oops"), span("bad", is_root=True):
        raise ValueError("oops")
    assert spans[0].error == "ValueError: oops"


async def test_tasks_that_are_started_inside_belong_to_it_and_cancelling_is_no_failure(spans: list[Span]) -> None:
    async def task() -> None:
        with span("task"):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with joined(parse_traceparent(PARENT)):
            nursery.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
        assert tracing.current() is None
        nursery.cancel_scope.cancel()
    assert (spans[0].parent_id, spans[0].error, spans[0].attributes) == ("b7ad6b7169203331", "", {"cancelled": True})


def test_a_deployment_has_a_trace_of_its_own_id(spans: list[Span]) -> None:
    ensemble = "0123456789abcdef" * 4
    with joined(tracing.context_of_deployment(ensemble)), span("CollectBids"):
        pass
    tracing.record_deployment(ensemble, 5, "Completed", "", {"allocations": 1})
    step, whole = spans
    assert whole.context.trace_id == step.context.trace_id == ensemble[:32]
    assert step.parent_id == whole.context.span_id == ensemble[32:48]
    assert whole.attributes == {"ensemble": ensemble, "status": "Completed", "allocations": 1}
    assert tracing.context_of_deployment("no hash") is None


def test_a_log_entry_names_its_span(spans: list[Span]) -> None:
    def entry() -> dict[str, object]:
        return entry_of(logging.LogRecord("dms.x", logging.INFO, "", 0, "said", None, None))

    with span("outer", is_root=True) as outer, span("inner") as inner:
        assert outer is not None
        assert inner is not None
        found = entry()
    assert found["trace.id"] == outer.context.trace_id
    assert (found["transaction.id"], found["span.id"]) == (outer.context.span_id, inner.context.span_id)
    assert "trace.id" not in entry()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        PARENT + '-"}',
        PARENT * 100,
    ],
)
def test_what_is_no_traceparent_is_no_context(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_context_survives_its_way(trace: int, own: int, is_sampled: bool) -> None:
    context = TraceContext(f"{trace:032x}", f"{own:016x}", is_sampled)
    assert parse_traceparent(context.traceparent) == context
