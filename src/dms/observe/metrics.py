"""What can be measured, and how it is written for Prometheus (``spec/platform.md`` 5.5).

Names are those of OpenTelemetry, with dots; Prometheus has underscores for them. Nothing is kept here: whoever knows a
number tells it when it is asked, so that a scrape costs a few reads of memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from dms.observe.log import get_logger

MAX_SAMPLES: Final = 5_000
"""Of one source: a node with many allocations must not make a scrape of megabytes."""

log = get_logger(__name__)


class MetricKind(Enum):
    """Whether a number goes up and down, or counts what has happened since the start."""

    GAUGE = "gauge"
    COUNTER = "counter"


Gauge: Final = MetricKind.GAUGE
Counter: Final = MetricKind.COUNTER


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: ``labels`` maps their names to their meaning."""

    name: str
    kind: MetricKind
    unit: str
    meaning: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def prometheus_name(self) -> str:
        """As it stands in ``/metrics``."""
        plain = self.name.replace(".", "_")
        return f"{plain}_total" if self.kind is Counter and not plain.endswith("_total") else plain

    def sample(self, value: float, **labels: str) -> Sample:
        """A value of it, now."""
        return Sample(self, float(value), labels)


@dataclass(frozen=True, slots=True)
class Sample:
    """A metric's value for some labels."""

    metric: Metric
    value: float
    labels: Mapping[str, str]


Source = Callable[[], Iterable[Sample]]


class Registry:
    """The sources of one process."""

    def __init__(self) -> None:
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        """Ask ``source`` too."""
        self._sources.append(source)

    def collect(self) -> list[Sample]:
        """All values of now; a source that fails costs its own, and is said."""
        samples: list[Sample] = []
        for source in self._sources:
            try:
                samples += _bounded(source())
            except Exception:
                log.exception("metrics_source_failed", source=getattr(source, "__qualname__", str(source)))
        return samples


def prometheus_text(samples: Iterable[Sample]) -> bytes:
    """The text format, version 0.0.4."""
    by_metric: dict[Metric, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric, []).append(sample)
    lines: list[str] = []
    for metric, its in sorted(by_metric.items(), key=lambda item: item[0].name):
        name = metric.prometheus_name
        unit = f" ({metric.unit})" if metric.unit else ""
        lines += [f"# HELP {name} {_escaped(metric.meaning)}{unit}", f"# TYPE {name} {metric.kind.value}"]
        lines += [f"{name}{_labels(sample.labels)} {_number(sample.value)}" for sample in its]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _bounded(samples: Iterable[Sample]) -> Iterator[Sample]:
    for count, sample in enumerate(samples):
        if count >= MAX_SAMPLES:
            return
        yield sample


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value, quotes=True)}"' for key, value in sorted(labels.items())) + "}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
