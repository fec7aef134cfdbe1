from pathlib import Path

import pytest

from dms.hardware import disk
from dms.hardware.disk import existing_ancestor, read_disk
from dms.testing.machines import plant


def test_the_real_disk_is_told(tmp_path: Path) -> None:
    found = read_disk(tmp_path / "not" / "yet", Path("/"))
    assert found.path == str(tmp_path)
    assert 0 < found.free_bytes <= found.total_bytes
    assert found.file_system
    assert found.resource.size == found.total_bytes
    assert found.used_bytes == found.total_bytes - found.free_bytes


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("259:2", ("ext4", "SSD", "NVMe", "Samsung SSD 980 PRO 1TB", "")),
        ("253:1", ("xfs", "HDD", "SATA", "ST4000VN008-2DR1", "ATA")),
        ("0:45", ("nfs4", "network", "", "", "")),
        ("0:27", ("btrfs", "SSD", "NVMe", "Samsung SSD 980 PRO 1TB", "")),
        ("0:50", ("tmpfs", "memory", "", "", "")),
        ("8:1", ("", "", "", "", "")),
    ],
)
def test_the_device_beneath_a_file_system_is_found(tmp_path: Path, number: str, told: tuple[str, ...]) -> None:
    found = disk.describe(plant("disks", tmp_path), number)
    assert tuple(found.get(k, "") for k in ("file_system", "type", "interface", "model", "vendor")) == told


def test_devices_that_lie_upon_each_other_in_a_circle_are_followed_for_a_while(tmp_path: Path) -> None:
    block = tmp_path / "sys/devices/virtual/block/dm-0"
    (block / "slaves").mkdir(parents=True)
    (block / "slaves/dm-0").symlink_to("../../dm-0")
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/253:0").symlink_to("../../devices/virtual/block/dm-0")
    assert disk.describe(tmp_path, "253:0")["type"] == ""


def test_a_work_directory_that_does_not_exist_yet_lies_where_its_parent_does(tmp_path: Path) -> None:
    assert existing_ancestor(tmp_path / "a" / "b") == tmp_path
    assert existing_ancestor(tmp_path) == tmp_path
