"""Against a collector on loopback that speaks OTLP over HTTP with protobuf."""

from __future__ import annotations

import logging

import pytest
import trio
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from dms.observe import EventBus
from dms.observe.metrics import Counter, Gauge, Metric
from dms.observe.otlp import OtlpOutput, encode_metrics, endpoint_url, missing_extra
from dms.observe.posting import Poster
from dms.observe.tracing import Kind, Span, joined
from dms.testing.web import Answer, Asked, web_server
from dms.types.traceparent import TraceContext

CPU = Metric("dms.sys.cpu.total.norm", Gauge, "1", "load", {"did": "whose"})
SENT = Metric("dms.sent", Counter, "", "sent")


class Collector:
    def __init__(self) -> None:
        self.spans: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.status = 200
        self.rejects = 0
        self.measured = trio.Event()

    async def __call__(self, asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        assert asked.headers["content-type"] == "application/x-protobuf"
        if asked.headers.get("authorization") != "Bearer s3cret-token":
            return Answer(401)
        if self.status != 200:
            return Answer(self.status, b"no")
        response = ExportTraceServiceResponse()
        if asked.path == "/v1/traces":
            self.spans.append(ExportTraceServiceRequest.FromString(asked.body))
            response.partial_success.rejected_spans = self.rejects
        elif asked.path == "/v1/metrics":
            self.metrics.append(ExportMetricsServiceRequest.FromString(asked.body))
            self.measured.set()
        else:
            return Answer(404)
        return Answer(200, response.SerializeToString())


def span(name: str = "commit") -> Span:
    made = Span(name, TraceContext("ab" * 16, "cd" * 8), "ef" * 8, Kind.SERVER, 1_000, 2_000)
    made.note(ensemble="e1", count=3, ratio=0.5, yes=True, api_key="hunter2", nothing=None, big=2**70, odd="\udcff")
    made.error = "Refused: sent Bearer abcdefghijklmnop"
    return made


def output_to(url: str, **options: object) -> OtlpOutput:
    poster = Poster(url, {"Authorization": "Bearer s3cret-token"})
    return OtlpOutput("otel", poster, {"service.name": "dms", "did": "did:key:me"}, EventBus(), **options)  # type: ignore[arg-type]


async def test_spans_arrive_with_everything_but_secrets() -> None:
    collector = Collector()
    async with web_server(collector) as web:
        output = output_to(web.url)
        output.take(span())
        assert await output.shipper.flush() == 0
        await output._poster.aclose()
    (of_process,) = collector.spans[0].resource_spans
    assert {a.key: a.value.string_value for a in of_process.resource.attributes} == {
        "service.name": "dms",
        "did": "did:key:me",
    }
    (wire,) = of_process.scope_spans[0].spans
    assert (wire.trace_id.hex(), wire.span_id.hex(), wire.parent_span_id.hex()) == ("ab" * 16, "cd" * 8, "ef" * 8)
    assert (wire.name, wire.kind, wire.start_time_unix_nano, wire.end_time_unix_nano) == ("commit", 2, 1_000, 2_000)
    attributes = {a.key: a.value for a in wire.attributes}
    assert attributes["count"].int_value == 3
    assert attributes["ratio"].double_value == 0.5
    assert attributes["yes"].bool_value
    assert attributes["api_key"].string_value == "[hidden]"
    assert attributes["big"].string_value == str(2**70)
    assert "nothing" not in attributes
    assert (wire.status.code, wire.status.message) == (2, "Refused: sent Bearer [hidden]")


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_an_outage_keeps_spans_and_passes(status: int) -> None:
    collector = Collector()
    collector.status = status
    async with web_server(collector) as web:
        output = output_to(web.url)
        output.take(span())
        assert await output.shipper.flush() > 0
        assert len(output.outbox) == 1
        collector.status = 200
        assert await output.shipper.flush() == 0
        await output._poster.aclose()
    assert len(collector.spans) == 1


async def test_what_the_collector_will_never_take_is_counted_and_not_sent_again() -> None:
    collector = Collector()
    async with web_server(collector) as web:
        output = output_to(web.url)
        collector.status = 400
        output.take(span())
        assert await output.shipper.flush() == 0
        collector.status, collector.rejects = 200, 1
        output.take(span("a"))
        output.take(span("b"))
        assert await output.shipper.flush() == 0
        await output._poster.aclose()
    assert (output.outbox.counts.sent, output.outbox.counts.rejected, len(output.outbox)) == (1, 2, 0)


async def test_spans_that_find_no_room_are_dropped_and_counted() -> None:
    output = output_to("http://127.0.0.1:1")
    for _ in range(2_100):
        output.take(span())
    assert (len(output.outbox), output.outbox.counts.dropped) == (2_000, 100)
    assert await output.shipper.flush() > 0
    await output._poster.aclose()


async def test_metrics_are_read_and_sent_by_the_running_output() -> None:
    collector = Collector()
    async with web_server(collector) as web:
        output = output_to(web.url, metrics=lambda: [CPU.sample(0.25, did="d")])
        output._reader.interval_s = 0.01
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.run)
            with trio.fail_after(10):
                await collector.measured.wait()
            nursery.cancel_scope.cancel()
    (metric,) = collector.metrics[0].resource_metrics[0].scope_metrics[0].metrics
    assert (metric.name, metric.unit, metric.gauge.data_points[0].as_double) == ("dms.sys.cpu.total.norm", "1", 0.25)


