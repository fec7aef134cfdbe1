"""What up, status and down refuse, and what they clean, without a node."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dms.devnet import network
from dms.devnet.directory import MARKER
from dms.devnet.errors import DevnetNotFound
from dms.devnet.profile import PROFILE_FILE, BadProfile, NetworkProfile, NodeProfile, read_profile, write_profile
from dms.types.errors import BadInput


class Enough(Exception):
    """Raised in the place of the ports: so far up has come."""


def no_ports(_count: int) -> tuple[int, ...]:
    raise Enough


def left_behind(directory: Path) -> NetworkProfile:
    """A network of which only the files are left, as after a reboot."""
    config = directory / "node1" / "dms_config.json"
    (config.parent / "work" / "executors").mkdir(parents=True)
    node = NodeProfile(
        name="node1", rest_addr="127.0.0.1", rest_port=1, peer_id="12D3KooW", config=str(config), pid=2**22 + 1
    )
    profile = NetworkProfile(
        name="devnet", dir=str(directory), default_node="node1", nodes=(node,), user_dir=str(directory / "user")
    )
    write_profile(directory / PROFILE_FILE, profile)
    (directory / MARKER).touch()
    return profile


@pytest.mark.parametrize(("count", "providers"), [(0, 0), (51, 1), (3, 4), (3, -1)])
def test_networks_that_cannot_be(tmp_path: Path, count: int, providers: int) -> None:
    with pytest.raises(BadInput):
        network.up(tmp_path / "net", count, providers)
    assert not (tmp_path / "net").exists()


def test_a_directory_that_is_not_ours_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="not empty"):
        network.up(tmp_path, 1, 0, choose_ports=no_ports)
    with pytest.raises(DevnetNotFound):
        network.down(tmp_path)
    with pytest.raises(DevnetNotFound):
        network.status(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Enough):
        network.up(tmp_path / "net", 1, 0, choose_ports=no_ports)
    assert not (tmp_path / "net").exists()


def test_what_a_reboot_left_is_cleaned_by_the_next_start(tmp_path: Path) -> None:
    left_behind(tmp_path)
    seen: list[list[str]] = []

    def look(count: int) -> tuple[int, ...]:
        seen.append([path.name for path in tmp_path.iterdir()])
        raise Enough

    with pytest.raises(Enough):
        network.up(tmp_path, 1, 0, choose_ports=look)
    assert seen == [[MARKER]]


@pytest.mark.parametrize("profile", [b"{", b"", None], ids=["damaged", "empty", "missing"])
def test_a_damaged_profile_stands_in_nobodys_way(tmp_path: Path, profile: bytes | None) -> None:
    left_behind(tmp_path)
    if profile is None:
        (tmp_path / PROFILE_FILE).unlink()
    else:
        (tmp_path / PROFILE_FILE).write_bytes(profile)
        with pytest.raises(BadProfile):
            network.status(tmp_path)
    network.down(tmp_path)
    assert not tmp_path.exists()


def test_status_of_what_a_reboot_left(tmp_path: Path) -> None:
    profile = left_behind(tmp_path)
    assert network.status(tmp_path) == (network.NodeStatus(profile.nodes[0], None, is_answering=False, peers=0),)


def test_down_tells_what_it_did(tmp_path: Path) -> None:
    left_behind(tmp_path)
    said: list[str] = []
    network.down(tmp_path, say=said.append)
    assert said == ["stopped 0 nodes"]
    assert not tmp_path.exists()


def test_what_was_kept_stays(tmp_path: Path) -> None:
    left_behind(tmp_path)
    network.down(tmp_path, keep=True)
    assert (tmp_path / "node1").is_dir()
    with pytest.raises(DevnetNotFound):
        network.down(tmp_path)
    with pytest.raises(BadInput, match="not empty"):
        network.up(tmp_path, 1, 0, choose_ports=no_ports)
    assert (tmp_path / "node1").is_dir()


def test_a_profile_is_private_and_read_back(tmp_path: Path) -> None:
    profile = left_behind(tmp_path)
    assert read_profile(tmp_path / PROFILE_FILE) == profile
    assert (tmp_path / PROFILE_FILE).stat().st_mode & 0o777 == 0o600


def test_nodes_are_named_by_name_or_number(tmp_path: Path) -> None:
    profile = left_behind(tmp_path)
    assert profile.node(None) == profile.node("node1") == profile.node("1")
    with pytest.raises(BadInput, match="no node 2") as refusal:
        profile.node("2")
    assert refusal.value.hint == "its nodes are node1"


def test_a_passphrase_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    profile = left_behind(tmp_path)
    assert profile.passphrase() == ""
    lost = msgspec.structs.replace(profile, passphrase_file="/none")
    with pytest.raises(BadProfile, match="cannot read the passphrase"):
        lost.passphrase()
