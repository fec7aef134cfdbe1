"""Spans and metrics to a collector: OTLP over HTTP with protobuf, as OpenTelemetry Collector, Elastic APM and others take it.

Needs ``opentelemetry-proto`` (``pip install nunet[otel]``). The original speaks OTLP over gRPC, port 4317; collectors take
both, HTTP on port 4318.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from dms.observe.errors import DeliveryDenied, NotDelivered
from dms.observe.events import EventBus
from dms.observe.log import add_tap, get_logger
from dms.observe.metrics import Counter, Sample
from dms.observe.outbox import Outbox
from dms.observe.posting import Poster, check_status
from dms.observe.redact import redact
from dms.observe.shipper import Delivered, Shipper
from dms.observe.tracing import MAX_ATTRIBUTES, MAX_TEXT_CHARS, Kind, Span, add_sink, current
from dms.types.traceparent import TraceContext

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

PROTOBUF: Final = "application/x-protobuf"
SPANS: Final = 2_000
"""That wait, at most."""
SPAN_BYTES: Final = 1_000
METRICS_INTERVAL_S: Final = 3.0
SCOPE: Final = "dms"
NOT_NOTED: Final = ("message", "timestamp", "did", "trace.id", "transaction.id", "span.id")
"""Of a log entry: what its span has elsewhere."""

log = get_logger(__name__)


def missing_extra() -> str:
    """Why OTLP cannot be spoken here; empty: it can."""
    try:
        import opentelemetry.proto.collector.trace.v1.trace_service_pb2  # noqa: F401
    except ImportError:
        return "opentelemetry-proto is not installed: pip install 'nunet[otel]'"
    return ""


class OtlpOutput:
    """One collector; :meth:`run` it, and spans that end are sent there.

    :param name: ``otel`` or ``apm``.
    :param resource: what is said of this process with each batch: ``service.name`` and the like.
    :param metrics: what is measured now; ``None``: only spans are sent.
    """

    def __init__(
        self,
        name: str,
        poster: Poster,
        resource: Mapping[str, str],
        events: EventBus,
        *,
        metrics: Callable[[], Iterable[Sample]] | None = None,
        interval_s: float = 5.0,
    ) -> None:
        self._poster = poster
        self._resource = dict(resource)
        self._metrics = metrics
        self.outbox: Outbox[Span] = Outbox(max_items=SPANS)
        self.shipper = Shipper(name, self.outbox, self._deliver, events, interval_s=interval_s)
        self._readings: Outbox[bytes] = Outbox(max_items=1)  # an old reading is worth nothing
        self._reader = Shipper(
            f"{name}-metrics", self._readings, self._send_readings, events, interval_s=METRICS_INTERVAL_S
        )
        self._start_ns = 0

    def problem(self) -> str:
        """What is wrong with it, with spans or metrics; empty: nothing is."""
        return self.shipper.outage.problem or self._reader.outage.problem

    async def run(self) -> None:
        """Collect and send until cancelled."""
        self._start_ns = time.time_ns()
        stops = [add_sink(self.take), add_tap(self.take_entry)]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.shipper.run)
                if self._metrics is not None:
                    nursery.start_soon(self._reader.run)
                    nursery.start_soon(self._read)
        finally:
            for stop in stops:
                stop()
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self._poster.aclose()

    def take(self, span: Span) -> None:
        """A span that has ended."""
        self.outbox.offer(span, SPAN_BYTES)

    def take_entry(self, level: int, entry: Mapping[str, Any]) -> None:
        """A warning or an error that was logged inside of a trace is a span of it, without length."""
        above = current()
        if level < logging.WARNING or above is None or not above.is_sampled:
            return
        at_ns = time.time_ns()
        own = TraceContext(above.trace_id, f"{random.getrandbits(64) or 1:016x}", entry_id=above.entry_id)
        said = Span(str(entry.get("message", "")), own, above.span_id, Kind.INTERNAL, at_ns, at_ns)
        said.note(**{key: value for key, value in entry.items() if key not in NOT_NOTED})
        if level >= logging.ERROR:
            said.error = str(entry.get("error") or entry.get("reason") or said.name)
        self.take(said)

    async def _read(self) -> None:
        assert self._metrics is not None
        while True:
            try:
                body = encode_metrics(self._metrics(), self._resource, self._start_ns, time.time_ns())
                self._readings.offer(body, len(body))
            except Exception:
                log.exception("metrics_not_read")
            await trio.sleep(METRICS_INTERVAL_S)

    async def _send_readings(self, bodies: Sequence[bytes]) -> Delivered:
        for body in bodies:
            await self._post("/v1/metrics", body)
        return Delivered()

    async def _deliver(self, spans: Sequence[Span]) -> Delivered:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        answer = await self._post("/v1/traces", encode_spans(spans, self._resource))
        if answer is None:
            return Delivered(rejected=len(spans), why="the collector refuses the batch")
        response = ExportTraceServiceResponse()
        try:
            response.ParseFromString(answer)
        except Exception:  # noqa: BLE001 (the decoder's own; it was taken all the same)
            return Delivered()
        partial = response.partial_success
        return Delivered(min(len(spans), max(0, partial.rejected_spans)), partial.error_message[:300])

    async def _post(self, path: str, body: bytes) -> bytes | None:
        """The answer; ``None``: it will never be taken.

        :raises NotDelivered: it may be, later.
        """
        status, answer = await self._poster.ask("POST", path, body, PROTOBUF)
        if status in (400, 413, 415, 422):
            return None
        if status == 404:
            raise NotDelivered(
                f"{self._poster.url}{path} is not there (404)",
                hint="give the address of a collector's OTLP over HTTP, such as http://localhost:4318",
            )
        check_status(self._poster.url, status, answer)
        return answer


def endpoint_url(endpoint: str, *, insecure: bool) -> str:
    """Where OTLP over HTTP is spoken: an address stays what it is, ``host:4318`` gets its scheme."""
    if "://" in endpoint:
        return endpoint.rstrip("/")
    return f"{'http' if insecure else 'https'}://{endpoint}".rstrip("/")


def encode_spans(spans: Sequence[Span], resource: Mapping[str, str]) -> bytes:
    """A batch as OTLP has it."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire
    from opentelemetry.proto.trace.v1.trace_pb2 import Status

    request = ExportTraceServiceRequest()
    of_process = request.resource_spans.add(resource=_resource(resource))
    scope = of_process.scope_spans.add()
    scope.scope.name = SCOPE
    for span in spans:
        wire = scope.spans.add(
            trace_id=bytes.fromhex(span.context.trace_id),
            span_id=bytes.fromhex(span.context.span_id),
            parent_span_id=bytes.fromhex(span.parent_id),
            name=span.name[:MAX_TEXT_CHARS],
            kind=Wire.SpanKind.Value(f"SPAN_KIND_{span.kind.name}"),
            start_time_unix_nano=span.start_ns,
            end_time_unix_nano=span.end_ns,
            attributes=_attributes(span.attributes),
        )
        if span.error:
            wire.status.code = Status.STATUS_CODE_ERROR
            wire.status.message = str(redact(span.error))[:MAX_TEXT_CHARS]
    return bytes(request.SerializeToString())


