import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.storage.content import read_content
from dms.storage.errors import CannotUnseal, InvalidStorageSpec, StorageError
from dms.storage.sealing import PIECE_BYTES, SealingKey, seal, unseal


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    root = tmp_path / "volume"
    (root / "sub/empty").mkdir(parents=True)
    (root / "sub/large").write_bytes(os.urandom(3 * PIECE_BYTES + 17))
    (root / "program").write_bytes(b"#!/bin/sh\n")
    (root / "program").chmod(0o755)
    (root / "absolute").symlink_to("/usr/bin/python3")
    (root / "line\nbreak").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(root) + b"/no-utf8-\xff")).write_bytes(b"1")
    return root


def sealed(volume: Path, key: SealingKey) -> Path:
    target = volume.parent / "sealed"
    seal(volume, target, key)
    return target


def restored(source: Path, key: SealingKey) -> Path:
    target = source.parent / "restored"
    target.mkdir()
    unseal(source, target, key)
    return target


def test_a_volume_comes_back_as_it_was(volume: Path) -> None:
    key = SealingKey.generate()
    source = sealed(volume, key)
    assert source.stat().st_mode & 0o777 == 0o600
    back = restored(source, key)
    assert read_content(back) == read_content(volume)
    assert (back / "program").stat().st_mode & 0o100
    assert (back / "absolute").is_symlink()
    assert (back / "sub/empty").is_dir()


def test_neither_content_nor_names_can_be_read_in_it(volume: Path) -> None:
    (volume / "telling-name").write_bytes(b"telling content" * 1000)
    data = sealed(volume, SealingKey.generate()).read_bytes()
    assert b"telling" not in data
    assert b"program" not in data


def test_the_wrong_key_opens_nothing(volume: Path) -> None:
    source = sealed(volume, SealingKey.generate())
    with pytest.raises(CannotUnseal):
        restored(source, SealingKey.generate())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_changed_byte_is_noticed(volume: Path, data: st.DataObject) -> None:
    key = SealingKey(b"k" * 32)
    source = volume.parent / "sealed"
    if not source.exists():
        seal(volume, source, key)
    damaged = bytearray(source.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    assert_noticed(volume, bytes(damaged), key)


def test_pieces_that_are_cut_off_left_out_swapped_or_added_are_noticed(volume: Path) -> None:
    key = SealingKey.generate()
    whole = sealed(volume, key).read_bytes()
    head, step = 32, PIECE_BYTES + 17
    first, second = whole[head : head + step], whole[head + step : head + 2 * step]
    rest = whole[head + 2 * step :]
    last = len(whole) - (len(whole) - head) % step
    for damaged in (
        b"",
        whole[:20],
        whole[:head],
        whole[: head + step],
        whole[:last],
        whole[:-1],
        whole + b"x",
        whole + whole,
        whole[:head] + second + first + rest,
        whole[:head] + second + rest,
        whole[:head] + first + first + second + rest,
    ):
        assert_noticed(volume, damaged, key)


def assert_noticed(volume: Path, damaged: bytes, key: SealingKey) -> None:
    from dms.storage.tree import remove_tree

    source = volume.parent / "damaged"
    source.write_bytes(damaged)
    remove_tree(volume.parent / "restored")
    with pytest.raises(CannotUnseal):
        restored(source, key)


def test_what_cannot_be_sealed_leaves_no_file(volume: Path) -> None:
    os.mkfifo(volume / "pipe")
    with pytest.raises(StorageError):
        sealed(volume, SealingKey.generate())
    assert not (volume.parent / "sealed").exists()


def test_large_files_need_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "v").mkdir()
    with (tmp_path / "v/sparse").open("wb") as file:
        file.truncate(16 << 20)
    key = SealingKey.generate()
    tracemalloc.start()
    try:
        restored(sealed(tmp_path / "v", key), key)
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


def test_key_files_are_private_and_never_replaced(tmp_path: Path) -> None:
    key, path = SealingKey.generate(), tmp_path / "volume.key"
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SealingKey.load(path).secret == key.secret
    with pytest.raises(InvalidStorageSpec, match="already"):
        SealingKey.generate().save(path)
    assert key.secret.hex() not in repr(key)
    assert str(key.secret) not in repr(key)
    path.chmod(0o644)
    with pytest.raises(InvalidStorageSpec, match="others may read"):
        SealingKey.load(path)


@pytest.mark.parametrize("text", ["", "x", "nunet-volume-key-1:", "nunet-volume-key-1:AAAA", "nunet-volume-key-1:!"])
def test_what_is_no_key_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidStorageSpec):
        SealingKey.load(path)
    with pytest.raises(InvalidStorageSpec):
        SealingKey.load(tmp_path / "absent")
