"""One deployment on real processes, through every command that looks after one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dms.testing.commandline import Nunet
from dms.testing.localnet import LocalNet, run_nunet

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("devnet")]

EXAMPLE = Path(__file__).parents[2] / "examples" / "wordcount.yaml"
SERVICE = "right.ticker"


def test_every_command_on_one_deployment(net: LocalNet, nunet: Nunet) -> None:
    done = run_nunet("deploy", "-f", EXAMPLE)
    assert (done.code, done.err) == (0, "")
    job = done.out.strip()
    short = job[:12]
    net.await_event(job, "left.wordcount ended: completed", "right.linestats ended: completed")

    rows = [line.split() for line in nunet("ps", "--filter", "example=wordcount").out.splitlines()]
    assert [short, "Running", "1/3"] in [row[:3] for row in rows]
    listing = json.loads(nunet("get", "deployments", "--status", "4", "--created-after", "1h", "-o", "json").out)
    assert job in {deployment["orchestrator_id"] for deployment in listing["deployments"]}

    info = json.loads(nunet("info", short, "ticker", "--usage", "--logs", "-o", "json").out)
    told = info["allocations"][SERVICE]
    assert info["owner"].startswith("did:key:")
    assert info["usage"] == told["resource_usage"]
    assert told["executor_stats"]["timestamp"] > 10**12
    assert b"heartbeat: started" in Path(told["logs"]["stdout_path"]).read_bytes()
    assert "heartbeat" not in nunet("info", short).out

    manifest = json.loads(nunet("manifest", short).out)
    assert manifest["allocations"][SERVICE]["status"] == "running"
    usage = json.loads(nunet("top", short, "--once", "-o", "json").out)
    assert set(usage[short]) == {SERVICE}
    assert nunet("logs", short, "ticker", "--stream", "stdout", "--tail", "1").out.startswith("heartbeat: ")

    refused = nunet("exec", short, "ticker", "--", "ls")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("Error: the wasm executor cannot run commands inside a program")
    refused = nunet("exec", "-i", short, "ticker", "--", "cat")
    assert refused.err.splitlines() == [
        "Error: commands inside a wasm workload get no input",
        "Hint: leave -i and -t out",
    ]

    assert nunet("restart", short, "ticker").out == f"Restarting {SERVICE}\n"
    net.await_event(job, f"restarted {SERVICE}")
    assert nunet("restart", short, "wordcount").code == 5

    assert nunet("delete", short).code == 5
    assert run_nunet("shutdown", short).out.strip() == "Completed"
    assert job in nunet("prune", "--before", "0s", "--dry-run").out
    assert nunet("delete", short).out == f"Deleted {short}\n"
    gone = nunet("info", job)
    assert (gone.code, gone.err.splitlines()[0]) == (4, f"Error: deployment not found: {job}")