def encode_metrics(samples: Iterable[Sample], resource: Mapping[str, str], start_ns: int, now_ns: int) -> bytes:
    """A reading as OTLP has it."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add(resource=_resource(resource)).scope_metrics.add()
    scope.scope.name = SCOPE
    known: dict[str, Any] = {}
    for sample in samples:
        metric = sample.metric
        points = known.get(metric.name)
        if points is None:
            wire = scope.metrics.add(name=metric.name, description=metric.meaning, unit=metric.unit)
            if metric.kind is Counter:
                wire.sum.is_monotonic = True
                wire.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
                points = wire.sum.data_points
            else:
                points = wire.gauge.data_points
            known[metric.name] = points
        points.add(
            as_double=sample.value,
            time_unix_nano=now_ns,
            start_time_unix_nano=start_ns if metric.kind is Counter else 0,
            attributes=_attributes(sample.labels),
        )
    return bytes(request.SerializeToString())


def _resource(of: Mapping[str, str]) -> Resource:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    return Resource(attributes=_attributes(of))


def _attributes(of: Mapping[str, object]) -> list[KeyValue]:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    made = []
    for key, value in list(of.items())[:MAX_ATTRIBUTES]:
        shown = redact(value, key)
        if isinstance(shown, bool):
            wire = AnyValue(bool_value=shown)
        elif isinstance(shown, int) and -(2**63) <= shown < 2**63:
            wire = AnyValue(int_value=shown)
        elif isinstance(shown, float):
            wire = AnyValue(double_value=shown)
        elif shown is None:
            continue
        else:
            text = str(shown)[:MAX_TEXT_CHARS]
            wire = AnyValue(string_value=text.encode("utf-8", "replace").decode())
        made.append(KeyValue(key=key, value=wire))
    return made


__all__ = ["DeliveryDenied", "OtlpOutput", "encode_metrics", "encode_spans", "endpoint_url", "missing_extra"]
