"""What of the host a container may see."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dms.executor.docker.mounts import mount_config
from dms.executor.errors import InvalidEngineSpec
from dms.executor.protocol import Mount


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    (tmp_path / "volumes" / "a").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    return tmp_path / "volumes"


def refused(mount: Mount, reason: str, *granted: Path, **more: tuple[Path, ...]) -> None:
    with pytest.raises(InvalidEngineSpec, match=reason):
        mount_config([mount], granted=granted, **more)


def test_a_granted_directory_is_bound_privately_and_alone(volumes: Path) -> None:
    (made,) = mount_config([Mount(volumes / "a", "/data/./in/", read_only=True)], granted=[volumes])
    assert (made["Type"], made["Source"], made["Target"]) == ("bind", str(volumes / "a"), "/data/in")
    assert made["ReadOnly"] is True
    assert made["BindOptions"] == {"Propagation": "rprivate", "NonRecursive": True}


def test_a_link_in_a_volume_cannot_lead_out_of_it(volumes: Path) -> None:
    (volumes / "a" / "out").symlink_to(volumes.parent / "secret")
    (volumes / "a" / "up").symlink_to("../../secret")
    (volumes / "a" / "chain").symlink_to("up")
    (volumes / "a" / "loop").symlink_to("loop")
    for name, reason in (("out", "leads out"), ("up", "leads out"), ("chain", "leads out"), ("loop", "not exist")):
        refused(Mount(volumes / "a" / name, "/in"), reason, volumes)
    refused(Mount(volumes / "a" / ".." / ".." / "secret", "/in"), "not an absolute path", volumes)


def test_a_link_to_another_volume_is_not_followed_either(volumes: Path) -> None:
    (volumes / "b").mkdir()
    (volumes / "b" / "theirs").symlink_to(volumes / "a")
    (volumes / "c").symlink_to(volumes / "a")
    for name in ("b/theirs", "c"):
        refused(Mount(volumes / name, "/in"), "goes through a symbolic link", volumes)


def test_the_way_to_what_is_granted_may_go_through_links(volumes: Path, tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(tmp_path)
    (made,) = mount_config([Mount(tmp_path / "home/volumes/a", "/in")], granted=[tmp_path / "home/volumes"])
    assert made["Source"] == str(volumes / "a")


def test_what_is_granted_need_not_be_there_yet(volumes: Path, tmp_path: Path) -> None:
    assert mount_config([Mount(volumes / "a", "/in")], granted=[tmp_path / "later", volumes])


def test_where_nothing_is_granted_there_may_be_no_link_at_all(volumes: Path) -> None:
    (volumes / "b").symlink_to(volumes / "a")
    assert mount_config([Mount(volumes / "a", "/in")])
    refused(Mount(volumes / "b", "/in"), "symbolic link")


@pytest.mark.parametrize("source", ["/", "/proc", "/proc/1", "/sys", "/dev", "/etc", "/etc/passwd", "/boot"])
def test_places_of_the_system_are_never_shown(source: str) -> None:
    refused(Mount(Path(source), "/in"), "symbolic link|belongs to the system|does not exist|neither", Path("/"))


def test_the_engines_socket_and_our_own_state_are_never_shown(volumes: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(volumes / "a" / "s"))
    refused(Mount(volumes / "a" / "s", "/in"), "neither a directory nor a file", volumes)
    for place in (volumes / "a", volumes / "a" / "s"):
        refused(Mount(volumes / "a", "/in"), "would show what is not", volumes, private=(place,))
    refused(Mount(volumes / "a", "/in"), "would show what is not", volumes, private=(volumes,))


def test_nothing_inside_what_a_running_workload_can_write_is_mounted(volumes: Path) -> None:
    (volumes / "a" / "sub").mkdir()
    refused(Mount(volumes / "a" / "sub", "/in"), "can write", volumes, written=(volumes / "a",))
    assert mount_config([Mount(volumes / "a", "/in")], written=[volumes / "a"])  # shared as a whole


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("relative", "not absolute"),
        ("/a/../etc", "not a plain path"),
        ("/", "nothing can be mounted"),
        ("//", "nothing can be mounted"),
        ("/proc", "nothing can be mounted"),
        ("/sys/fs/cgroup", "nothing can be mounted"),
        ("/dev/shm", "nothing can be mounted"),
    ],
)
def test_targets_that_open_or_hide_the_system_are_refused(volumes: Path, target: str, reason: str) -> None:
    refused(Mount(volumes / "a", target), reason)


def test_two_mounts_in_one_place_are_a_mistake(volumes: Path) -> None:
    with pytest.raises(InvalidEngineSpec, match="two mounts"):
        mount_config([Mount(volumes / "a", "/in"), Mount(volumes / "a", "/in/")])
