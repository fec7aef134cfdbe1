"""The replay window over restarts, on a real disk."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import trio

from dms.actor.errors import Replayed
from dms.actor.replay_file import MAGIC, ReplayFile, open_window
from dms.identity.ids import DID, ActorID

S = 10**9
START = 1_700_000_000 * S
SENDER, OWNER = ActorID(pub="A" * 64), DID(uri="did:key:zOwner")


def opened(path: Path, now_ns: int = START) -> ReplayFile:
    return open_window(path, clock_ns=lambda: now_ns, elapsed_ns=0)


def admit(file: ReplayFile, nonce: int, *, now_ns: int = START, life_s: int = 30) -> None:
    name = file.window.check(SENDER, nonce)
    file.window.admit(name, OWNER, now_ns + life_s * S, now_ns=now_ns, elapsed_ns=now_ns - START)


def test_a_restart_does_not_open_the_window_again(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    before = opened(path)
    admit(before, 1)  # and then the process is killed: nothing is closed
    after = opened(path, START + S)
    with pytest.raises(Replayed):
        after.window.check(SENDER, 1)
    admit(after, 2)
    assert path.stat().st_mode & 0o777 == 0o600
    before.close()
    after.close()


def test_what_expired_while_it_was_down_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    file = opened(path)
    for nonce in range(100):
        admit(file, nonce)
    file.close()
    after = opened(path, START + 3600 * S)
    assert len(after.window) == 0
    assert path.stat().st_size < 100
    after.close()


def test_a_record_that_was_cut_off_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    file = opened(path)
    admit(file, 1)
    admit(file, 2)
    file.close()
    path.write_bytes(path.read_bytes()[:-5])
    after = opened(path)
    with pytest.raises(Replayed):
        after.window.check(SENDER, 1)
    admit(after, 2)
    after.close()


@pytest.mark.parametrize("content", [b"", b"x", b"something else entirely, longer than a header", MAGIC])
def test_a_file_that_is_none_of_ours_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seen"
    path.write_bytes(content)
    file = opened(path)
    admit(file, 1)
    file.close()
    again = opened(path)
    assert len(again.window) == 1
    again.close()


async def test_written_anew_it_holds_what_is_remembered_and_what_comes_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    file = opened(path)
    for nonce in range(50):
        admit(file, nonce, life_s=1)
    admit(file, 100, now_ns=START + 60 * S)
    size = path.stat().st_size
    await file.compact()
    assert path.stat().st_size < size
    admit(file, 101, now_ns=START + 60 * S)
    await file.sync()
    await file.sync()
    file.close()
    after = opened(path, START + 60 * S)
    for nonce in (100, 101):
        with pytest.raises(Replayed):
            after.window.check(SENDER, nonce)
    assert list(await trio.Path(tmp_path).iterdir()) == [trio.Path(path)]
    after.close()


async def test_a_disk_that_fails_does_not_stop_the_node(tmp_path: Path) -> None:
    file = opened(tmp_path / "seen")
    file.close()
    admit(file, 1)
    await file.sync()
    with pytest.raises(Replayed):
        file.window.check(SENDER, 1)


def test_a_record_that_did_not_fit_on_the_disk_does_not_spoil_those_after_it(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    file = opened(path)
    admit(file, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 7, hard))
    try:
        admit(file, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    admit(file, 3)
    file.close()
    after = opened(path)
    for nonce in (1, 3):
        with pytest.raises(Replayed):
            after.window.check(SENDER, nonce)
    assert len(after.window) == 2
    after.close()
