"""Why not: a plan, why a deployment waits, and why a machine gets no work, over real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dms.testing.commandline import Nunet
from dms.testing.localnet import LocalNet

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("devnet")]

HUGE = """
version: "V1"
allocations:
  train:
    type: task
    executor: wasm
    resources: {cpu: {cores: 4096}, ram: {size: 64MiB}, disk: {size: 1MiB}}
    execution: {type: wasm, module: AGFzbQEAAAA=}
nodes:
  trainer:
    allocations: [train]
"""


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    path = tmp_path / "huge.yaml"
    path.write_text(HUGE)
    return path


def test_plan_why_and_doctor_name_the_machines_that_refused_and_the_rule(
    net: LocalNet, nunet: Nunet, huge: Path
) -> None:
    possible = nunet("plan", Path(__file__).parents[2] / "examples" / "wordcount.yaml", "--output", "json")
    plan = json.loads(possible.out)
    assert (possible.code in (0, 1), plan["feasible"]) == (True, True), possible

    refused = nunet("plan", huge)
    assert refused.code == 5
    assert "Not possible now: no bids for trainer" in refused.out
    for name in ("node1", "node2"):
        assert f"trainer  {name}  machine  the machine falls short: 4096 cores wanted" in refused.out

    job = nunet("deploy", "-f", huge, "--timeout", "65s", "--id-only").out.strip()
    for progress in net.deployment(job).follow():
        if sum(event.kind == "bid_declined" for event in progress.events) >= 1:
            break
    why = json.loads(nunet("why", job, "--output", "json").out)
    assert why["id"] == job
    assert {reason["rule"] for reason in why["report"]["nodes"][0]["reasons"]} == {"machine"}
    net.deployment(job).shutdown()

    doctor = nunet("--node", "node1", "doctor", "work", "--output", "json")
    found = json.loads(doctor.out)
    assert found["counts"]["refused.machine"] >= 2
    assert {request["ensemble"] for request in found["requests"]} >= {job}
    idle = nunet("--node", "node3", "doctor", "work")
    assert (idle.code, idle.out.splitlines()[0]) == (1, "This machine offers nothing.")
