from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

Json = dict[str, Any]
OWNER = "/dms/node/volume"
CID = "bafybeiht6dtwk3les7vqm6ibpvz6qpohidvlshsfyr7l5mpysdw2vmbbhe"


def volume(id_: str = "local-aaaabbbbccccdddd", **more: object) -> Json:
    found: Json = {
        "id": id_,
        "name": "data",
        "tenant": "did:key:alice",
        "source": "local",
        "cid": "",
        "locked": False,
        "private": False,
        "encrypted": False,
        "size_bytes": None,
        "files": None,
        "created_at": "2026-01-02T03:04:05.000Z",
        "updated_at": "2026-01-02T03:04:05.000Z",
        "used_by": [],
    }
    found |= more
    return {**found, "users": len(found["used_by"])}


def answer(node: ScriptedDaemon, name: str, **reply: object) -> None:
    node.answers[f"{OWNER}/{name}"] = lambda _payload: {"OK": True, **reply}


def test_volumes_are_listed_with_their_state_and_users(node: ScriptedDaemon, nunet: Nunet) -> None:
    use = {"owner": "e" * 64 + "_n1.web", "writing": True, "target": "/data"}
    found = [
        volume(used_by=[use]),
        volume("s3-bbbb", name="", source="s3", locked=True, cid=CID, size_bytes=2048, files=1),
        volume(
            "job-cccc",
            name="",
            source="job",
            encrypted=True,
            size_bytes=0,
            files=0,
            used_by=[use, use | {"owner": "x"}],
        ),
    ]
    answer(node, "list", volumes=found)
    lines = nunet("volume", "list").out.splitlines()
    assert lines[0].split() == ["ID", "NAME", "SOURCE", "STATE", "SIZE", "USED", "BY", "AGE"]
    assert lines[1].split()[:5] == ["local-aaaabbbbccccdddd", "data", "local", "open", "-"]
    assert "eeeeeeeeeeee…" in lines[1]
    assert "_n1.web" in lines[1]
    assert lines[2].split()[:6] == ["s3-bbbb", "-", "s3", "locked", "2.0", "KiB"]
    assert lines[3].split()[3] == "encrypted"
    assert "2 users" in lines[3]
    assert json.loads(nunet("volume", "list", "--output", "json").out) == {"volumes": found}


def test_more_than_one_reply_holds_are_asked_for_in_turn(node: ScriptedDaemon, nunet: Nunet) -> None:
    ids = [f"job-{number:016}" for number in range(5)]

    def some(payload: Json) -> Json:
        offset = (payload or {}).get("offset", 0)
        return {"OK": True, "volumes": [volume(id_) for id_ in ids[offset : offset + 2]], "has_more": offset + 2 < 5}

    node.answers[f"{OWNER}/list"] = some
    assert [line.split()[0] for line in nunet("volume", "list").out.splitlines()[1:]] == ids
    assert len(node.payloads_of(f"{OWNER}/list")) == 3


def test_one_is_made_and_shown(node: ScriptedDaemon, nunet: Nunet) -> None:
    answer(node, "create", volume=volume())
    answer(node, "inspect", volume=volume(used_by=[{"owner": "job", "writing": False, "target": "/in"}]))
    assert nunet("volume", "create", "data").out == 'created local-aaaabbbbccccdddd "data"\n'
    assert node.payloads_of(f"{OWNER}/create") == [{"name": "data"}]
    lines = dict(line.split(None, 1) for line in nunet("volume", "inspect", "data").out.splitlines() if " " in line)
    assert (lines["id"], lines["locked"], lines["used_by"]) == (
        "local-aaaabbbbccccdddd",
        "False",
        "owner=job, target=/in, writing=False",
    )
    assert json.loads(nunet("volume", "inspect", "data", "--output", "json").out)["name"] == "data"


def test_what_it_holds_is_counted(node: ScriptedDaemon, nunet: Nunet) -> None:
    answer(node, "size", volume=volume(size_bytes=3 << 20, files=1))
    assert nunet("volume", "size", "data").out == "3.0 MiB in 1 file\n"
    assert nunet("volume", "size", "data", "--bytes").out == f"{3 << 20}\n"
    shown = json.loads(nunet("volume", "size", "data", "--output", "json").out)
    assert shown == {"id": "local-aaaabbbbccccdddd", "size_bytes": 3 << 20, "files": 1}


