"""Commands about deployments: deploy, status, logs, events, shutdown, get. The node's answers are scripted."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dms.cli.logs import TAIL_WINDOW_BYTES
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

ID = "3f2a" + "0" * 60
NS = "/dms/node/deployment"
PEER = "12D3KooWPeerPeerPeer"
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


Step = tuple[str, list[tuple[str, dict[str, Any]]]]


class Script:
    """A deployment that goes on one step with every question for events."""

    def __init__(self, *steps: Step, error: str = "") -> None:
        self.steps = list(steps)
        self.error = error
        self.status = ""
        self.events: list[dict[str, Any]] = []
        self.logs: dict[tuple[str, str], list[bytes]] = {}
        self.lost = (0, 0)
        """From where to where they are not kept."""
        self.is_shut_down = False

    def install(self, node: ScriptedDaemon) -> Script:
        node.answers |= {
            f"{NS}/new": lambda _payload: {"Status": "OK", "EnsembleID": ID},
            f"{NS}/events": self._events,
            f"{NS}/status": lambda _payload: {"status": self.status, "error": self.error},
            f"{NS}/info": self._info,
            f"{NS}/logs": self._logs,
            f"{NS}/shutdown": self._shutdown,
        }
        return self

    def _events(self, payload: Any) -> object:
        if self.steps:
            self.status, told = self.steps.pop(0)
            for kind, detail in told:
                number = len(self.events) + 1
                self.events.append({"seq": number, "at": number * 10**9, "kind": kind, "detail": detail})
        found = [event for event in self.events if event["seq"] > payload.get("after", 0)]
        return {"events": found, "status": self.status, "error": ""}

    def _info(self, _payload: Any) -> object:
        allocation = {
            "allocation_id": f"{ID}_text.count",
            "status": "failed" if self.status == "Failed" else "running",
            "node_id": "text",
            "peer": PEER,
            "type": "task",
            "error": "it trapped",
            "exit_code": 3,
            "ports": {"8080": 80},
            "started_at": "2024-01-01T00:00:00Z",
            "ended_at": "2024-01-01T00:00:02Z",
        }
        other = {
            "allocation_id": f"{ID}_text.serve",
            "status": "pending",
            "node_id": "text",
            "peer": "",
            "type": "service",
        }
        return {
            "id": ID,
            "status": self.status,
            "error": self.error,
            "manifest": {"large": True},
            "allocations": {"text.count": allocation, "text.serve": other},
        }

    def _logs(self, payload: Any) -> object:
        import base64

        if payload.get("version") and not payload["AllocationName"]:
            return {"allocations": ["text.count"]}
        pieces = self.logs.get((payload["AllocationName"], payload["stream"]), [])
        if payload.get("version"):
            pieces = [b"as it was\n"]
        end, offset = sum(len(piece) for piece in pieces), payload.get("offset", 0)
        start = max(0, end + offset) if offset < 0 else min(offset, end)
        if payload.get("since_ms"):
            start = max(start, len(pieces[0]))
        lost = range(*self.lost)
        if start in lost:
            start = lost.stop
        place = 0
        for piece in pieces:
            place += len(piece)
            if place > start:
                data = piece[start - place :]
                break
        else:
            data = b""
        after = start + len(data)
        told = {"data": base64.b64encode(data).decode(), "offset": start, "next_offset": after, "total_size": end}
        return told | {"eof": after == end}

    def _shutdown(self, _payload: Any) -> object:
        self.is_shut_down = True
        return {"OK": True}


RUNNING: tuple[Step, ...] = (
    ("Preparing", [("submitted", {"metadata": {}}), ("bids_requested", {"round": 1})]),
    ("Committing", [("bid_received", {"node": "text", "peer": PEER})]),
    ("Running", [("starts_done", {"started": ["text.count"], "failed": {}, "status": "Running"})]),
)
COMPLETED: tuple[Step, ...] = (
    *RUNNING,
    ("Completed", [("allocation_ended", {"allocation": "text.count", "state": "completed"})]),
)


@pytest.fixture
def ensemble(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(ENSEMBLE)
    return path


# deploy ----------------------------------------------------------------------------------------------------------------


def test_in_a_pipe_deploy_prints_the_id_alone(node: ScriptedDaemon, nunet: Nunet, ensemble: Path) -> None:
    script = Script(*RUNNING).install(node)
    done = nunet("deploy", "-f", ensemble)
    assert (done.code, done.out, done.err) == (0, f"{ID}\n", "")
    assert script.steps == []  # it has waited


def test_deploy_sends_the_canonical_ensemble(node: ScriptedDaemon, nunet: Nunet, ensemble: Path) -> None:
    Script(*RUNNING).install(node)
    nunet("deploy", "-f", ensemble)
    (payload,) = node.payloads_of(f"{NS}/new")
    assert payload["Ensemble"]["v1"]["nodes"]["text"]["allocations"] == ["count"]


def test_progress_is_told_line_by_line_where_it_is_wanted(node: ScriptedDaemon, nunet: Nunet, ensemble: Path) -> None:
    Script(*RUNNING).install(node)
    assert nunet("deploy", "-f", ensemble, "--progress").out.splitlines() == [
        f"Deployment {ID}",
        "   0.00s  submitted",
        "   1.00s  asked the network for bids",
        "   2.00s  …PeerPeer bid for text",
        "   3.00s  started text.count → Running",
    ]


def test_progress_is_told_on_a_terminal(node: ScriptedDaemon, ensemble: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dms.cli.main import invoke

    Script(*RUNNING).install(node)
    main, side = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as screen, os.fdopen(side, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert invoke(["deploy", "-f", str(ensemble)]) == 0
        terminal.flush()
        shown = b""
        while b"Running" not in shown:
            shown += screen.read(65536)
    assert b"asked the network for bids" in shown


@pytest.mark.parametrize(("flags", "steers"), [([], False), (["--raw"], True)])
def test_what_a_program_wrote_steers_a_terminal_only_where_that_is_wanted(
    node: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch, flags: list[str], steers: bool
) -> None:
    from dms.cli.main import invoke

    Script(*COMPLETED).install(node).logs = {("text.count", "stdout"): [b"\x1b]0;x\x07\x1b[2J\x1b[31mend"]}
    main, side = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as screen, os.fdopen(side, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert invoke(["logs", ID, "text.count", *flags]) == 0
        terminal.flush()
        shown = b""
        while b"end" not in shown:
            shown += screen.read(65536)
    assert (b"\x1b[2J" in shown) == steers
    assert b"\x1b[31m" in shown


@pytest.mark.parametrize("flag", ["--id-only", "--no-wait"])
def test_deploy_need_not_wait(node: ScriptedDaemon, nunet: Nunet, ensemble: Path, flag: str) -> None:
    script = Script(*RUNNING).install(node)
    assert nunet("deploy", "-f", ensemble, flag).out == f"{ID}\n"
    assert len(script.steps) == len(RUNNING)


def test_deploy_may_wait_for_the_end(node: ScriptedDaemon, nunet: Nunet, ensemble: Path) -> None:
    Script(*COMPLETED).install(node)
    done = nunet("deploy", "-f", ensemble, "--until", "ended", "--progress")
    assert done.out.splitlines()[-1].endswith("text.count ended: completed")


def test_deploy_may_print_the_logs_then(node: ScriptedDaemon, nunet: Nunet, ensemble: Path) -> None:
    Script(*COMPLETED).install(node).logs = {("text.count", "stdout"): [b"12 words\n"]}
    assert nunet("deploy", "-f", ensemble, "--follow-logs").out == f"{ID}\ntext.count | 12 words\n"


def test_deploy_as_json_tells_id_status_and_error(node: ScriptedDaemon, nunet: Nunet, ensemble: Path) -> None:
    Script(*RUNNING).install(node)
    assert json.loads(nunet("deploy", "-f", ensemble, "-o", "json").out) == {"id": ID, "status": "Running", "error": ""}


def test_a_deployment_that_fails_ends_the_command_with_code_1(
    node: ScriptedDaemon, nunet: Nunet, ensemble: Path
) -> None:
    failed: Step = ("Failed", [("bids_collected", {"bids": [], "chosen": {}, "status": "Failed", "error": "no bids"})])
    Script(RUNNING[0], failed, error="failed to create deployment: no bids").install(node)
    done = nunet("deploy", "-f", ensemble)
    assert (done.code, done.out) == (1, f"{ID}\n")
    assert done.err.splitlines() == [
        "Error: failed to create deployment: no bids",
        "Hint: nunet events 3f2a00000000 tells what happened",
    ]


def test_what_the_node_refuses_is_told_with_its_hint(node: ScriptedDaemon, nunet: Nunet, ensemble: Path) -> None:
    node.answers[f"{NS}/new"] = lambda _payload: {
        "Status": "ERROR",
        "EnsembleID": "",
        "Error": "requested deployment time too short",
        "Hint": "give it a minute",
    }
    done = nunet("deploy", "-f", ensemble, "-t", "20s")
    assert done.code == 1
    assert done.err.splitlines() == ["Error: requested deployment time too short", "Hint: give it a minute"]


def test_a_bad_ensemble_never_reaches_the_node(node: ScriptedDaemon, nunet: Nunet, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("nodes: [")
    done = nunet("deploy", "-f", tmp_path / "bad.yaml")
    assert done.code == 2
    assert "bad.yaml:2:1: not YAML" in done.err
    assert nunet("deploy", "-f", tmp_path / "none.yaml").code == 4
    assert node.requests == []


def test_ctrl_c_leaves_the_deployment_running_and_says_so(node: ScriptedDaemon, ensemble: Path) -> None:
    script = Script(RUNNING[0]).install(node)
    command = [sys.executable, "-m", "dms.cli.main", "deploy", "-f", str(ensemble)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{ID}\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "The deployment goes on. nunet status 3f2a00000000 shows it" in err
    assert "Traceback" not in err
    assert not script.is_shut_down


# status ----------------------------------------------------------------------------------------------------------------


def test_status_shows_the_phase_and_a_row_for_each_allocation(node: ScriptedDaemon, nunet: Nunet) -> None:
    script = Script().install(node)
    script.status, script.error = "Running", "text.other: gone"
    lines = nunet("status", "3f2a").out.splitlines()
    assert lines[:4] == [f"Deployment {ID}", "Status     Running", "Error      text.other: gone", ""]
    assert lines[4].split() == ["NODE", "ALLOCATION", "TYPE", "PEER", "STATE", "EXIT", "PORTS", "AGE"]
    assert lines[5].split() == ["text", "count", "task", "…PeerPeer", "running", "3", "8080→80", "2.0", "s"]
    assert lines[6].split() == ["text", "serve", "service", "-", "pending", "-", "-", "-"]
    assert lines[7] == "text.count: it trapped"
    assert node.payloads_of(f"{NS}/info")[0]["id"] == "3f2a"


def test_status_as_json_leaves_the_manifest_out(node: ScriptedDaemon, nunet: Nunet) -> None:
    Script().install(node).status = "Running"
    document = json.loads(nunet("status", "3f2a", "--output", "json").out)
    assert list(document) == ["id", "status", "error", "allocations"]
    assert document["allocations"]["text.count"]["exit_code"] == 3


@pytest.mark.parametrize("command", ["status", "logs", "events", "shutdown"])
def test_an_unknown_deployment_ends_with_code_4(node: ScriptedDaemon, nunet: Nunet, command: str) -> None:
    error = "deployment not found: 9999"
    node.answers |= {
        f"{NS}/info": lambda _payload: {"id": "", "error": error},
        f"{NS}/events": lambda _payload: {"events": [], "status": "", "error": error},
    }
    done = nunet(command, "9999")
    assert (done.code, done.err.splitlines()[0]) == (4, f"Error: {error}")


# logs ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(node: ScriptedDaemon) -> Script:
    script = Script().install(node)
    script.status = "Completed"
    script.logs = {
        ("text.count", "stdout"): [b"one\ntw", b"o\nthree\n"],
        ("text.serve", "stdout"): [b"\xff ready"],
        ("text.count", "stderr"): [b"oops\n"],
    }
    return script


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["text.count"], "one\ntwo\nthree\n"),
        (["text.count", "--follow"], "one\ntwo\nthree\n"),
        (["text.count", "--stderr"], "oops\n"),
        (["text.count", "--tail", "2"], "two\nthree\n"),
        (["text.count", "--tail", "0"], ""),
        (["--tail", "1"], "text.count | three\ntext.serve | � ready\n"),
        (["--follow", "--tail", "1"], "text.count | three\ntext.serve | � ready\n"),
        (["--stderr"], "text.count | oops\n"),
        (["text.count", "--since", "10m"], "o\nthree\n"),
        (["text.count", "--since", "2020-01-01"], "o\nthree\n"),
        (["--version", "2"], "as it was\n"),
        (["text.count", "--version", "2"], "as it was\n"),
    ],
)
def test_logs_are_put_together_from_pieces(logged: Script, nunet: Nunet, words: list[str], out: str) -> None:
    done = nunet("logs", "3f2a", *words)
    assert (done.code, done.out) == (0, out)


def test_logs_of_all_allocations_carry_their_names_line_by_line(logged: Script, nunet: Nunet) -> None:
    assert sorted(nunet("logs", "3f2a").out.splitlines()) == [
        "text.count | one",
        "text.count | three",
        "text.count | two",
        "text.serve | � ready",
    ]


def test_what_a_provider_did_not_keep_is_told_of(logged: Script, nunet: Nunet) -> None:
    logged.logs["text.count", "stdout"] = [b"first\n", b"lost\n", b"last\n"]
    logged.lost = (6, 11)
    out = nunet("logs", "3f2a", "text.count").out
    assert out.startswith("first\n\n[output left out here")
    assert out.endswith("]\nlast\n")


def test_the_last_lines_of_a_long_log_are_read_from_its_end(logged: Script, node: ScriptedDaemon, nunet: Nunet) -> None:
    lines = [b"%07d\n" % number for number in range(400_000)]
    logged.logs["text.count", "stdout"] = [b"".join(lines[i : i + 10_000]) for i in range(0, len(lines), 10_000)]
    read, whole = 0, node.answers[f"{NS}/logs"]

    def counted(payload: Any) -> Any:
        nonlocal read
        told: Any = whole(payload)
        read += told["next_offset"] - told["offset"]
        return told

    node.answers[f"{NS}/logs"] = counted
    assert nunet("logs", "3f2a", "text.count", "--tail", "2").out == "0399998\n0399999\n"
    assert read <= TAIL_WINDOW_BYTES
    wanted = TAIL_WINDOW_BYTES // 8 + 5
    assert nunet("logs", "3f2a", "text.count", "--tail", str(wanted)).out == b"".join(lines[-wanted:]).decode()


@pytest.mark.parametrize("text", ["yesterday", "10", "5 parsecs"])
def test_a_time_that_is_none_is_told(logged: Script, nunet: Nunet, text: str) -> None:
    done = nunet("logs", "3f2a", "--since", text)
    assert (done.code, done.err.count("invalid")) == (2, 1)


def test_logs_that_are_nowhere_do_not_hide_the_others(logged: Script, node: ScriptedDaemon, nunet: Nunet) -> None:
    whole = node.answers[f"{NS}/logs"]
    missing = {"Error": "there are no logs of text.serve: not found"}
    node.answers[f"{NS}/logs"] = lambda p: missing if p["AllocationName"] == "text.serve" else whole(p)
    done = nunet("logs", "3f2a")
    assert (done.code, done.err) == (0, "text.serve: there are no logs of text.serve: not found\n")
    assert "text.count | three" in done.out
    assert nunet("logs", "3f2a", "text.serve").code == 4


def test_following_goes_on_until_the_deployment_has_ended(node: ScriptedDaemon, nunet: Nunet) -> None:
    script = Script(*RUNNING, ("Completed", [("shutdown_done", {"unreached": []})])).install(node)
    pieces = [b"a\n", b"b\n", b"c\n"]
    given: list[int] = []

    def piece(payload: Any) -> object:
        """One more with every step of the deployment, and never an end."""
        import base64

        known = len(script.events)
        offset = payload.get("offset", 0)
        if offset >= min(known, len(pieces)):
            return {"next_offset": offset}
        given.append(offset)
        return {"data": base64.b64encode(pieces[offset]).decode(), "next_offset": offset + 1}

    node.answers[f"{NS}/logs"] = piece
    assert nunet("logs", "3f2a", "text.count", "-f").out == "a\nb\nc\n"
    assert given == [0, 1, 2]


# events, shutdown, get ---------------------------------------------------------------------------------------------------


def test_events_are_told_or_given_as_json(node: ScriptedDaemon, nunet: Nunet) -> None:
    Script(RUNNING[0]).install(node)
    assert nunet("events", "3f2a").out == "   0.00s  submitted\n   1.00s  asked the network for bids\n"
    found = json.loads(nunet("events", "3f2a", "-o", "json").out)
    assert [event["kind"] for event in found] == ["submitted", "bids_requested"]


def test_events_are_followed_to_the_end_each_once(node: ScriptedDaemon, nunet: Nunet) -> None:
    Script(*COMPLETED).install(node)
    assert [line.split("s  ", 1)[1] for line in nunet("events", "3f2a", "-f").out.splitlines()] == [
        "submitted",
        "asked the network for bids",
        "…PeerPeer bid for text",
        "started text.count → Running",
        "text.count ended: completed",
    ]


def test_followed_events_as_json_are_one_a_line(node: ScriptedDaemon, nunet: Nunet) -> None:
    Script(*COMPLETED).install(node)
    lines = nunet("events", "3f2a", "-f", "-o", "json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5]


def test_shutdown_waits_until_everything_has_ended(node: ScriptedDaemon, nunet: Nunet) -> None:
    script = Script(*RUNNING, ("Completed", [("shutdown_done", {"unreached": []})])).install(node)
    done = nunet("shutdown", "3f2a")
    assert (done.code, done.out) == (0, "Completed\n")
    assert script.is_shut_down


def test_shutdown_need_not_wait(node: ScriptedDaemon, nunet: Nunet) -> None:
    script = Script(*COMPLETED).install(node)
    assert nunet("shutdown", "3f2a", "--no-wait").out == "Shutting down\n"
    assert script.is_shut_down
    assert script.status == "Preparing"


def test_shutting_down_what_has_ended_is_a_conflict(node: ScriptedDaemon, nunet: Nunet) -> None:
    Script(*COMPLETED).install(node)
    node.answers[f"{NS}/shutdown"] = lambda _payload: {"OK": False, "Error": "deployment is not running: it is Failed"}
    assert nunet("shutdown", "3f2a").code == 5


def listed(**changes: object) -> dict[str, object]:
    return {
        "orchestrator_id": ID,
        "status": "Completed",
        "created_at": "2024-01-01T00:00:00Z",
        "updated_at": "",
        "completed_at": "2024-01-01T00:00:03Z",
        "metadata": {"team": "blue"},
        **changes,
    }


def test_deployments_are_listed_with_their_short_id(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/list"] = lambda _payload: {
        "deployments": [listed()],
        "total": 3,
        "has_more": True,
        "next_offset": 1,
    }
    done = nunet("get", "deployments", "--filter", "team=blue", "--status", "Completed", "--limit", "1")
    head, row = done.out.splitlines()
    assert head.split() == ["ID", "STATUS", "UP", "AGE", "TOOK", "METADATA", "ERROR"]
    assert row.split()[:2] == ["3f2a00000000", "Completed"]
    assert row.split()[-4:] == ["3.0", "s", "team=blue", "-"]
    assert done.err == "1 to 1 of 3; more with --offset 1\n"
    (request,) = node.payloads_of(f"{NS}/list")
    assert (request["metadata"], request["status"], request["limit"]) == ({"team": "blue"}, ["Completed"], 1)


def test_deployments_as_json_are_the_nodes_answer(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[f"{NS}/list"] = lambda _payload: {"deployments": [listed()], "total": 1}
    document = json.loads(nunet("get", "deployments", "-o", "json").out)
    assert document["total"] == 1
    assert document["deployments"][0]["orchestrator_id"] == ID


def test_a_filter_without_a_value_is_bad_input(node: ScriptedDaemon, nunet: Nunet) -> None:
    assert nunet("get", "deployments", "--filter", "team").code == 2


def test_allocations_of_a_provider_are_listed(node: ScriptedDaemon, nunet: Nunet) -> None:
    hosted = {
        "id": f"{ID}_text.count",
        "type": "task",
        "resources": {"cpu": {"cores": 1.5}, "ram": {"size": 2**26}},
        "orchestrator": PEER,
        "status": "running",
        "executor": "wasm",
        "execution_id": "x",
        "using_ports": [8080, 8081],
        "created_at": "2024-01-01T00:00:00Z",
        "started_at": "",
    }
    node.answers["/dms/node/allocations/list"] = lambda _payload: {"allocations": [hosted]}
    row = nunet("get", "allocations").out.splitlines()[1].split()
    assert row[:8] == ["3f2a00000000_text.count", "task", "running", "wasm", "1.5", "64.0", "MiB", "8080,8081"]


def resources(cores: float, ram: int, disk: int) -> Callable[[Any], object]:
    found = {"cpu": {"cores": cores}, "ram": {"size": ram}, "disk": {"size": disk}, "gpus": []}
    return lambda _payload: {"OK": True, "Resources": found}


@pytest.fixture
def machine(node: ScriptedDaemon) -> ScriptedDaemon:
    node.answers |= {
        "/dms/node/hardware/spec": resources(4, 2**33, 2**40),
        "/dms/node/resources/onboarded": resources(2, 2**32, 2**35),
        "/dms/node/resources/allocated": lambda _payload: {"OK": False, "Resources": {}, "error": "not onboarded"},
        "/dms/node/resources/free": resources(0.5, 2**31, 2**34),
    }
    return node


def test_resources_are_shown_side_by_side(machine: ScriptedDaemon, nunet: Nunet) -> None:
    lines = [line.split() for line in nunet("get", "resources").out.splitlines()]
    assert lines[0] == ["RESOURCES", "CORES", "RAM", "DISK", "GPUS", "NOTE"]
    assert lines[1] == ["machine", "4", "8.0", "GiB", "1.0", "TiB", "0", "-"]
    assert lines[3] == ["allocated", "-", "-", "-", "-", "not", "onboarded"]
    assert set(json.loads(nunet("get", "resources", "-o", "json").out)) == {"machine", "onboarded", "allocated", "free"}
