"""nunet run, as far as it comes when its address is taken: what it does before anything else."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from dms.identity.keys import generate_key
from dms.identity.keystore import Keystore
from dms.testing.commandline import Nunet


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DMS_PASSPHRASE", "s3cret")
    Keystore(tmp_path / ".nunet/key", scrypt_n=2).save("dms", generate_key(), "s3cret")
    return tmp_path


def write(home: Path, document: dict[str, object]) -> Path:
    config = home / "here/dms_config.json"
    config.write_text(json.dumps({"general": {"work_dir": str(home / "work")}, **document}))
    return config


def start(nunet: Nunet) -> str:
    """What it says; the address of its REST server is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = nunet("--rest-port", taken.getsockname()[1], "run")
    assert done.code == 5, done.err
    assert "for the REST server: Address already in use" in done.err
    return done.err


def test_the_passphrase_leaves_the_environment_and_is_in_no_log(home: Path, nunet: Nunet) -> None:
    write(home, {})
    assert "s3cret" not in start(nunet)
    assert "DMS_PASSPHRASE" not in os.environ
    for file in (home / "work").rglob("*"):
        assert not file.is_file() or b"s3cret" not in file.read_bytes()


def test_flat_keys_are_moved_before_the_start_and_the_old_file_is_kept(home: Path, nunet: Nunet) -> None:
    config = write(home, {"log_level": "WARN"})
    old = config.read_text()
    assert f"old keys in {config} are where they belong now" in start(nunet)
    assert json.loads(config.read_text())["observability"] == {"logging": {"level": "WARN"}}
    (kept,) = config.parent.glob("dms_config.json.bk.*")
    assert kept.read_text() == old