def test_locking_and_unlocking_are_told(node: ScriptedDaemon, nunet: Nunet) -> None:
    answer(node, "lock", volume=volume(cid=CID, locked=True, size_bytes=5))
    answer(node, "unlock", volume=volume())
    assert nunet("volume", "lock", "data", "--cid", CID).out.startswith(f'locked local-aaaabbbbccccdddd "data" {CID}')
    assert node.payloads_of(f"{OWNER}/lock") == [{"volume": "data", "cid": CID}]
    assert nunet("volume", "unlock", "data").out.startswith("unlocked ")


def test_the_key_goes_from_its_file_to_the_node_and_is_shown_nowhere(
    node: ScriptedDaemon, nunet: Nunet, tmp_path: Path
) -> None:
    file = tmp_path / "data.key"
    answer(node, "encrypt", volume=volume(encrypted=True))
    answer(node, "decrypt", volume=volume())
    missing = nunet("volume", "encrypt", "data", "--key-file", file)
    assert (missing.code, "cannot read the key file" in missing.err) == (2, True)
    done = nunet("volume", "encrypt", "data", "--key-file", file, "--new-key")
    assert done.out.startswith("encrypted local-")
    secret = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert node.payloads_of(f"{OWNER}/encrypt") == [{"volume": "data", "key": secret}]
    assert secret not in done.out + done.err
    assert nunet("volume", "decrypt", "data", "--key-file", file).out.startswith("decrypted ")
    assert node.payloads_of(f"{OWNER}/decrypt") == [{"volume": "data", "key": secret}]
    again = nunet("volume", "encrypt", "data", "--key-file", file, "--new-key")
    assert (again.code, file.read_text().strip()) == (2, secret)
    file.chmod(0o644)
    open_ = nunet("volume", "decrypt", "data", "--key-file", file)
    assert (open_.code, "others may read" in open_.err, "chmod 600" in open_.err) == (2, True, True)


def test_deleting_asks_first(node: ScriptedDaemon, nunet: Nunet, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(node, "inspect", volume=volume(size_bytes=5))
    answer(node, "delete")
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    kept = nunet("volume", "delete", "data")
    assert (kept.code, node.payloads_of(f"{OWNER}/delete")) == (1, [])
    assert 'local-aaaabbbbccccdddd "data"' in kept.err
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert nunet("volume", "delete", "data").out == "deleted local-aaaabbbbccccdddd\n"
    assert nunet("volume", "delete", "--yes", "data", "local-aaaa").out == "deleted local-aaaabbbbccccdddd\n"
    assert node.payloads_of(f"{OWNER}/delete") == [{"volume": "local-aaaabbbbccccdddd"}] * 2


def test_pruning_shows_asks_and_removes_what_was_shown(
    node: ScriptedDaemon, nunet: Nunet, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(node, "prune", volumes=[volume("http-aaaa", name="", size_bytes=1 << 20, files=2)])
    dry = nunet("volume", "prune", "--dry-run", "--older-than", "1h")
    assert dry.out == "would delete http-aaaa (1.0 MiB)\n1.0 MiB would be free\n"
    assert node.payloads_of(f"{OWNER}/prune") == [{"older_than_s": 3600.0, "dry_run": True}]
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert nunet("volume", "prune").code == 1
    done = nunet("volume", "prune", "--named", "--yes", "--output", "json")
    assert json.loads(done.out)["deleted"] is True
    assert json.loads(done.out)["bytes"] == 1 << 20
    assert node.payloads_of(f"{OWNER}/prune")[-1] == {"named": True, "ids": ["http-aaaa"]}
    answer(node, "prune", volumes=[])
    assert nunet("volume", "prune").out == "nothing to prune\n"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("volume_not_found", 4),
        ("volume_in_use", 5),
        ("volume_locked", 5),
        ("invalid_volume_name", 2),
        ("cannot_unseal", 1),
        ("of-a-later-version", 1),
    ],
)
def test_what_the_node_refuses_has_the_exit_code_of_its_kind(
    node: ScriptedDaemon, nunet: Nunet, code: str, exit_code: int
) -> None:
    reply = {"OK": False, "error": "it is so", "hint": "do that", "code": code}
    for name in ("lock", "prune"):
        node.answers[f"{OWNER}/{name}"] = lambda _payload: reply
    for command in (("lock", "data"), ("prune", "--yes")):
        done = nunet("volume", *command)
        assert done.code == exit_code
        assert done.err.splitlines()[0] == "Error: it is so"
        assert "do that" in done.err
