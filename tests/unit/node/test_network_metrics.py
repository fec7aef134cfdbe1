from __future__ import annotations

from collections import Counter

from dms.node import metric_names as names
from dms.node import network_metrics
from dms.observe.metrics import prometheus_text
from dms.subnet.dns import Outcome
from dms.subnet.tally import Drop
from dms.subnet.totals import PATHS, Totals

TOTALS = Totals(
    networks=2,
    attached=3,
    ways=Counter(direct=1000),
    rtts_s=[0.001] * 1000,
    packets_in=5,
    bytes_out=7000,
    drops=Counter({Drop.RELAY_LIMIT.value: 4}),
    refused=Counter({"not a member": 1}),
)


def test_there_are_few_metrics_however_many_peers_there_are() -> None:
    samples = list(network_metrics.samples(TOTALS))
    assert len(samples) <= 2 + len(PATHS) + 1 + 4 + len(Drop) + len(Outcome) + 1
    published = {one for one in names.METRICS["Private networks"] if "connections" not in one.name}
    assert {sample.metric for sample in samples} == published, "all of them are told"
    for sample in samples:
        assert set(sample.labels) == set(sample.metric.labels)
    text = prometheus_text(samples).decode()
    assert 'dms_subnet_ways{path="direct"} 1000\n' in text
    assert 'dms_subnet_drops_total{reason="relay limit"} 4\n' in text
    assert 'dms_subnet_drops_total{reason="no route"} 0\n' in text
    assert 'dms_subnet_bytes_total{direction="out"} 7000\n' in text
    assert "dms_subnet_rtt 1\n" in text


def test_without_a_way_there_is_no_round_trip() -> None:
    assert names.SUBNET_RTT not in {sample.metric for sample in network_metrics.samples(Totals())}
