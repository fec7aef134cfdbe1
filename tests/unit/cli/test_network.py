"""nunet network: keys of private networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dms.network.swarm_key_file import read_swarm_key
from dms.testing.commandline import Nunet


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMS_GENERAL_USER_DIR", str(tmp_path / "user"))
    return tmp_path


def test_a_new_key_lies_where_the_node_looks_and_is_never_shown(nunet: Nunet, home: Path) -> None:
    made = nunet("network", "key", "new")
    path = home / "user" / "swarm.key"
    key = read_swarm_key(path)
    assert (made.code, made.out, made.err) == (0, f"{key.fingerprint}  {path}\n", "")
    assert nunet("network", "key", "show").out == made.out
    assert key.secret.hex() not in made.out


def test_the_setting_says_where_else(nunet: Nunet, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_P2P_SWARM_KEY_FILE", str(home / "consortium.key"))
    assert nunet("network", "key", "new").out.endswith(f"  {home}/consortium.key\n")
    told = json.loads(nunet("network", "key", "show", "consortium.key", "--output", "json").out)
    fingerprint = read_swarm_key(home / "consortium.key").fingerprint
    assert told == {"fingerprint": fingerprint, "file": f"{home}/consortium.key"}


def test_a_key_that_is_there_is_kept(nunet: Nunet, home: Path) -> None:
    nunet("network", "key", "new", "a.key")
    before = (home / "a.key").read_bytes()
    again = nunet("network", "key", "new", "a.key")
    assert again.code == 5
    assert f"there is a file {home}/a.key already" in again.err
    assert (home / "a.key").read_bytes() == before


def test_no_directory_is_made_but_the_own_one(nunet: Nunet, home: Path) -> None:
    done = nunet("network", "key", "new", "missing/a.key")
    assert (done.code, done.err.splitlines()) == (
        4,
        [f"Error: there is no directory {home}/missing", f"Hint: mkdir -p -m 700 {home}/missing"],
    )
    assert not (home / "missing").exists()


def test_a_file_without_a_key_ends_with_two(nunet: Nunet, home: Path) -> None:
    missing = nunet("network", "key", "show")
    assert missing.code == 2
    assert "nunet network key new" in missing.err
    (home / "a.key").write_text("not a key")
    (home / "a.key").chmod(0o600)
    assert "the first line must be /key/swarm/psk/1.0.0/" in nunet("network", "key", "show", "a.key").err
