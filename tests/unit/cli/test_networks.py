"""Profiles of networks: which node answers, and who the person is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dms.cli.errors import NetworkNotFound
from dms.cli.networks import load_profile, profile_path
from dms.devnet.profile import BadProfile
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.types.errors import BadInput

SELF = "/dms/node/peers/self"


@pytest.fixture
def profile(node: ScriptedDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two nodes, of which only the second answers; nothing else addresses it."""
    for name in ("DMS_PASSPHRASE", "DMS_REST_PORT", "DMS_GENERAL_USER_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(node.passphrase + "\n")
    down = {"name": "node1", "rest_addr": "127.0.0.1", "rest_port": 1, "peer_id": "12D3KooWdown"}
    up = {"name": "node2", "rest_addr": "127.0.0.1", "rest_port": node.port, "peer_id": node.peer_id, "pid": 7}
    document = {
        "name": "devnet",
        "dir": str(tmp_path),
        "default_node": "node2",
        "user_context": "user",
        "nodes": [down, up],
        "user_dir": str(node.user_dir),
        "passphrase_file": str(passphrase),
        "something_of_a_later_version": 1,
    }
    path = tmp_path / "state/nunet/devnet/network.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))
    node.answers[SELF] = lambda _payload: {"id": node.peer_id, "listen_addr": ""}
    return path


@pytest.mark.parametrize("words", [[], ["--node", "node2"], ["--node", "2"]])
def test_a_network_addresses_a_node_and_opens_the_keys_of_its_person(
    profile: Path, node: ScriptedDaemon, nunet: Nunet, words: list[str]
) -> None:
    done = nunet("--network", "devnet", *words, "actor", "cmd", SELF)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["id"] == node.peer_id


def test_the_environment_names_the_network_and_the_node(
    profile: Path, node: ScriptedDaemon, nunet: Nunet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMS_NETWORK", "devnet")
    assert nunet("actor", "cmd", SELF).code == 0
    monkeypatch.setenv("DMS_NODE", "node1")
    assert nunet("actor", "cmd", SELF).code == 6


def test_a_profile_may_lie_elsewhere(profile: Path, nunet: Nunet, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = profile.rename(profile.parents[3] / "elsewhere.json")
    monkeypatch.setenv("DMS_NETWORK_FILE", str(elsewhere))
    assert nunet("actor", "cmd", SELF).code == 0


def test_flags_win_over_the_profile(profile: Path, node: ScriptedDaemon, nunet: Nunet) -> None:
    words = ["--network", "devnet", "--node", "node1", "--rest-port", node.port]
    assert nunet(*words, "actor", "cmd", SELF).code == 0
    done = nunet(*words, "--user-dir", "/nonexistent", "actor", "cmd", SELF)
    assert (done.code, "/nonexistent/cap/user.cap" in done.err) == (4, True)


def test_keys_and_contexts_are_those_of_the_network(profile: Path, node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("--network", "devnet", "key", "did", "user")
    assert done.code == 0
    assert done.out.startswith("did:key:")
    assert nunet("--network", "devnet", "cap", "list", "-c", "user").code == 0


def test_the_configuration_is_that_of_the_node(profile: Path, nunet: Nunet) -> None:
    document = json.loads(profile.read_text())
    config = profile.with_name("dms_config.json")
    config.write_text('{"rest": {"port": 4321}}')
    document["nodes"][0]["config"] = str(config)
    profile.write_text(json.dumps(document))
    done = nunet("--network", "devnet", "--node", "1", "config", "get", "rest.port")
    assert done.out == f"Found config file at: {config}\n4321\n"


def test_a_node_that_does_not_run_gives_the_hint_to_start_the_network(profile: Path, nunet: Nunet) -> None:
    done = nunet("--network", "devnet", "--node", "1", "actor", "cmd", SELF)
    assert done.err.splitlines() == [
        "Error: no node answers at 127.0.0.1:1: Connection refused",
        "Hint: start the network with nunet devnet up",
    ]


def test_a_node_that_the_network_does_not_have_is_bad_input(profile: Path, nunet: Nunet) -> None:
    done = nunet("--network", "devnet", "--node", "9", "peers")
    assert done.code == 2
    assert done.err.splitlines() == ["Error: the network devnet has no node 9", "Hint: its nodes are node1, node2"]


def test_a_node_without_a_network_is_bad_input(nunet: Nunet) -> None:
    done = nunet("--node", "node1", "peers")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --node needs a network")


def test_peers_have_the_names_of_the_network(profile: Path, node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers["/dms/node/peers/list"] = lambda _payload: {"Peers": ["12D3KooWdown", "12D3KooWother"]}
    lines = nunet("--network", "devnet", "peers").out.splitlines()
    assert lines[0].split() == ["PEER", "NAME", "DIRECTION", "OVER", "RTT", "SCORE", "AGE", "ADDRESS"]
    assert [line.split()[:2] for line in lines[1:]] == [["12D3KooWdown", "node1"], ["12D3KooWother", "-"]]


def test_without_a_profile_the_hint_tells_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NetworkNotFound) as failed:
        load_profile("devnet", {"DMS_NETWORK_FILE": str(tmp_path / "none.json")})
    assert failed.value.hint == "start one with nunet devnet up"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": 1}', '{"nodes": [{"rest_port": "x"}]}', "\x00"])
def test_a_damaged_profile_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "network.json"
    path.write_text(content)
    with pytest.raises(BadProfile, match=r"network\.json"):
        load_profile("devnet", {"DMS_NETWORK_FILE": str(path)})


def test_a_passphrase_that_cannot_be_read_is_told(profile: Path, nunet: Nunet, tmp_path: Path) -> None:
    (tmp_path / "passphrase").unlink()
    done = nunet("--network", "devnet", "actor", "cmd", SELF)
    assert done.code == 2
    assert done.err.startswith("Error: cannot read the passphrase of the network devnet")


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "a\0b"])
def test_a_name_cannot_lead_out_of_the_directory(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be the name of a network"):
        profile_path(name, {})
