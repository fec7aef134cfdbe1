"""The services that logs, events, traces and metrics are sent to, as the settings say, also while the node runs.

A change of settings ends the outputs whose settings changed, and begins new ones; what had not been sent to an old one is
sent to it once more, briefly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import trio

from dms.observe.events import EventBus
from dms.observe.log import get_logger
from dms.observe.metrics import Counter, Gauge, Metric, Sample
from dms.observe.redact import conceal

if TYPE_CHECKING:
    from dms.config.schema import Settings
    from dms.observe.shipper import Shipper

SERVICE = "dms"
"""What OpenTelemetry calls this program, as in the original; Elastic APM is told its own name for it."""

log = get_logger(__name__)

_OUTPUT = {"output": "elastic, otel or apm"}
OUTPUT_UP = Metric("dms.output.up", Gauge, "", "1 while a service takes what is sent to it, 0 in an outage", _OUTPUT)
OUTPUT_WAITING = Metric("dms.output.waiting", Gauge, "", "entries or spans that wait to be sent", _OUTPUT)
OUTPUT_SENT = Metric("dms.output.sent", Counter, "", "entries or spans that were taken", _OUTPUT)
OUTPUT_DROPPED = Metric("dms.output.dropped", Counter, "", "entries or spans that found no room", _OUTPUT)
OUTPUT_REJECTED = Metric("dms.output.rejected", Counter, "", "entries or spans that were refused for good", _OUTPUT)
OUTPUT_METRICS = (OUTPUT_UP, OUTPUT_WAITING, OUTPUT_SENT, OUTPUT_DROPPED, OUTPUT_REJECTED)


class Output(Protocol):
    """What sends something somewhere."""

    @property
    def shipper(self) -> Shipper[Any]:  # whatever it sends
        """Which sends it."""

    def problem(self) -> str:
        """What is wrong with it; empty: nothing is."""

    async def run(self) -> None:
        """Until cancelled."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are, for those services."""

    did: str
    peer: str
    version: str


class Outputs:
    """All outputs of one node. :meth:`run` it once; :meth:`follow` before and while it runs.

    :param collect: what is measured now.
    """

    def __init__(
        self, events: EventBus, identity: Identity, collect: Callable[[], Iterable[Sample]], settings: Settings
    ) -> None:
        self._events = events
        self._identity = identity
        self._collect = collect
        self._changed = trio.Event()
        self._running: dict[str, tuple[object, Output, trio.CancelScope]] = {}
        self._totals: dict[str, dict[Metric, int]] = {}
        self._settings = settings
        self._conceal(settings)

    def follow(self, settings: Settings) -> None:
        """Send to where these settings say from now on."""
        self._conceal(settings)
        self._settings = settings
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                self._rebuild(nursery)
                await self._changed.wait()

    def samples(self) -> Iterator[Sample]:
        """How the outputs are doing; counters go on over changes of settings."""
        for name, (_, output, _) in sorted(self._running.items()):
            shipper = output.shipper
            yield OUTPUT_UP.sample(0 if output.problem() else 1, output=name)
            yield OUTPUT_WAITING.sample(len(shipper.outbox), output=name)
        for name in sorted(self._running.keys() | self._totals.keys()):
            for metric, count in self._counts(name).items():
                yield metric.sample(count, output=name)

    def state(self) -> Mapping[str, str]:
        """Each output and what is wrong with it; empty: nothing is."""
        return {name: output.problem() for name, (_, output, _) in sorted(self._running.items())}

    def _counts(self, name: str) -> dict[Metric, int]:
        totals = dict(self._totals.get(name, {}))
        if name in self._running:
            counts = self._running[name][1].shipper.outbox.counts
            for metric, count in (
                (OUTPUT_SENT, counts.sent),
                (OUTPUT_DROPPED, counts.dropped),
                (OUTPUT_REJECTED, counts.rejected),
            ):
                totals[metric] = totals.get(metric, 0) + count
        return totals

    def _rebuild(self, nursery: trio.Nursery) -> None:
        wanted = dict(self._wanted())
        for name, (plan, _, scope) in list(self._running.items()):
            if name not in wanted or wanted[name][0] != plan:
                self._totals[name] = self._counts(name)
                del self._running[name]
                scope.cancel()
        for name, (plan, make) in wanted.items():
            if name not in self._running:
                output, scope = make(), trio.CancelScope()
                self._running[name] = (plan, output, scope)
                nursery.start_soon(self._keep, name, output, scope)
                log.info("output_started", output=name)

    async def _keep(self, name: str, output: Output, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await output.run()
            except Exception:
                log.exception("output_crashed", output=name)

    # what the settings mean ----------------------------------------------------------------------------------------

    def _wanted(self) -> Iterator[tuple[str, tuple[object, Callable[[], Output]]]]:
        observability, apm = self._settings.observability, self._settings.apm
        elastic, otel = observability.elastic, observability.otel
        if elastic.enabled:
            if elastic.url and elastic.index and elastic.api_key.get_secret_value():
                yield "elastic", (elastic, self._elastic)
            else:
                log.warning("output_incomplete", output="elastic", needs="url, index and api_key")
        if otel.enabled:
            if not otel.endpoint:
                log.warning("output_incomplete", output="otel", needs="endpoint")
            elif self._speaks_otlp("otel"):
                yield "otel", (otel, self._otel)
        has_key = apm.api_key.get_secret_value() or apm.secret_token.get_secret_value()
        if has_key and apm.server_url and apm.service_name and apm.environment and self._speaks_otlp("apm"):
            yield "apm", (apm, self._apm)

    def _speaks_otlp(self, output: str) -> bool:
        from dms.observe.otlp import missing_extra

        reason = missing_extra()
        if reason:
            log.warning("output_unusable", output=output, reason=reason)
        return not reason

    def _elastic(self) -> Output:
        from dms.observe.elastic import ElasticOutput
        from dms.observe.posting import Poster

        elastic = self._settings.observability.elastic
        headers = {"Authorization": f"ApiKey {elastic.api_key.get_secret_value()}"}
        poster = Poster(elastic.url, headers, verify=not elastic.insecure_skip_verify)
        return ElasticOutput(
            poster, elastic.index, self._events, did=self._identity.did, interval_s=elastic.flush_interval
        )

    def _otel(self) -> Output:
        from dms.observe.otlp import OtlpOutput, endpoint_url
        from dms.observe.posting import Poster

        otel = self._settings.observability.otel
        poster = Poster(endpoint_url(otel.endpoint, insecure=otel.insecure), {})
        return OtlpOutput("otel", poster, self._resource(SERVICE), self._events, metrics=self._collect)

    def _apm(self) -> Output:
        from dms.observe.otlp import OtlpOutput
        from dms.observe.posting import Poster

        apm = self._settings.apm
        key, token = apm.api_key.get_secret_value(), apm.secret_token.get_secret_value()
        poster = Poster(apm.server_url, {"Authorization": f"ApiKey {key}" if key else f"Bearer {token}"})
        resource = self._resource(apm.service_name) | {
            "deployment.environment": apm.environment,
            "deployment.environment.name": apm.environment,
        }
        return OtlpOutput("apm", poster, resource, self._events, metrics=self._collect)

    def _resource(self, service: str) -> dict[str, str]:
        who = self._identity
        return {
            "service.name": service,
            "service.version": who.version,
            "service.instance.id": who.peer,
            "did": who.did,
            "hostdid": who.did,
        }

    def _conceal(self, settings: Settings) -> None:
        for secret in (settings.observability.elastic.api_key, settings.apm.api_key, settings.apm.secret_token):
            conceal(secret.get_secret_value())
