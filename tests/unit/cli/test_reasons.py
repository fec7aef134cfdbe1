"""nunet plan, why and doctor work: what they print, and how they end. The node's answers are scripted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

ID = "3f2a" + "0" * 60
NS = "/dms/node/deployment"
BOB, CAROL = "12D3KooWBobBobBobBob", "12D3KooWCarolCarolCa"
ENSEMBLE = """
version: "V1"
allocations:
  count:
    type: task
    executor: wasm
    resources: {cpu: {cores: 1}, ram: {size: 64 MiB}, disk: {size: 1 MiB}}
    execution: {type: wasm, module: AGFzbQEAAAA=}
nodes:
  text:
    allocations: [count]
"""
REFUSED: dict[str, Any] = {
    "summary": "no bids for text",
    "nodes": [
        {
            "node": "text",
            "count": 3,
            "reasons": [
                {"peer": BOB, "rule": "machine", "text": "5 cores wanted, 4 there", "hint": "ask for less"},
                {"peer": CAROL, "rule": "executor", "text": "no executor\x1b[31m docker"},
            ],
            "more": 2,
        }
    ],
    "peers": [{"peer": CAROL, "rule": "bad-bid", "text": "bid has expired"}],
    "mends": ["text: ask for less (machine, 1 peer)"],
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(ENSEMBLE)
    return path


def planning(node: ScriptedDaemon, **members: Any) -> None:
    node.answers[f"{NS}/plan"] = lambda _payload: {"ok": True, "feasible": True} | members


NEW: dict[str, Any] = {
    "nodes": {"added": ["text"]},
    "allocations": {"added": ["count"]},
    "placed": {"text": BOB},
    "report": {
        "summary": "there is a place for every node",
        "is_placed": True,
        "nodes": [{"node": "text", "peer": BOB}],
    },
}


def test_a_plan_tells_what_was_measured_and_how_prices_were_compared(
    node: ScriptedDaemon, nunet: Nunet, job: Path
) -> None:
    pairs = [
        {"a": BOB, "b": CAROL, "rtt_ms": 20.0, "bandwidth_bps": 8e6},
        {"a": CAROL, "b": BOB, "error": "too many measurements are asked for"},
    ]
    report = NEW["report"] | {"measured": pairs, "currency": "NTX", "uncompared": [CAROL]}
    planning(node, **NEW | {"report": report})
    out = nunet("plan", job).out
    assert f"Measured: …{BOB[-8:]} – …{CAROL[-8:]}: 20 ms, 8 Mbit/s\n" in out
    assert f"Not measured: …{CAROL[-8:]} – …{BOB[-8:]}: too many measurements are asked for\n" in out
    assert f"Prices are compared in NTX; these ask in others, and count as the dearest: …{CAROL[-8:]}\n" in out


def test_a_plan_shows_where_nodes_would_be_and_ends_with_1(node: ScriptedDaemon, nunet: Nunet, job: Path) -> None:
    planning(node, **NEW)
    done = nunet("plan", job)
    assert (done.code, done.err) == (1, "")
    assert (
        done.out
        == f"+ text  on …{BOB[-8:]}\n\nPossible: 1 to add, 0 to change, 0 to remove, 0 stay. Nothing was reserved.\n"
    )
    [payload] = node.payloads_of(f"{NS}/plan")
    assert payload["Ensemble"]["v1"]["nodes"].keys() == {"text"}
    assert json.loads(nunet("plan", job, "--output", "json").out)["placed"] == {"text": BOB}


def test_a_plan_that_changes_nothing_ends_with_0(node: ScriptedDaemon, nunet: Nunet, job: Path) -> None:
    planning(node, deployment=ID, kept={"text": BOB})
    done = nunet("plan", job, "--deployment", "3f2a")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "Nothing would change."
    assert f"  text  on …{BOB[-8:]}, stays" in done.out
    assert node.payloads_of(f"{NS}/plan")[0]["deployment"] == "3f2a"


def test_every_kind_of_difference_has_its_sign(node: ScriptedDaemon, nunet: Nunet, job: Path) -> None:
    planning(
        node,
        deployment=ID,
        nodes={"added": ["new"], "removed": ["old"], "changed": ["other"]},
        allocations={"changed": ["count"]},
        settings=["supervisor"],
        placed={"new": BOB, "other": CAROL, "around": CAROL},
        kept={"same": BOB},
        report={"summary": "", "is_placed": True},
    )
    done = nunet("plan", job)
    signs = [line[:2] + line.split()[1] for line in done.out.splitlines() if line[:2] in ("+ ", "~ ", "- ")]
    assert signs == ["+ new", "~ other", "~ around", "- old", "~ allocation", "~ supervisor"]
    assert done.code == 1
    assert "1 to add, 2 to change, 1 to remove, 1 stay" in done.out


def test_a_plan_that_cannot_be_says_who_refused_and_ends_with_5(node: ScriptedDaemon, nunet: Nunet, job: Path) -> None:
    planning(node, feasible=False, nodes={"added": ["text"]}, report=REFUSED)
    done = nunet("plan", job)
    assert done.code == 5
    assert "Not possible now: no bids for text" in done.out
    assert f"text (and 2 like it)  …{BOB[-8:]}  machine   5 cores wanted, 4 there" in done.out
    assert "text: ask for less (machine, 1 peer)" in done.out
    assert "\x1b" not in done.out, "what others wrote does not steer the terminal"


def test_changes_that_what_runs_does_not_take_are_named(node: ScriptedDaemon, nunet: Nunet, job: Path) -> None:
    problem = {"path": "V1.nodes.text.peer", "reason": "the machine of a running node cannot change", "hint": "add one"}
    planning(node, feasible=False, deployment=ID, nodes={"changed": ["text"]}, problems=[problem])
    done = nunet("plan", job)
    assert done.code == 5
    assert "Not possible: V1.nodes.text.peer: the machine of a running node cannot change (add one)" in done.out


def test_whatever_else_goes_wrong_with_a_plan_ends_with_neither(node: ScriptedDaemon, nunet: Nunet, job: Path) -> None:
    node.answers[f"{NS}/plan"] = lambda _payload: {
        "error": "deployment not found: 3f2a",
        "hint": "nunet get deployments",
    }
    done = nunet("plan", job)
    assert (done.code, done.err) == (4, "Error: deployment not found: 3f2a\nHint: nunet get deployments\n")
    node.answers[f"{NS}/plan"] = lambda _payload: {"error": "the sky fell"}
    assert nunet("plan", job).code == 255, "1 means changes"
    assert nunet("plan", job.with_name("missing.yaml")).code == 4
    assert nunet("plan").code == 2
    assert nunet("plan", job, "--nonsense").code == 2


def test_why_tells_the_sentence_the_rules_and_the_mends(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/why"] = lambda _payload: {"id": ID, "status": "Preparing", "round": 3, "report": REFUSED}
    done = nunet("why", "3f2a")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:2] == [f"Deployment {ID[:12]} is Preparing, 3 rounds of bids.", "no bids for text"]
    assert "bad-bid" in done.out
    assert "2 more" in done.out
    assert done.out.splitlines()[-2:] == ["What may mend it:", "  text: ask for less (machine, 1 peer)"]
    assert "\x1b" not in done.out
    assert json.loads(nunet("why", "3f2a", "--output", "json").out)["report"]["summary"] == "no bids for text"


def test_why_of_an_unknown_deployment_is_not_found(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/why"] = lambda _payload: {"error": "deployment not found: cafe"}
    done = nunet("why", "cafe")
    assert (done.code, done.err) == (4, "Error: deployment not found: cafe\n")


DOCTOR: dict[str, Any] = {
    "ok": True,
    "summary": "this machine offers nothing",
    "hours": 4,
    "findings": [
        {"level": "problem", "about": "offer", "text": "this machine offers nothing", "hint": "nunet onboard"},
        {"level": "ok", "about": "network", "text": "connected to 2 peers"},
    ],
    "counts": {"requests": 1},
    "requests": [
        {
            "ensemble": ID,
            "peer": BOB,
            "did": "did:key:bob",
            "first_ns": 1,
            "last_ns": 2,
            "rounds": 1,
            "nodes": 2,
            "bid": 0,
            "refused": [{"rule": "offered", "reason": "this machine is not offered", "remedy": "", "nodes": 2}],
        }
    ],
    "strangers": [{"peer": CAROL, "did": "did:key:carol", "times": 7, "last_ns": 2, "reason": "not authorized"}],
}


def test_the_doctor_tells_what_stands_against_work(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers["/dms/node/doctor/work"] = lambda _payload: DOCTOR
    done = nunet("doctor", "work", "--hours", 4)
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("This machine offers nothing.\n")
    assert "→ nunet onboard" in done.out
    assert "offered: this machine is not offered" in done.out
    assert "did:key:carol" in done.out
    assert node.payloads_of("/dms/node/doctor/work") == [{"hours": 4}]
    assert json.loads(nunet("doctor", "work", "-o", "json").out)["counts"] == {"requests": 1}


def test_a_healthy_machine_ends_with_0(node: ScriptedDaemon, nunet: Nunet) -> None:
    healthy = {"ok": True, "summary": "nothing stands against work here", "findings": DOCTOR["findings"][1:]}
    node.answers["/dms/node/doctor/work"] = lambda _payload: healthy
    done = nunet("doctor", "work")
    assert (done.code, done.err) == (0, "")
    assert done.out == "Nothing stands against work here.\n\nok       network    connected to 2 peers\n"


@pytest.mark.parametrize("hours", ["0", "49", "x"])
def test_the_doctor_looks_back_two_days_at_most(nunet: Nunet, hours: str) -> None:
    assert nunet("doctor", "work", "--hours", hours).code == 2
