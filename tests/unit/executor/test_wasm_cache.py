"""The cache of compiled programs: nothing is loaded that anybody else could have put there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dms.executor.wasm_cache import MAGIC, load, open_key, prune, store

CODE = b"compiled " * 100


@pytest.fixture
def cache(tmp_path: Path) -> str:
    path = tmp_path / "modules"
    path.mkdir(mode=0o700)
    return str(path)


def entry(cache: str, name: str = "a") -> Path:
    return Path(cache) / f"{name}.cwasm"


def test_what_was_stored_is_loaded_and_is_private(cache: str) -> None:
    assert load(cache, "a") is None
    store(cache, "a", CODE)
    assert load(cache, "a") == CODE
    assert {path.stat().st_mode & 0o777 for path in Path(cache).iterdir()} == {0o600}
    assert sorted(path.name for path in Path(cache).iterdir()) == ["a.cwasm", "key"]


def flip(cache: str) -> None:
    data = bytearray(entry(cache).read_bytes())
    data[-1] ^= 1
    entry(cache).write_bytes(data)


def swap(cache: str) -> None:
    store(cache, "b", b"other code")
    entry(cache, "b").replace(entry(cache))


def link(cache: str) -> None:
    elsewhere = Path(cache).parent / "elsewhere"
    entry(cache).rename(elsewhere)
    entry(cache).symlink_to(elsewhere)


def hard_link(cache: str) -> None:
    os.link(entry(cache), Path(cache).parent / "elsewhere")


def pipe(cache: str) -> None:
    entry(cache).unlink()
    os.mkfifo(entry(cache), 0o600)


def other_key(cache: str) -> None:
    (Path(cache) / "key").unlink()
    open_key(cache)


TAMPERINGS: dict[str, Callable[[str], object]] = {
    "a bit flipped": flip,
    "another entry under its name": swap,
    "cut": lambda cache: os.truncate(entry(cache), 60),
    "empty": lambda cache: os.truncate(entry(cache), 0),
    "no head": lambda cache: entry(cache).write_bytes(CODE),
    "another head": lambda cache: entry(cache).write_bytes(MAGIC + bytes(32) + CODE),
    "readable by others": lambda cache: entry(cache).chmod(0o644),
    "writable by the group": lambda cache: entry(cache).chmod(0o620),
    "a symbolic link": link,
    "a second name": hard_link,
    "a pipe": pipe,
    "a directory that others may enter": lambda cache: Path(cache).chmod(0o755),
    "a key that others may read": lambda cache: (Path(cache) / "key").chmod(0o640),
    "another key": other_key,
    "no key": lambda cache: (Path(cache) / "key").unlink(),
    "a short key": lambda cache: (Path(cache) / "key").write_bytes(b"short"),
}


@pytest.mark.parametrize("tamper", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_what_others_could_have_written_is_as_if_it_were_not_there(cache: str, tamper: Callable[[str], object]) -> None:
    store(cache, "a", CODE)
    tamper(cache)
    assert load(cache, "a") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away; run as root to enable")
def test_a_file_of_somebody_else_is_not_loaded(cache: str) -> None:
    store(cache, "a", CODE)
    os.chown(entry(cache), 65534, 65534)
    assert load(cache, "a") is None


def test_a_damaged_entry_and_an_exposed_key_are_replaced(cache: str) -> None:
    store(cache, "a", CODE)
    key = open_key(cache)
    (Path(cache) / "key").chmod(0o644)
    store(cache, "a", CODE)
    assert open_key(cache) != key
    assert load(cache, "a") == CODE


def test_those_unused_for_longest_make_room(cache: str) -> None:
    for number, name in enumerate(("old", "used", "new")):
        store(cache, name, CODE)
        os.utime(entry(cache, name), (number, number))
    assert load(cache, "old") == CODE  # which is a use
    store(cache, "next", CODE, limit_bytes=3 * (len(CODE) + 100))
    assert load(cache, "used") is None
    assert [load(cache, name) for name in ("old", "new", "next")] == [CODE] * 3


def test_what_an_interrupted_write_left_goes_too(cache: str) -> None:
    left = Path(cache) / "a.cwasm.1.tmp"
    left.write_bytes(CODE)
    prune(cache, 10)
    assert not left.exists()


def test_what_is_too_large_is_not_kept(cache: str) -> None:
    store(cache, "a", CODE, limit_bytes=len(CODE))
    assert load(cache, "a") is None


def test_what_cannot_be_written_costs_the_cache_and_nothing_else(cache: str) -> None:
    entry(cache).mkdir()
    store(cache, "a", CODE)
    store(f"{cache}/nowhere", "a", CODE)
    assert load(cache, "a") is None
    assert load(f"{cache}/nowhere", "a") is None
