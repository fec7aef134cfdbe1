"""``/metrics``, as a scraper sees it."""

from __future__ import annotations

from pathlib import Path

import httpx2
import trio
from trio.testing import MockClock

from dms.api.bridge import Bridge
from dms.api.routes import create_app
from dms.node.metric_names import METRICS
from dms.observe.metrics import prometheus_text
from dms.testing.nodes import Cluster


async def test_a_scraper_reads_the_metrics_of_the_node(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    node = (await Cluster(tmp_path, nursery, seed=1).start("alice")).node
    bridge = Bridge(node.root.network, node.root.security, node.root.handle)
    app = create_app(bridge, lambda: prometheus_text(node.metering.collect()))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:9999") as http:
        response = await http.get("/metrics")
        assert (await http.get("/metrics", headers={"host": "evil.example"})).status_code == 400
        assert (await http.post("/metrics")).status_code == 405
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    known = {metric.prometheus_name for metrics in METRICS.values() for metric in metrics}
    for line in response.text.splitlines():
        name = line.removeprefix("# HELP ").removeprefix("# TYPE ").replace("{", " ").split()[0]
        assert name in known, line
    assert "dms_node_info{" in response.text
