import os
from pathlib import Path

import pytest

from dms.storage.cid import CID
from dms.storage.content import read_content
from dms.storage.errors import StorageError


def test_a_directory_gets_the_id_that_kubo_publishes_for_it(tmp_path: Path) -> None:
    """The directory of Kubo's own test of subdomain gateways."""
    for name, text in {
        "hello": "hello\n",
        "ipfs/ipns/bar": "text-file-content\n",
        "api/file.txt": "I am a txt file\n",
        "ipfs/file.txt": "I am a txt file\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    blocks: dict[CID, bytes] = {}
    content = read_content(tmp_path, emit=blocks.__setitem__)
    assert str(content.cid) == DIRECTORY_OF_KUBO
    assert (content.size_bytes, content.files) == (56, 4)
    assert all(cid.matches(block) for cid, block in blocks.items())


def test_the_id_depends_on_content_and_names_and_on_nothing_else(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub/file").write_bytes(b"x" * 300_000)
        (tmp_path / name / ".hidden").write_bytes(b"")
        (tmp_path / name / "link").symlink_to("/anywhere")
    (tmp_path / "two/sub/file").chmod(0o600)
    first = read_content(tmp_path / "one").cid
    assert read_content(tmp_path / "two").cid == first
    (tmp_path / "two/.hidden").rename(tmp_path / "two/.seen")
    assert read_content(tmp_path / "two").cid != first


def test_names_that_are_no_utf8_and_links_count_as_they_are(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n")).write_bytes(b"x")
    assert read_content(tmp_path).files == 1


def test_devices_and_pipes_are_no_content(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="neither file nor directory"):
        read_content(tmp_path)


def test_large_files_need_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(24 << 20)
    tracemalloc.start()
    try:
        read_content(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


DIRECTORY_OF_KUBO = "bafybeiht6dtwk3les7vqm6ibpvz6qpohidvlshsfyr7l5mpysdw2vmbbhe"
