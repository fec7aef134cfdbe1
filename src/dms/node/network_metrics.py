"""The metrics of private networks: of all of them and all their members together, so that there are few however many they are."""

from __future__ import annotations

from collections.abc import Iterator

from dms.node import metric_names as names
from dms.node.connections import OUTCOMES, Connections
from dms.observe.metrics import Sample
from dms.subnet.dns import Outcome
from dms.subnet.tally import Drop
from dms.subnet.totals import PATHS, Totals, median


def samples(totals: Totals) -> Iterator[Sample]:
    """All values of now. What has not happened yet is told as 0: a rate needs something to begin from."""
    yield names.SUBNET_NETWORKS.sample(totals.networks)
    yield names.SUBNET_ATTACHED.sample(totals.attached)
    for path in PATHS:
        yield names.SUBNET_WAYS.sample(totals.ways[path], path=path)
    rtt_s = median(totals.rtts_s)
    if rtt_s is not None:
        yield names.SUBNET_RTT.sample(rtt_s * 1000)
    yield names.SUBNET_PACKETS.sample(totals.packets_in, direction="in")
    yield names.SUBNET_PACKETS.sample(totals.packets_out, direction="out")
    yield names.SUBNET_BYTES.sample(totals.bytes_in, direction="in")
    yield names.SUBNET_BYTES.sample(totals.bytes_out, direction="out")
    for reason in Drop:
        yield names.SUBNET_DROPS.sample(totals.drops[reason.value], reason=reason.value)
    for outcome in Outcome:
        yield names.SUBNET_QUERIES.sample(totals.queries[outcome.value], outcome=outcome.value)
    for refusal, count in totals.refused.items():
        yield names.SUBNET_REFUSED.sample(count, reason=refusal)


def connection_samples(connections: Connections) -> Iterator[Sample]:
    """The same of connections without packets."""
    for outcome in OUTCOMES:
        yield names.SUBNET_CONNECTIONS.sample(connections.counts[outcome], outcome=outcome)
    yield names.SUBNET_SERVING.sample(connections.serving)
    yield names.SUBNET_CONNECTION_BYTES.sample(connections.counts["bytes"])
