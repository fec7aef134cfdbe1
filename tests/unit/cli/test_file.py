"""``nunet file``, against a daemon that a test plays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

Json = dict[str, Any]
TENANT = "/dms/volume"
PEER = "12D3KooWHzew9HTYzywFuvTHGK5Yzoz7qAhMfxagtCvhvjheoBQ3"


def transfer(**more: object) -> Json:
    found: Json = {
        "id": "aabb",
        "direction": "out",
        "peer": PEER,
        "volume": "results",
        "path": "model.bin",
        "size": 2048,
        "done": 2048,
        "state": "done",
        "error": "",
    }
    return found | more


def play(node: ScriptedDaemon, *told: Json) -> dict[str, Json]:
    """A node that has the file, gives tickets, and tells of its transfers one after the other."""
    asked: dict[str, Json] = {}
    left = list(told)

    def answer(name: str, reply: Json) -> None:
        def respond(payload: Json) -> Json:
            asked[name] = payload
            return {"OK": True} | reply

        node.answers[f"{TENANT}/{name}"] = respond

    answer("file", {"size": 2048, "version": "v1"})
    answer("receive", {"ticket": "secret", "received": 0})
    answer("send", {"id": "aabb", "size": 2048})
    node.answers[f"{TENANT}/transfers"] = lambda _payload: {
        "OK": True,
        "transfers": [left.pop(0) if len(left) > 1 else left[0]],
    }
    return asked


def test_a_file_is_sent_to_another_node_and_waited_for(node: ScriptedDaemon, nunet: Nunet) -> None:
    asked = play(node, transfer(state="running", done=1024), transfer())

    result = nunet("file", "send", "results/dir/model.bin", "--to", node.other_did.uri, "--as", "copies/first.bin")

    assert result.out == "copies/first.bin is there: 2.0 KiB\n"
    assert asked["file"] == {"name": "results", "path": "dir/model.bin"}
    assert {k: asked["receive"][k] for k in ("name", "path", "size", "version")} == {
        "name": "copies",
        "path": "first.bin",
        "size": 2048,
        "version": "v1",
    }
    assert asked["send"]["ticket"] == "secret"


def test_a_file_is_fetched_in_the_background(node: ScriptedDaemon, nunet: Nunet) -> None:
    play(node, transfer())
    result = nunet("file", "get", "results/model.bin", "--from", node.other_did.uri, "--no-wait", "-o", "json")
    assert json.loads(result.out) == {"id": "aabb", "size": 2048, "received": 0}


def test_one_that_failed_says_why_and_how_to_go_on(node: ScriptedDaemon, nunet: Nunet) -> None:
    play(node, transfer(state="failed", done=1024, error="nothing came for 60 s"))
    result = nunet("file", "send", "results/model.bin", "--to", node.other_did.uri)
    assert result.code == 1
    assert "nothing came for 60 s" in result.err
    assert "goes on where it was" in result.err


def test_transfers_are_listed(node: ScriptedDaemon, nunet: Nunet) -> None:
    play(node, transfer(done=512, state="running"))
    lines = nunet("file", "list").out.splitlines()
    assert lines[0].split() == ["ID", "DIRECTION", "FILE", "SIZE", "DONE", "STATE", "PEER"]
    assert lines[1].split() == ["aabb", "out", "results/model.bin", "2.0", "KiB", "25", "%", "running", PEER]
    assert json.loads(nunet("file", "list", "-o", "json").out) == {"transfers": [transfer(done=512, state="running")]}


@pytest.mark.parametrize("file", ["results", "/model.bin", "results/", ""])
def test_what_names_no_file_is_bad_input(node: ScriptedDaemon, nunet: Nunet, file: str) -> None:
    result = nunet("file", "send", file, "--to", node.other_did.uri)
    assert result.code == 2
    assert "VOLUME/PATH" in result.err


def test_a_refusal_is_told(node: ScriptedDaemon, nunet: Nunet) -> None:
    play(node, transfer())
    node.answers[f"{TENANT}/receive"] = lambda _payload: {"OK": False, "error": "no room for 9 more bytes"}
    assert "no room for 9 more bytes" in nunet("file", "send", "results/model.bin", "--to", node.other_did.uri).err
