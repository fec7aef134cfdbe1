"""nunet doctor and nunet status without a deployment: what they look at, print and end with."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from dms.node.health import WarningInfo
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

CHECKUP = "/dms/node/doctor/checkup"
WELL = {
    "ok": True,
    "findings": [{"level": "ok", "about": "disk", "text": "9.0 GiB free"}],
    "peers": [{"peer": "12D3KooWother", "rtt_ms": 1.25, "ahead_ms": -40.0}, {"peer": "12D3KooWsilent"}],
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DMS_GENERAL_WORK_DIR", str(tmp_path / "work"))
    return tmp_path


def test_the_doctor_asks_a_running_node_and_adds_what_it_sees_itself(
    home: Path, node: ScriptedDaemon, nunet: Nunet
) -> None:
    node.answers[CHECKUP] = lambda _payload: WELL
    done = nunet("doctor")
    assert done.code == 0, done.err + done.out
    assert done.out.startswith("Nothing stands in the way.\n")
    for about in ("node", "settings", "directories", "keys", "disk"):
        assert any(line.split()[:2] == ["ok", about] for line in done.out.splitlines()), done.out
    assert "ports" not in done.out, "the node has them"
    assert [line.split() for line in done.out.splitlines()[-3:]] == [
        ["PEER", "THERE", "AND", "BACK", "CLOCK"],
        ["…ooWother", "1.2", "ms", "-0.04", "s"],
        ["…oWsilent", "silent", "?"],
    ]


def test_a_problem_ends_with_one_and_says_what_mends_it(home: Path, node: ScriptedDaemon, nunet: Nunet) -> None:
    finding = {"level": "problem", "about": "clock", "text": "9.0 s behind", "hint": "set it"}
    node.answers[CHECKUP] = lambda _payload: {"ok": True, "findings": [finding]}
    done = nunet("doctor")
    assert done.code == 1
    assert done.out.startswith("9.0 s behind.\n\nproblem  clock       9.0 s behind\n")
    assert "→ set it" in done.out
    for option in (["--json"], ["--output", "json"]):
        document = json.loads(nunet("doctor", *option).out)
        assert document["summary"] == "9.0 s behind"
        assert document["findings"][0] == finding
        assert document["peers"] == []


def test_without_a_node_the_doctor_tells_whether_one_could_start(
    home: Path, nunet: Nunet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port = taken.getsockname()[1]
        monkeypatch.setenv("DMS_P2P_LISTEN_ADDRESS", f"/ip4/127.0.0.1/tcp/{port}")
        free = other.getsockname()[1]
        other.close()
        done = nunet("--rest-port", str(free), "doctor")
    assert done.code == 1
    assert f"no node answers at 127.0.0.1:{free}" in done.out
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.out
    assert "→ change p2p.listen_address" in done.out
    assert any(line.split()[:2] == ["note", "keys"] for line in done.out.splitlines())
    assert any(line.split()[1:2] == ["disk"] for line in done.out.splitlines())


def test_the_doctor_finds_secrets_that_others_can_read_old_keys_and_lost_variables(
    home: Path, node: ScriptedDaemon, nunet: Nunet, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.answers[CHECKUP] = lambda _payload: WELL
    config = home / "here/dms_config.json"
    config.write_text('{"apm": {"api_key": "s3cret"}, "log_level": "INFO"}')
    config.chmod(0o644)
    monkeypatch.setenv("DMS_REST_PROT", "s3cret")
    done = nunet("doctor")
    assert done.code == 1
    assert f"{config} holds secrets, and others can read it" in done.out
    assert f"→ chmod 600 {config}" in done.out
    assert "has keys of release 0.5: log_level" in done.out
    assert "the environment variable DMS_REST_PROT is no setting" in done.out
    assert "s3cret" not in done.out + done.err


def test_settings_that_cannot_be_used_are_told_first(home: Path, nunet: Nunet) -> None:
    config = home / "here/dms_config.json"
    config.write_text('{"rest": {"port": "x"}}')
    done = nunet("doctor")
    assert done.code == 2
    assert done.err.startswith(f"Error: rest.port in {config}:1: input should be a valid integer")


def test_whom_the_node_does_not_obey_is_told_so(
    home: Path, node: ScriptedDaemon, nunet: Nunet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMS_GENERAL_USER_DIR", str(node.stranger_dir))
    node.answers[CHECKUP] = lambda _payload: {"ok": False, "error": "not for you"}
    done = nunet("--user-dir", node.user_dir, "doctor")
    assert done.code == 1
    assert "not for you" in done.out


# status ----------------------------------------------------------------------------------------------------------------


def test_status_without_a_deployment_tells_how_the_node_is(home: Path, node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("status")
    assert done.code == 0, done.err
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert lines == {
        "Node": f"{node.peer_id} at 127.0.0.1:{node.port}",
        "DID": node.did.uri,
        "Peers": "1",
        "Health": "well",
    }
    assert json.loads(nunet("status", "-o", "json").out) == {"status": "ok", "peers": 1, "warnings": []}


def test_status_shows_warnings_with_what_mends_them(home: Path, node: ScriptedDaemon, nunet: Nunet) -> None:
    node.warnings.append(
        WarningInfo(
            code="no_peers", severity="warning", text="the node is\nalone", hint="call", since="2026-01-02T03:04:05Z"
        )
    )
    done = nunet("status")
    assert "Health     1 to look at\n\nwarning  the node is alone (for " in done.out
    assert done.out.endswith("         → call\n")
    assert json.loads(nunet("status", "-o", "json").out)["warnings"][0]["code"] == "no_peers"


def test_status_without_a_node_says_how_to_start_one(home: Path, nunet: Nunet) -> None:
    done = nunet("--rest-port", "1", "status")
    assert done.code == 6
    assert "Hint: start it with nunet run" in done.err


def test_the_doctor_looks_at_the_network_key(home: Path, nunet: Nunet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "swarm.key"
    monkeypatch.setenv("DMS_P2P_SWARM_KEY_FILE", str(path))
    assert f"cannot read the network key {path}" in nunet("doctor").out
    fingerprint = nunet("network", "key", "new").out.split()[0]
    assert fingerprint in nunet("doctor").out
    path.chmod(0o644)
    assert f"→ chmod 600 {path}" in nunet("doctor").out
