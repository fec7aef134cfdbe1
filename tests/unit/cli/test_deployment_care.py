"""Commands that look after deployments: ps, info, manifest, top, restart, delete, prune, pages and filters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

ID = "3f2a" + "0" * 60
NS = "/dms/node/deployment"
USAGE = {"cpu_usage_percent": 12.5, "memory_used_bytes": 2**20, "memory_limit_bytes": 2**21, "network_rx_bytes": 2048}
ALLOCATION: dict[str, Any] = {
    "allocation_id": f"{ID}_text.serve",
    "status": "running",
    "node_id": "text",
    "peer": "12D3KooWPeerPeerPeer",
    "type": "service",
    "dns_name": "serve",
    "ports": {"8080": 80, "8053": 53},
    "udp_ports": ["8053"],
    "started_at": "2024-01-01T00:00:00Z",
    "heartbeat_seq": 7,
    "has_health_check": True,
    "health": {"healthy": False, "message": "no answer\x1b[2J", "check_type": "executor"},
    "resource_limit": {"cpu": {"cores": 1.5}, "ram": {"size": 2**21}, "disk": {"size": 2**30}},
    "resource_usage": USAGE,
    "logs": {"logs_written_to": "/srv/logs", "stdout_path": "/srv/logs/stdout.log"},
}
INFO = {
    "id": ID,
    "status": "Running",
    "error": "",
    "owner": "did:key:zOwner",
    "metadata": {"team": "blue"},
    "created_at": "2024-01-01T00:00:00Z",
    "manifest": {"id": ID, "nodes": {}},
    "allocations": {"text.serve": ALLOCATION},
}


def listed(payload: Any) -> object:
    running = {"orchestrator_id": ID, "status": "Running", "metadata": {}, "allocations": 3, "running": 2}
    return {"deployments": [running], "total": 41, "has_more": True, "next_offset": 21, "asked": payload}


def test_ps_lists_what_goes_on_and_how_much_of_it_runs(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/list"] = listed
    done = nunet("ps", "--limit", "1", "--offset", "20")
    assert [line.split()[:3] for line in done.out.splitlines()] == [
        ["ID", "STATUS", "UP"],
        ["3f2a00000000", "Running", "2/3"],
    ]
    assert done.err == "21 to 21 of 41; more with --offset 21\n"
    nunet("ps", "--all")
    live, everything = node.payloads_of(f"{NS}/list")
    assert {"Running", "Preparing", "ShuttingDown"} <= set(live["status"])
    assert not {"Failed", "Completed"} & set(live["status"])
    assert "status" not in everything or not everything["status"]


def test_get_deployments_takes_every_filter_of_the_behaviour(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/list"] = listed
    times = ("created-after", "created-before", "updated-after", "updated-before")
    flags = [word for number, name in enumerate(times) for word in (f"--{name}", f"{number + 1}h")]
    nunet("get", "deployments", *flags, "--offset", "5", "--sort", "status")
    (asked,) = node.payloads_of(f"{NS}/list")
    assert {name: asked[name.replace("-", "_")] for name in times} == dict(
        zip(times, ("1h", "2h", "3h", "4h"), strict=True)
    )
    assert (asked["offset"], asked["sort_by"]) == (5, "status")


def test_info_tells_everything_and_nothing_of_it_steers_the_terminal(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/info"] = lambda _payload: INFO
    done = nunet("info", "3f2a", "serve", "--usage", "--logs")
    (asked,) = node.payloads_of(f"{NS}/info")
    assert (asked["include_usage"], asked["include_logs"], asked["allocation_names"]) == (True, True, ["serve"])
    lines = [line.strip() for line in done.out.splitlines()]
    assert lines[:4] == [
        f"Deployment {ID}",
        "Status     Running",
        "Owner      did:key:zOwner",
        "Metadata   team=blue",
    ]
    assert "Ports    8053→53/udp, 8080→80/tcp" in lines
    assert "Health   ill: no answer [2J" in lines
    assert "Limits   1.5 cores, 2.0 MiB, disk 1.0 GiB" in lines
    assert "Uses     12.5 % of a core, 1.0 MiB" in lines
    assert "Logs     /srv/logs" in lines
    assert "\x1b" not in done.out


def test_info_as_json_holds_the_manifest(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/info"] = lambda _payload: INFO
    assert json.loads(nunet("info", "3f2a", "-o", "json").out)["manifest"] == INFO["manifest"]


@pytest.mark.parametrize(("form", "first"), [("json", "{"), ("yaml", "id: ")])
def test_the_manifest_is_printed_as_it_is(node: ScriptedDaemon, nunet: Nunet, form: str, first: str) -> None:
    node.answers[f"{NS}/manifest"] = lambda _payload: {"manifest": INFO["manifest"], "error": ""}
    assert nunet("manifest", "3f2a", "-o", form).out.startswith(first)


def test_top_in_a_pipe_looks_once(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers |= {
        f"{NS}/list": listed,
        f"{NS}/status": lambda _payload: {
            "status": "Running",
            "error": "",
            "allocation_info": {
                "text.serve": ALLOCATION,
                "text.lost": ALLOCATION | {"usage_error": "no reply"},
                "text.done": ALLOCATION | {"status": "completed"},
            },
            "allocation_usage": {"text.serve": USAGE},
        },
    }
    lines = nunet("top").out.splitlines()
    assert lines[0].split() == ["ID", "ALLOCATION", "MACHINE", "STATE", "CPU", "MEMORY", "OF", "RECEIVED", "SENT"]
    assert lines[1].split()[1:4] == ["text.lost", "…PeerPeer", "running"]
    assert "no reply" in lines[1]
    assert lines[2].split()[4:12] == ["12.5", "%", "1.0", "MiB", "2.0", "MiB", "2.0", "KiB"]
    assert len(lines) == 3
    assert json.loads(nunet("top", "3f2a", "-o", "json").out) == {"3f2a": {"text.serve": USAGE}}


def test_restart_names_what_is_restarted(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/restart"] = lambda _payload: {"ok": True, "allocations": ["text.serve"]}
    assert nunet("restart", "3f2a", "serve").out == "Restarting text.serve\n"
    (asked,) = node.payloads_of(f"{NS}/restart")
    assert asked == {"id": "3f2a", "allocation_names": ["serve"]}


def test_what_cannot_be_restarted_is_told_with_a_hint(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/restart"] = lambda _payload: {
        "ok": False,
        "error": "text.serve is not running: it is completed",
        "hint": "only what runs can be restarted",
    }
    done = nunet("restart", "3f2a", "serve")
    assert (done.code, done.err.splitlines()) == (
        5,
        ["Error: text.serve is not running: it is completed", "Hint: only what runs can be restarted"],
    )


def test_delete_forgets_one_after_the_other_until_one_is_refused(node: ScriptedDaemon, nunet: Nunet) -> None:
    def answer(payload: Any) -> object:
        ok = payload["id"] == "3f2a"
        return {"ok": ok, "error": "" if ok else "the deployment is Running"}

    node.answers[f"{NS}/delete"] = answer
    done = nunet("delete", "3f2a", "77c1")
    assert (done.code, done.out) == (5, "Deleted 3f2a\n")
    assert done.err.splitlines()[0] == "Error: the deployment is Running"


@pytest.mark.parametrize(
    ("words", "asked", "told"),
    [
        (["--before", "7d"], {"before": "7d"}, "1 deployment forgotten\n"),
        (["--all", "--dry-run"], {"all": True, "dry_run": True}, "1 deployment would be forgotten\n"),
    ],
)
def test_prune_tells_what_it_forgot(
    node: ScriptedDaemon, nunet: Nunet, words: list[str], asked: dict[str, Any], told: str
) -> None:
    node.answers[f"{NS}/prune"] = lambda _payload: {"ok": True, "error": "", "pruned": [ID]}
    done = nunet("prune", *words)
    assert (done.out, done.err) == (f"{ID}\n", told)
    assert node.payloads_of(f"{NS}/prune") == [asked]


@pytest.mark.parametrize("words", [[], ["--all", "--before", "1d"]])
def test_prune_wants_to_know_which(node: ScriptedDaemon, nunet: Nunet, words: list[str]) -> None:
    done = nunet("prune", *words)
    assert (done.code, node.requests) == (2, [])
    assert done.err.splitlines()[0] == "Error: say which: --before TIME or --all"


@pytest.mark.parametrize("command", ["info", "manifest", "restart", "delete", "top"])
def test_an_unknown_deployment_ends_with_code_4(node: ScriptedDaemon, nunet: Nunet, command: str) -> None:
    error = "deployment not found: 9999"
    node.answers |= {
        f"{NS}/info": lambda _payload: {"id": "", "error": error},
        f"{NS}/manifest": lambda _payload: {"manifest": None, "error": error},
        f"{NS}/status": lambda _payload: {"status": "", "error": error},
        f"{NS}/restart": lambda _payload: {"ok": False, "error": error},
        f"{NS}/delete": lambda _payload: {"ok": False, "error": error},
    }
    done = nunet(command, "9999")
    assert (done.code, done.err.splitlines()[0]) == (4, f"Error: {error}")