def test_counters_are_sums_since_the_start() -> None:
    body = encode_metrics([SENT.sample(4), SENT.sample(5, output="x"), CPU.sample(1)], {}, 10, 20)
    metrics = ExportMetricsServiceRequest.FromString(body).resource_metrics[0].scope_metrics[0].metrics
    sent, cpu = metrics
    assert sent.sum.is_monotonic
    assert [(p.as_double, p.start_time_unix_nano, p.time_unix_nano) for p in sent.sum.data_points] == [
        (4.0, 10, 20),
        (5.0, 10, 20),
    ]
    assert cpu.gauge.data_points[0].start_time_unix_nano == 0


def test_endpoints_are_written_as_for_the_original_or_as_addresses() -> None:
    assert endpoint_url("localhost:4318", insecure=True) == "http://localhost:4318"
    assert endpoint_url("otel.example.org:4318", insecure=False) == "https://otel.example.org:4318"
    assert endpoint_url("http://localhost:4318/", insecure=False) == "http://localhost:4318"
    assert missing_extra() == ""


def test_a_warning_inside_of_a_trace_is_a_span_of_it() -> None:
    output = output_to("http://127.0.0.1:1")
    above = TraceContext("ab" * 16, "cd" * 8)
    output.take_entry(logging.ERROR, {"message": "outside"})
    with joined(above):
        output.take_entry(logging.INFO, {"message": "no reason to worry"})
        output.take_entry(logging.WARNING, {"message": "odd", "timestamp": "t", "logger": "dms.x", "n": 1})
        output.take_entry(logging.ERROR, {"message": "failed", "reason": "no room"})
    odd, failed = output.outbox.peek(9, 10**6)
    assert (odd.name, odd.parent_id, odd.context.trace_id) == ("odd", "cd" * 8, "ab" * 16)
    assert (odd.attributes, odd.error, failed.error) == ({"logger": "dms.x", "n": 1}, "", "no room")
    assert odd.context.span_id != failed.context.span_id


async def test_an_outage_of_metrics_is_a_problem_of_the_output() -> None:
    output = output_to("http://127.0.0.1:1", metrics=lambda: [CPU.sample(1)])
    assert output.problem() == ""
    output._readings.offer(b"", 0)
    assert await output._reader.flush() > 0
    assert "127.0.0.1" in output.problem()
    await output._poster.aclose()
